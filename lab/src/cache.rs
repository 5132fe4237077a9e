//! The cache in the user's home: folders and files that are made once and kept.
//!
//! An entry is made under a temporary name while a lock is held, and renamed when it is complete. So an interrupted run leaves
//! nothing incomplete behind, and two runs at once do not make it twice.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::Result;
use crate::progress::Progress;

/// Returns the root folder of the cache: `bareverbs` in `$XDG_CACHE_HOME` or `~/.cache`.
pub fn root() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = match (set("XDG_CACHE_HOME").filter(|path| path.is_absolute()), set("HOME")) {
        (Some(cache), _) => cache,
        (None, Some(home)) => home.join(".cache"),
        (None, None) => return Err("no folder for the cache: set HOME or XDG_CACHE_HOME".into()),
    };
    Ok(base.join("bareverbs"))
}

/// Returns the path of `name` in the cache. If it does not exist, `make` creates it at a temporary path.
pub fn produce(name: &str, what: &str, make: impl FnOnce(&Path, &Progress) -> Result<()>) -> Result<PathBuf> {
    let root = root()?;
    let path = root.join(name);
    if path.exists() {
        return Ok(path);
    }
    let parent = path.parent().unwrap_or(&root);
    create(parent)?;
    let progress = Progress::start(what);
    let _lock = lock(&beside(&path, "lock"))?;
    if path.exists() {
        progress.done("made by another run");
        return Ok(path);
    }
    let unfinished = beside(&path, "unfinished");
    remove(&unfinished)?;
    make(&unfinished, &progress)?;
    fs::rename(&unfinished, &path).map_err(|error| format!("{}: {error}", path.display()))?;
    progress.done("done");
    Ok(path)
}

/// Appends an extension to a path.
pub fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// Waits for an exclusive lock on a file.
pub fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| format!("lock {}: {errno}", path.display()))
}

/// Creates a folder and its parents.
pub fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Returns a hash of the values, for names of entries that depend on them.
pub fn key(values: &impl std::hash::Hash) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    values.hash(&mut hasher);
    hasher.finish()
}
