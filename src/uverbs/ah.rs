//! Address handles.

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{
    AhAttr, CreateAh, CreateAhResp, DestroyAh, IB_USER_VERBS_CMD_CREATE_AH, IB_USER_VERBS_CMD_DESTROY_AH,
};

impl Uverbs {
    /// Makes an address handle; gives the kernel's handle on it.
    pub(crate) fn create_ah(&self, pd_handle: u32, attr: AhAttr, driver: Udata<'_>) -> Result<u32> {
        let command = CreateAh { pd_handle, attr, ..CreateAh::default() };
        self.legacy(IB_USER_VERBS_CMD_CREATE_AH, &command, driver)
            .map(|answer: CreateAhResp| answer.ah_handle)
            .map_err(|e| self.error("create_ah", e))
    }

    /// Unmakes an address handle. Datagrams to it that have not left yet may be dropped.
    pub(crate) fn destroy_ah(&self, ah_handle: u32) -> Result<(), Errno> {
        let request = ioctl::Request::new(abi::UVERBS_OBJECT_AH, abi::UVERBS_METHOD_AH_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_AH_HANDLE, ah_handle);
        match self.attributes(request) {
            Some(done) => done.map(drop),
            None => self.legacy(IB_USER_VERBS_CMD_DESTROY_AH, &DestroyAh { ah_handle }, Udata::none()),
        }
    }
}
