//! The device node: found, checked, opened.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::device::DeviceInfo;
use crate::error::{Cause, Error, Result};
use crate::netlink::DeviceNumber;
use crate::sys::file::{char_device_number, open_char_device};

/// Where device nodes live.
const DEV: &str = "/dev";

/// A character device under /dev/infiniband.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) name: &'a str,
    pub(super) number: DeviceNumber,
    /// The module whose device it is.
    pub(super) module: &'static str,
}

impl Node<'_> {
    /// Opens it for reading and writing, closed on exec.
    pub(super) fn open(self) -> Result<OwnedFd> {
        open_in(Path::new(DEV), self)
    }
}

impl DeviceInfo {
    /// Opens its device node for reading and writing, closed on exec.
    ///
    /// The node is /dev/infiniband/uverbsN, or /dev/char/MAJOR:MINOR where that is absent; it must stand for the very
    /// device that was found.
    ///
    /// # Errors
    ///
    /// `NotFound`: the kernel gave the device no such file. `ENOENT`: no node (the hint is the command that makes it).
    /// `EACCES`, `EPERM`: not permitted. `ENXIO`, `ENODEV`: the node is there, the device behind it has gone.
    /// `BadAnswer`: the node stands for something else.
    ///
    /// Linux 2.6.14 and any later.
    pub fn open_node(&self) -> Result<OwnedFd> {
        self.node_or_error("open")?.open()
    }

    /// Looks whether its device node is there and stands for it, without opening it.
    ///
    /// # Errors
    ///
    /// As [`open_node`](Self::open_node), permissions aside.
    pub fn check_node(&self) -> Result<()> {
        check_in(Path::new(DEV), self.node_or_error("check node")?)
    }

