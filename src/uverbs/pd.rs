//! Protection domains.

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{AllocPd, DeallocPd};

impl Uverbs {
    /// Creates a protection domain and returns its handle.
    pub(crate) fn alloc_pd(&self, driver: Udata<'_>) -> Result<u32> {
        self.legacy(&AllocPd::default(), driver)
            .map(|answer| answer.pd_handle)
            .map_err(|e| self.error("alloc_pd", e))
    }

    /// Destroys a protection domain that nothing uses any more.
    pub(crate) fn dealloc_pd(&self, pd_handle: u32) -> Result<(), Errno> {
        let request = ioctl::Request::new(&ioctl::method::PD_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_PD_HANDLE, pd_handle);
        self.destroy(request, &DeallocPd { pd_handle })
    }
}
