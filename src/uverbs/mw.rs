//! Memory windows.

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{AllocMw, AllocMwResp, DeallocMw};

impl Uverbs {
    /// Creates a window of a type (1 or 2) that is not bound to anything.
    pub(crate) fn alloc_mw(&self, pd_handle: u32, mw_type: u8) -> Result<AllocMwResp> {
        let command = AllocMw { pd_handle, mw_type, ..AllocMw::default() };
        self.legacy(&command, Udata::none()).map_err(|e| self.error("alloc_mw", e))
    }

    /// Destroys a window.
    pub(crate) fn dealloc_mw(&self, mw_handle: u32) -> Result<(), Errno> {
        let request = ioctl::Request::new(&ioctl::method::MW_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_MW_HANDLE, mw_handle);
        self.destroy(request, &DeallocMw { mw_handle })
    }
}
