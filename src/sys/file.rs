//! Small files and device nodes, at the price of as few system calls as they can be had for.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use libc::dev_t;
use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, fstat, stat};

use super::linux::open_device;

/// Reads a sysfs attribute: open, one read, close. The kernel gives a whole attribute (a page at most) at once.
pub(crate) fn read_attribute(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = [0; 4096];
    let mut file = File::open(path)?;
    let len = loop {
        match file.read(&mut bytes) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    Ok(bytes.get(..len).unwrap_or_default().to_vec())
}

/// What a node stands for, followed through symbolic links; nothing if it is no character device.
pub(crate) fn char_device_number(path: &Path) -> Result<Option<dev_t>, Errno> {
    stat(path).map(|s| number(&s))
}

/// Opens a node for reading and writing, closed on exec, and tells what it stands for.
///
/// The number is that of the file that was opened: another look at the path might see another file.
pub(crate) fn open_char_device(path: &Path) -> Result<(OwnedFd, Option<dev_t>), Errno> {
    let fd = open_device(path)?;
    let number = number(&fstat(&fd)?);
    Ok((fd, number))
}

fn number(stat: &FileStat) -> Option<dev_t> {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    (kind == SFlag::S_IFCHR).then_some(stat.st_rdev)
}
