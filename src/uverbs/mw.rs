//! Memory windows.

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{
    AllocMw, AllocMwResp, DeallocMw, IB_USER_VERBS_CMD_ALLOC_MW, IB_USER_VERBS_CMD_DEALLOC_MW,
};

impl Uverbs {
    /// Makes a window of a type (1 or 2) that is not bound to anything.
    pub(crate) fn alloc_mw(&self, pd_handle: u32, mw_type: u8) -> Result<AllocMwResp> {
        let command = AllocMw { pd_handle, mw_type, ..AllocMw::default() };
        self.legacy(IB_USER_VERBS_CMD_ALLOC_MW, &command, Udata::none())
            .map_err(|e| self.error("alloc_mw", e))
    }

    /// Unmakes a window.
    pub(crate) fn dealloc_mw(&self, mw_handle: u32) -> Result<(), Errno> {
        let request = ioctl::Request::new(abi::UVERBS_OBJECT_MW, abi::UVERBS_METHOD_MW_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_MW_HANDLE, mw_handle);
        match self.attributes(request) {
            Some(done) => done.map(drop),
            None => self.legacy(IB_USER_VERBS_CMD_DEALLOC_MW, &DeallocMw { mw_handle }, Udata::none()),
        }
    }
}
