//! Protection domains.

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{
    AllocPd, AllocPdResp, DeallocPd, IB_USER_VERBS_CMD_ALLOC_PD, IB_USER_VERBS_CMD_DEALLOC_PD,
};

impl Uverbs {
    /// Makes a protection domain; gives its handle.
    pub(crate) fn alloc_pd(&self, driver: Udata<'_>) -> Result<u32> {
        self.legacy(IB_USER_VERBS_CMD_ALLOC_PD, &AllocPd::default(), driver)
            .map(|answer: AllocPdResp| answer.pd_handle)
            .map_err(|e| self.error("alloc_pd", e))
    }

    /// Unmakes a protection domain that nothing uses any more.
    pub(crate) fn dealloc_pd(&self, pd_handle: u32) -> Result<(), Errno> {
        let request = ioctl::Request::new(abi::UVERBS_OBJECT_PD, abi::UVERBS_METHOD_PD_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_PD_HANDLE, pd_handle);
        match self.attributes(request) {
            Some(done) => done.map(drop),
            None => self.legacy(IB_USER_VERBS_CMD_DEALLOC_PD, &DeallocPd { pd_handle }, Udata::none()),
        }
    }
}
