//! siw, software iWARP, which Debian's kernels lack: built as an external module from Debian's source of the same kernel.
//!
//! The headers' tools and flags belong to the compiler and the C library of their suite. So the build runs in a folder with exactly
//! those, with that folder as its root. It needs user namespaces, no root and no compiler of the host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{KERNEL_LINES, Suite, apt};
use crate::progress::Progress;
use crate::{Result, cache, process};

/// What the build uses besides the kernel's headers and source.
const TOOLS: [&str; 12] = [
    "binutils",
    "coreutils",
    "dash",
    "diffutils",
    "findutils",
    "gcc",
    "grep",
    "make",
    "mawk",
    "sed",
    "tar",
    "xz-utils",
];

/// Packages that the headers' dependencies name and the build does not use.
const UNUSED: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];

/// The module's folder in the kernel's source.
const SOURCE: &str = "drivers/infiniband/sw/siw";

/// Where the build runs in its root.
const BUILD: &str = "build";

/// The arguments of `unshare` for a private root directory without privileges.
const NAMESPACES: [&str; 3] = ["--user", "--map-root-user", "--mount"];

/// Runs in the new namespaces. `$1` is the root, `$2` the script to run in it.
const ENTER: &str = "mount --rbind /proc \"$1/proc\" && mount --bind /dev/null \"$1/dev/null\" && exec chroot \"$1\" /bin/sh -c \"$2\"";

/// Returns the folder with `siw.ko` for a kernel line, whose modules have this release.
pub fn siw(line: &str, suite: Suite, release: &str) -> Result<PathBuf> {
    cache::produce(&entry(release), &format!("module siw for {release}"), |folder, progress| {
        let root = cache::beside(folder, "root");
        // Left by an interrupted run.
        let _ = fs::remove_dir_all(&root);
        let built = build(line, suite, release, &root, progress).and_then(|module| {
            cache::create(folder)?;
            let to = folder.join("siw.ko");
            fs::copy(&module, &to).map(drop).map_err(|error| format!("{}: {error}", module.display()))
        });
        let _ = fs::remove_dir_all(&root);
        built.map_err(|error| format!("module siw for {release}: {error}"))
    })
}

/// Checks that the module is in the cache for these kernel lines, or that it can be built.
///
/// # Errors
/// Names what is missing, and the command that installs it.
pub fn obtainable<'l>(lines: impl IntoIterator<Item = &'l str>) -> Result<()> {
    let packages = cache::root()?.join("packages");
    let cached = |line: &str| {
        let releases = fs::read_dir(&packages).into_iter().flatten().flatten();
        releases.map(|entry| entry.file_name()).any(|name| {
            let release = name.to_str().and_then(|name| name.strip_prefix("siw-")).unwrap_or_default();
            release.strip_prefix(line).is_some_and(|rest| rest.starts_with('.'))
                && packages.join(&name).join("siw.ko").is_file()
        })
    };
    if lines.into_iter().filter(|line| KERNEL_LINES.iter().any(|(known, _)| known == line)).all(cached) {
        return Ok(());
    }
    apt::require()?;
    namespaces()
}

fn entry(release: &str) -> String {
    format!("packages/siw-{release}")
}

/// Checks that a process without privileges can have a root of its own.
fn namespaces() -> Result<()> {
    let mut command = Command::new("unshare");
    process::output(command.args(NAMESPACES).arg("true")).map(drop).map_err(|error| {
        format!(
            "siw is built with its kernel's own gcc in a user namespace, which this machine refuses ({error}): install \
             util-linux, and allow it by sysctl kernel.unprivileged_userns_clone=1 or, on Ubuntu, \
             kernel.apparmor_restrict_unprivileged_userns=0; a container needs CAP_SYS_ADMIN"
        )
    })
}

/// Builds the module in `root` and returns its path.
fn build(line: &str, suite: Suite, release: &str, root: &Path, progress: &Progress) -> Result<PathBuf> {
    namespaces()?;
    let (headers, source) = (format!("linux-headers-{release}"), format!("linux-source-{line}"));
    let packages: Vec<&str> = TOOLS.into_iter().chain([headers.as_str(), source.as_str()]).collect();
    let used = |name: &str| !UNUSED.iter().any(|unused| name.starts_with(unused));
    apt::fetch(suite, &packages, used, root, progress)?;
    complete(root).map_err(|error| format!("{}: {error}", root.display()))?;

    progress.at("compiling");
    let script = format!(
        "set -e; tar -C /{BUILD} --strip-components=1 -xf /usr/src/{source}.tar.xz {source}/{SOURCE}; cd /{BUILD}/{SOURCE}; \
         make -C /usr/src/{headers} M=/{BUILD}/{SOURCE} CONFIG_RDMA_SIW=m modules; strip -g siw.ko"
    );
    let mut command = Command::new("unshare");
    command.args(NAMESPACES).args(["sh", "-c", ENTER, "sh"]).arg(root).arg(script);
    // The host's settings are not those of the root.
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    process::output(&mut command)?;
    Ok(root.join(BUILD).join(SOURCE).join("siw.ko"))
}

/// Adds what the packages' installation scripts would have added.
fn complete(root: &Path) -> std::io::Result<()> {
    let link = |target: &str, name: &str| {
        let path = root.join(name);
        if path.symlink_metadata().is_ok() { Ok(()) } else { symlink(target, path) }
    };
    for folder in ["bin", "sbin", "lib", "lib64"] {
        link(&format!("usr/{folder}"), folder)?;
    }
    link("dash", "bin/sh")?;
    link("mawk", "usr/bin/awk")?;
    for folder in [BUILD, "dev", "proc", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("dev/null"), "")
}