    fn node_or_error(&self, operation: &'static str) -> Result<Node<'_>> {
        let node = self.uverbs.as_ref().map(|uverbs| Node {
            name: &uverbs.name,
            number: uverbs.number,
            module: "ib_uverbs",
        });
        node.ok_or_else(|| {
            Error::new(
                operation,
                self.name.as_str(),
                Cause::NotFound("the kernel has no uverbs character device for it".into()),
            )
            .with_hint("try: modprobe ib_uverbs")
        })
    }
}

fn open_in(dev: &Path, node: Node<'_>) -> Result<OwnedFd> {
    let path = usual_path(dev, node);
    let (fd, number) = match open_char_device(&path) {
        Ok(opened) => opened,
        // Where a device manager names things its own way, the numbers still find them.
        Err(Errno::ENOENT) => open_char_device(&path_by_number(dev, node))
            .map_err(|_| explain("open", &path, node, Errno::ENOENT))?,
        Err(errno) => {
            // Where nothing is behind the node, it may be one of another device, or of a number that was the device's once.
            if let (Errno::ENXIO | Errno::ENODEV, Ok(number)) = (errno, char_device_number(&path)) {
                matches("open", &path, node, number)?;
            }
            return Err(explain("open", &path, node, errno));
        }
    };
    matches("open", &path, node, number)?;
    Ok(fd)
}

fn check_in(dev: &Path, node: Node<'_>) -> Result<()> {
    const OPERATION: &str = "check node";
    let path = usual_path(dev, node);
    let number = match char_device_number(&path) {
        Ok(number) => number,
        Err(Errno::ENOENT) => char_device_number(&path_by_number(dev, node))
            .map_err(|_| explain(OPERATION, &path, node, Errno::ENOENT))?,
        Err(errno) => return Err(explain(OPERATION, &path, node, errno)),
    };
    matches(OPERATION, &path, node, number)
}

fn usual_path(dev: &Path, node: Node<'_>) -> PathBuf {
    dev.join("infiniband").join(node.name)
}

fn path_by_number(dev: &Path, node: Node<'_>) -> PathBuf {
    dev.join("char").join(node.number.to_string())
}

/// The node must stand for the device.
fn matches(operation: &'static str, path: &Path, node: Node<'_>, found: Option<libc::dev_t>) -> Result<()> {
    let why = match found.map(DeviceNumber::from_rdev) {
        Some(number) if number == node.number => return Ok(()),
        Some(number) => format!("the node is {number}, the kernel's {} is {}", node.name, node.number),
        None => "not a character device".to_owned(),
    };
    let error = Error::bad_answer(operation, path.display().to_string(), why);
    Err(error.with_hint(format!("make it anew: rm {} && {}", path.display(), mknod(path, node))))
}

/// An error with a hint at the likely fix.
fn explain(operation: &'static str, path: &Path, node: Node<'_>, errno: Errno) -> Error {
    let error = Error::os(operation, path.display().to_string(), errno);
    match errno {
        Errno::ENOENT => {
            let folder = path.parent().unwrap_or(path).display().to_string();
            error.with_hint(format!(
                "the kernel has the device as {}, its node is missing: mkdir -p {folder} && {}",
                node.number,
                mknod(path, node)
            ))
        }
        Errno::EACCES => error.with_hint(format!(
            "this user may not open the node (character device {}): see its owner and mode, and whether it is mounted with nodev",
            node.number
        )),
        Errno::EPERM => error.with_hint(format!(
            "a device policy (cgroup, container) forbids character device {}",
            node.number
        )),
        Errno::ENXIO | Errno::ENODEV => error.with_hint(format!(
            "no device is behind {}: it was removed, or {} was unloaded",
            node.number, node.module
        )),
        _ => error,
    }
}

/// The command that makes the node.
fn mknod(path: &Path, node: Node<'_>) -> String {
    let DeviceNumber { major, minor } = node.number;
    format!("mknod -m 666 {} c {major} {minor}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::testing::Folder;

    fn node(major: u32, minor: u32) -> Node<'static> {
        Node { name: "uverbs0", number: DeviceNumber { major, minor }, module: "ib_uverbs" }
    }

    #[test]
    fn a_missing_node_is_enoent_with_the_command_that_mends_it() {
        let dev = Folder::new("node-missing");
        for error in [
            open_in(dev.path(), node(231, 192)).unwrap_err(),
            check_in(dev.path(), node(231, 192)).unwrap_err(),
        ] {
            assert_eq!(error.errno(), Some(Errno::ENOENT));
            let hint = error.hint().unwrap();
            assert!(hint.contains("231:192") && hint.contains("uverbs0 c 231 192"), "{hint}");
        }
    }

    #[test]
    fn a_node_of_something_else_is_refused() {
        let dev = Folder::new("node-other");
        std::fs::create_dir(dev.path().join("infiniband")).unwrap();
        let path = dev.path().join("infiniband/uverbs0");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let error = open_in(dev.path(), node(231, 192)).unwrap_err();
        assert!(error.to_string().contains("the node is 1:3"), "{error}");
        // The right number, and it opens.
        open_in(dev.path(), node(1, 3)).unwrap();
        check_in(dev.path(), node(1, 3)).unwrap();

        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        let error = check_in(dev.path(), node(1, 3)).unwrap_err();
        assert!(error.to_string().contains("not a character device"), "{error}");
    }

    #[test]
    fn a_node_is_found_by_its_number() {
        let dev = Folder::new("node-number");
        std::fs::create_dir(dev.path().join("char")).unwrap();
        std::os::unix::fs::symlink("/dev/null", dev.path().join("char/1:3")).unwrap();
        open_in(dev.path(), node(1, 3)).unwrap();
        check_in(dev.path(), node(1, 3)).unwrap();
    }

    #[test]
    fn refusals_stay_apart() {
        let path = Path::new("/dev/infiniband/uverbs0");
        let texts: Vec<_> = [Errno::ENOENT, Errno::EACCES, Errno::EPERM, Errno::ENXIO]
            .map(|errno| explain("open", path, node(231, 192), errno).to_string())
            .into();
        for (n, text) in texts.iter().enumerate() {
            assert!(text.contains("231:192") && !texts[..n].contains(text), "{text}");
        }
    }
}
