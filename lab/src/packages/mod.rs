//! Packages of Debian's archive: kernels, QEMU, the C tools, the kernel's headers.
//!
//! Each set of packages is a folder in the cache, fetched and unpacked once by [`apt`]. It needs no root and installs nothing
//! on the host. A cached set is not updated; remove its folder to fetch it again.

pub mod apt;
pub mod module;

use std::path::PathBuf;

use crate::{Result, cache};

/// A suite of the archive.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// Its name.
    pub name: &'static str,
    /// The suite that backports depend on.
    pub base: Option<&'static str>,
}

const BOOKWORM: Suite = Suite { name: "bookworm", base: None };
const TRIXIE: Suite = Suite { name: "trixie", base: None };
const BACKPORTS: Suite = Suite { name: "trixie-backports", base: Some("trixie") };

/// The kernel lines that are available.
pub const KERNEL_LINES: [(&str, Suite); 3] = [("6.1", BOOKWORM), ("6.12", TRIXIE), ("7.3", BACKPORTS)];

/// Sets of kernel headers, oldest first.
pub const HEADER_SETS: [(&str, Suite); 2] = [("6.1", BOOKWORM), ("7.3", BACKPORTS)];

/// The packages of the C tools' image.
const C_TOOLS: [&str; 7] =
    ["ibverbs-utils", "rdmacm-utils", "ibverbs-providers", "perftest", "strace", "valgrind", "iproute2"];

/// Returns the folder with a kernel line's image and modules.
pub fn kernel(line: &str, suite: Suite) -> Result<PathBuf> {
    let parts = ["linux-image-", "linux-binary-", "linux-modules-"];
    // The metapackage depends on the current kernel, whose packages are recognised by their names.
    unpacked(
        &format!("kernel-{line}"),
        &format!("kernel {line} from {}", suite.name),
        suite,
        &["linux-image-amd64"],
        |name| parts.iter().any(|part| name.starts_with(part)),
    )
}

/// Returns the folder with QEMU and its libraries.
pub fn qemu() -> Result<PathBuf> {
    unpacked("qemu", "QEMU", BACKPORTS, &["qemu-system-x86"], |_| true)
}

/// Returns the folder with the C tools and their libraries.
pub fn c_tools() -> Result<PathBuf> {
    unpacked("c-tools", "C tools", BOOKWORM, &C_TOOLS, |_| true)
}

/// Returns the folder with libibverbs, the C library and their headers, to compile C programs for a guest.
pub fn c_development() -> Result<PathBuf> {
    unpacked("c-development", "C headers and libraries", BOOKWORM, &["libibverbs-dev", "libc6-dev"], |_| true)
}

/// The folder with a C compiler, for hosts that have none. Its C library is the host's.
pub fn compiler() -> Result<PathBuf> {
    unpacked("c-compiler", "C compiler", BOOKWORM, &["gcc"], |name| name != "libc6")
}

/// Checks that everything here is in the cache already, or that the host has what it takes to fetch it.
///
/// # Errors
/// Names what is missing, and the command that installs it.
pub fn obtainable() -> Result<()> {
    let root = cache::root()?.join("packages");
    let kernels = KERNEL_LINES.iter().map(|(line, _)| format!("kernel-{line}"));
    let headers = HEADER_SETS.iter().map(|(_, suite)| format!("headers-{}", suite.name));
    let others = ["qemu", "c-tools", "c-development"].map(String::from);
    if kernels.chain(headers).chain(others).all(|folder| root.join(folder).exists()) {
        return Ok(());
    }
    apt::require()
}

/// The folder with a suite's kernel headers.
pub fn headers(suite: Suite) -> Result<PathBuf> {
    let name = format!("headers-{}", suite.name);
    unpacked(&name, &format!("kernel headers of {}", suite.name), suite, &["linux-libc-dev"], |name| {
        name == "linux-libc-dev"
    })
}

fn unpacked(
    folder: &str,
    what: &str,
    suite: Suite,
    packages: &[&str],
    keep: impl Fn(&str) -> bool,
) -> Result<PathBuf> {
    cache::produce(&format!("packages/{folder}"), what, |root, progress| {
        apt::fetch(suite, packages, keep, root, progress).map_err(|error| format!("{what}: {error}"))
    })
}
