//! What judges the emulator itself: stock drivers, rdma-core's tools, perftest and the verbs checker. Nothing of bareverbs but the
//! emulator takes part, so they are left out while the emulator and the kernel are those of their last pass.

mod cards;
mod mlx4;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

pub(super) use cards::suite as cards;
pub(super) use mlx4::{CHECKER_PORT, REQUIRED, good_verdict, suite as mlx4};

use super::{Arguments, Part, Work};
use crate::tally::Tally;
use crate::vm::{Kernel, Vm};
use crate::{Result, cache, process};

/// What the verdict depends on, beside the kernel and the packages. `Cargo.lock` has the versions of the emulator's dependencies.
const SOURCES: [&str; 3] = ["emulator", "Cargo.lock", "xtask/src/commands/test/judges"];

/// One run of judges on one kernel, and the mark that it leaves in the cache when it passes.
#[derive(Debug, Clone)]
pub(super) struct Judges {
    mark: PathBuf,
    due: bool,
    whole: bool,
}

impl Judges {
    /// Judges of this name on a kernel. They are due if they are asked for by name, with `--full`, or if their mark is not there.
    pub(super) fn new(arguments: &Arguments, part: Part, name: &str, kernel: &Kernel) -> Result<Self> {
        let mark = cache::root()?.join(format!("passed/{name}-{:016x}", fingerprint(kernel)?));
        let asked = arguments.full || arguments.names_part(part) || arguments.filter.is_some();
        Ok(Self { due: asked || !mark.exists(), mark, whole: arguments.filter.is_none() })
    }

    /// Whether they have to run.
    pub(super) fn due(&self) -> bool {
        self.due
    }

    /// What is said of judges that do not run.
    pub(super) fn why_left_out(&self, place: &str) -> String {
        format!("{place}: passed before with this emulator and this kernel; --full runs it again")
    }

    /// Leaves the mark if all of them passed.
    pub(super) fn record(&self, tally: &Tally) -> Result<()> {
        if !self.due || !self.whole || !tally.good() || tally.is_empty() {
            return Ok(());
        }
        self.mark.parent().map_or(Ok(()), cache::create)?;
        fs::write(&self.mark, tally.to_string()).map_err(|error| format!("{}: {error}", self.mark.display()))
    }

    /// The work of running them, or of saying why they do not run.
    fn work<'a>(self, place: String, what: &str, run: impl FnOnce(&str) -> Tally + Send + 'a) -> Work<'a> {
        if !self.due {
            let why = self.why_left_out(&place);
            return Work::new(place, "left out", move || {
                let mut tally = Tally::default();
                tally.leave_out(why);
                Ok(tally)
            });
        }
        Work::new(place.clone(), what, move || {
            let tally = run(&place);
            self.record(&tally)?;
            Ok(tally)
        })
    }
}

/// A number that differs when the emulator, the judges, the kernel, QEMU or the C tools do.
fn fingerprint(kernel: &Kernel) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        hash(&process::checkout().join(source), &mut hasher)?;
    }
    Vm::new(kernel.clone()).c_tools(true).identity()?.hash(&mut hasher);
    Ok(hasher.finish())
}

/// Adds a file, or every file of a folder by name and content.
fn hash(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    path.file_name().hash(hasher);
    if !path.is_dir() {
        fs::read(path).map_err(failed)?.hash(hasher);
        return Ok(());
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(path).map_err(failed)?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.iter().try_for_each(|entry| hash(entry, hasher))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("bareverbs-judges-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("src")).unwrap();
        fs::write(path.join("src/a.rs"), "a").unwrap();
        path
    }

    fn of(path: &Path) -> u64 {
        let mut hasher = DefaultHasher::new();
        hash(path, &mut hasher).unwrap();
        hasher.finish()
    }

    #[test]
    fn any_change_of_a_source_changes_the_fingerprint() {
        let path = folder("hash");
        let before = of(&path);
        assert_eq!(of(&path), before);
        fs::write(path.join("src/a.rs"), "b").unwrap();
        let changed = of(&path);
        assert_ne!(changed, before);
        fs::rename(path.join("src/a.rs"), path.join("src/b.rs")).unwrap();
        assert_ne!(of(&path), changed);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn only_a_whole_pass_leaves_a_mark() {
        let path = folder("mark");
        let mark = path.join("passed/one");
        let judges = |due, whole| Judges { mark: mark.clone(), due, whole };
        let mut good = Tally::default();
        good.pass(1);
        let mut bad = Tally::default();
        bad.fail("on purpose");
        for (judges, tally) in [
            (judges(true, true), &bad),
            (judges(true, true), &Tally::default()),
            (judges(true, false), &good),
            (judges(false, true), &good),
        ] {
            judges.record(tally).unwrap();
            assert!(!mark.exists());
        }
        judges(true, true).record(&good).unwrap();
        assert!(mark.exists());
        fs::remove_dir_all(path).unwrap();
    }
}
