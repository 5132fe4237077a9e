//! The kernel's commands, one file per kernel object, in every encoding that a kernel may take.
//!
//! A command travels as attributes of `RDMA_VERBS_IOCTL` ([`ioctl`]), as a legacy command inside that ioctl, or as a legacy
//! command by `write()` ([`write`](mod@write)). [`Uverbs`] is the open device and remembers what its kernel refused.
//!
//! Safe code cannot hand an arbitrary address to the kernel: the methods and their outputs are listed in [`ioctl`], the legacy
//! commands without an address in [`command`], and a driver's structure is [`Plain`] or sent by an unsafe function.

mod ah;
mod command;
pub(crate) mod cq;
pub(crate) mod device;
mod doorbell;
pub(crate) mod event;
#[cfg(test)]
mod golden_tests;
mod ioctl;
mod mcast;
pub(crate) mod mr;
pub(crate) mod mw;
pub(crate) mod pd;
pub(crate) mod qp;
pub(crate) mod srq;
mod udata;
mod write;
mod xrcd;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

#[allow(unused_imports)] // drivers that take a request of their own without addresses implement it
pub(crate) use self::udata::Plain;
pub(crate) use self::udata::Udata;
use crate::error::{Error, Result};
use nix::errno::Errno;

/// How commands are sent to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// Ioctl attributes first, legacy commands inside the ioctl where there are none, `write()` where the kernel has no ioctl.
    #[default]
    Auto,
    /// The ioctl alone, doorbells included.
    Ioctl,
    /// `write()` alone.
    Write,
}

impl std::str::FromStr for Encoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "ioctl" => Ok(Self::Ioctl),
            "write" => Ok(Self::Write),
            _ => Err(Error::invalid("parse encoding", text, "expected one of auto, ioctl, write")),
        }
    }
}

/// An open uverbs device: the file that takes every command of a context.
#[derive(Debug)]
pub(crate) struct Uverbs {
    fd: OwnedFd,
    driver: u32,
    device: String,
    encoding: Encoding,
    no_ioctl: AtomicBool,
    no_write: AtomicBool,
}

impl Uverbs {
    /// `fd` is an open uverbs device of the driver `driver` (`RDMA_DRIVER_*`); `device` names it in errors.
    pub(crate) fn new(fd: OwnedFd, driver: u32, device: String, encoding: Encoding) -> Self {
        Self {
            fd,
            driver,
            device,
            encoding,
            no_ioctl: AtomicBool::new(encoding == Encoding::Write),
            no_write: AtomicBool::new(encoding == Encoding::Ioctl),
        }
    }

    /// The driver's id (`RDMA_DRIVER_*`).
    pub(crate) fn driver(&self) -> u32 {
        self.driver
    }

    /// The name of the device, for errors.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// The error of `operation` on this device.
    pub(crate) fn error(&self, operation: &'static str, errno: Errno) -> Error {
        let error = Error::os(operation, self.device.as_str(), errno);
        match errno {
            Errno::ENODEV | Errno::EIO => error.with_hint("the device was removed or its driver reset it"),
            _ => error,
        }
    }

    /// Tries ioctl attributes; `None` where this kernel does not take them for this command.
    fn attributes(&self, request: ioctl::Request<'_>) -> Option<Result<ioctl::Answer, Errno>> {
        if self.no_ioctl.load(Ordering::Relaxed) {
            return None;
        }
        match request.send(self.fd.as_fd(), self.driver) {
            Err(Errno::ENOTTY) if self.encoding == Encoding::Auto => {
                self.no_ioctl.store(true, Ordering::Relaxed);
                None
            }
            // A kernel that has the ioctl but not this method answers so; the legacy command remains.
            Err(Errno::EPROTONOSUPPORT) => None,
            answer => Some(answer),
        }
    }
}

impl AsFd for Uverbs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_named() {
        assert_eq!("write".parse::<Encoding>().ok(), Some(Encoding::Write));
        let text = "mmap".parse::<Encoding>().map_err(|e| e.to_string());
        assert_eq!(text, Err("parse encoding on mmap: expected one of auto, ioctl, write".to_owned()));
    }
}
