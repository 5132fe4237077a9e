//! The guest's initramfs: cpio archives that the kernel unpacks one over the other.
//!
//! The large ones (a kernel's modules, the C tools) are cached. One with the init, the boot file and the caller's files is
//! written for each run.

pub mod cpio;
pub mod elf;
pub mod libraries;
pub mod modules;
pub mod tools;
pub mod vmlinux;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::Result;

/// Reads a file of the host; the error names it.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Returns the permission bits of a file of the host.
pub fn mode(path: &Path) -> Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    let data = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(data.permissions().mode() & 0o777)
}

/// Returns what identifies a version of a file, for cache keys.
pub fn identity(path: &Path) -> Result<(PathBuf, u64, Option<SystemTime>)> {
    let data = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((path.to_owned(), data.len(), data.modified().ok()))
}

/// Checks that a guest can start a program, before it boots.
pub fn check_program(path: &Path, has_loader: bool) -> Result<()> {
    let bytes = read(path)?;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(format!(
            "{}: not a program (the guest has no shell and no interpreters)",
            path.display()
        ));
    }
    let elf = elf::Elf::parse(&path.display().to_string(), &bytes)?;
    if !elf.is_x86_64() {
        return Err(format!("{}: not for x86_64, which the guests are", path.display()));
    }
    if elf.has_interpreter() && !has_loader {
        return Err(format!(
            "{}: dynamically linked; build it for x86_64-unknown-linux-musl (or add --c-tools for Debian 12's C library)",
            path.display()
        ));
    }
    Ok(())
}
