//! XRC domains.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{CloseXrcd, OpenXrcd};

impl Uverbs {
    /// Opens the domain that a file stands for, or a private one, and returns its handle. `oflags` are those of `open(2)`.
    pub(crate) fn open_xrcd(
        &self,
        file: Option<BorrowedFd<'_>>,
        oflags: i32,
        driver: Udata<'_>,
    ) -> Result<u32> {
        let fd = file.map_or(-1, |file| file.as_raw_fd());
        let command = OpenXrcd { fd: fd as u32, oflags: oflags as u32, ..OpenXrcd::default() };
        self.legacy(&command, driver).map(|answer| answer.xrcd_handle).map_err(|e| self.error("open_xrcd", e))
    }

    /// Closes a domain that nothing uses any more.
    pub(crate) fn close_xrcd(&self, xrcd_handle: u32) -> Result<(), Errno> {
        let request = ioctl::Request::new(&ioctl::method::XRCD_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_XRCD_HANDLE, xrcd_handle);
        self.destroy(request, &CloseXrcd { xrcd_handle })
    }
}
