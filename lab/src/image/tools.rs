//! The archive of the C tools: programs, the libraries they link to, and the plugins they load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::cpio::Archive;
use super::elf::Elf;
use crate::{Result, cache, packages};

/// The programs, by the name under which a guest's PATH finds them.
pub const PROGRAMS: &[&str] = &[
    "ibv_asyncwatch",
    "ibv_devices",
    "ibv_devinfo",
    "ibv_rc_pingpong",
    "ibv_srq_pingpong",
    "ibv_uc_pingpong",
    "ibv_ud_pingpong",
    "ibv_xsrq_pingpong",
    "cmtime",
    "mckey",
    "rdma_client",
    "rdma_server",
    "rdma_xclient",
    "rdma_xserver",
    "rping",
    "rstream",
    "ucmatose",
    "udaddy",
    "udpong",
    "ib_send_bw",
    "ib_send_lat",
    "ib_write_bw",
    "ib_write_lat",
    "ib_read_bw",
    "ib_read_lat",
    "ib_atomic_bw",
    "ib_atomic_lat",
    "strace",
    "valgrind",
    "ip",
    "rdma",
    "ss",
];

/// Plugins: a folder, and the prefixes of the files to take from it.
const PLUGINS: &[(&str, &[&str])] = &[
    // All providers, as an installation has them: libibverbs opens each, which is part of its cost.
    ("usr/lib/x86_64-linux-gnu/libibverbs", &["lib"]),
    ("etc/libibverbs.d", &[""]),
    (
        "usr/libexec/valgrind",
        &[
            "callgrind-amd64",
            "vgpreload_core-amd64",
            "default.supp",
            "memcheck-amd64",
            "vgpreload_memcheck-amd64",
        ],
    ),
];

const LIBRARIES: [&str; 4] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64"];
const LOADER: &str = "ld-linux-x86-64.so.2";
const FOLDERS: [&str; 4] = ["usr/bin", "bin", "usr/sbin", "sbin"];

/// Incremented whenever the content of the archive changes.
const VERSION: u32 = 4;

/// Returns the path of the archive, and makes it if it is not cached.
pub fn archive() -> Result<PathBuf> {
    let root = packages::c_tools()?;
    cache::produce(&format!("images/c-tools-{VERSION}.cpio"), "C tools' image", |path, _| {
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let failed = |error| format!("{}: {error}", path.display());
        let mut archive = Archive::new(BufWriter::new(file));
        for (target, source) in &collect(&root)?.files {
            let mode = fs::metadata(source).map_err(failed)?.permissions().mode() & 0o777;
            archive.file(target, mode, &super::read(source)?).map_err(failed)?;
        }
        archive.finish().map(drop).map_err(failed)
    })
}

/// Returns the size in bytes of a C program and the libraries it links to, without plugins.
pub fn closure_size(program: &str) -> Result<u64> {
    let root = packages::c_tools()?;
    let mut collection = Collection { root: &root, files: BTreeMap::new(), seen: BTreeSet::new() };
    collection.program(program)?;
    Ok(collection.files.values().filter_map(|path| fs::metadata(path).ok()).map(|data| data.len()).sum())
}

struct Collection<'root> {
    root: &'root Path,
    /// Each file's path in the guest and on the host.
    files: BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
}

fn collect(root: &Path) -> Result<Collection<'_>> {
    let mut collection = Collection { root, files: BTreeMap::new(), seen: BTreeSet::new() };
    for program in PROGRAMS {
        collection.program(program)?;
    }
    for (folder, beginnings) in PLUGINS {
        let path = root.join(folder);
        let entries = fs::read_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if beginnings.iter().any(|beginning| name.starts_with(beginning)) {
                collection.add(&format!("/{folder}/{name}"), entry.path())?;
            }
        }
    }
    // No C tool links to it, but every dynamically linked Rust program does.
    collection.library("libgcc_s.so.1", "image")?;
    collection.loader_symbols()?;
    Ok(collection)
}

impl Collection<'_> {
    fn program(&mut self, name: &str) -> Result<()> {
        // Debian wraps valgrind in a shell script, and a guest has no shell.
        let file = if name == "valgrind" { "valgrind.bin" } else { name };
        let found = FOLDERS.iter().map(|folder| self.root.join(folder).join(file)).find(|path| path.exists());
        let path =
            found.ok_or_else(|| format!("{name}: not in the packages under {}", self.root.display()))?;
        self.add(&format!("/usr/bin/{name}"), path)
    }

    /// Adds a file and, if it is a program or a library, what it links to.
    fn add(&mut self, target: &str, path: PathBuf) -> Result<()> {
        // A symbolic link may point into another package; the guest needs the content.
        let path = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
        let bytes = super::read(&path)?;
        self.files.insert(target.to_owned(), path.clone());
        if !bytes.starts_with(b"\x7fELF") {
            return Ok(());
        }
        let name = path.display().to_string();
        for library in Elf::parse(&name, &bytes)?.needed(&name)? {
            self.library(&library, &name)?;
        }
        Ok(())
    }

    /// Adds a library and what it links to, once.
    fn library(&mut self, library: &str, user: &str) -> Result<()> {
        if !self.seen.insert(library.to_owned()) {
            return Ok(());
        }
        let found =
            LIBRARIES.iter().map(|folder| self.root.join(folder).join(library)).find(|path| path.exists());
        let source = found.ok_or_else(|| format!("{user}: its library {library} is in no package"))?;
        let folder = if library == LOADER { "usr/lib64" } else { LIBRARIES[0] };
        self.add(&format!("/{folder}/{library}"), source)
    }

    /// Valgrind does not start a dynamically linked program without the loader's debug symbols.
    fn loader_symbols(&mut self) -> Result<()> {
        let target = format!("/usr/lib64/{LOADER}");
        let loader = self.files.get(&target).ok_or("the C tools link to no loader")?.clone();
        let bytes = super::read(&loader)?;
        let id = Elf::parse(LOADER, &bytes)?.build_id().ok_or_else(|| format!("{LOADER} has no build id"))?;
        let file = format!("usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]);
        self.add(&format!("/{file}"), self.root.join(&file))
    }
}
