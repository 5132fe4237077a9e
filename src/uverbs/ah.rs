//! Address handles.

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{AhAttr, CreateAh, DestroyAh};

impl Uverbs {
    /// Creates an address handle and returns the kernel's handle for it.
    pub(crate) fn create_ah(&self, pd_handle: u32, attr: AhAttr, driver: Udata<'_>) -> Result<u32> {
        let command = CreateAh { pd_handle, attr, ..CreateAh::default() };
        self.legacy(&command, driver).map(|answer| answer.ah_handle).map_err(|e| self.error("create_ah", e))
    }

    /// Destroys an address handle. Datagrams to it that have not left yet may be dropped.
    pub(crate) fn destroy_ah(&self, ah_handle: u32) -> Result<(), Errno> {
        let request = ioctl::Request::new(&ioctl::method::AH_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_AH_HANDLE, ah_handle);
        self.destroy(request, &DestroyAh { ah_handle })
    }
}
