//! Memory regions.

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{
    DeregMr, IB_USER_VERBS_CMD_DEREG_MR, IB_USER_VERBS_CMD_REG_MR, RegMr, RegMrResp, Sge,
};

impl Uverbs {
    /// Registers `length` bytes at `start` under the address `hca_va`; gives the handle and the keys.
    pub(crate) fn reg_mr(
        &self,
        pd_handle: u32,
        start: u64,
        length: u64,
        hca_va: u64,
        access_flags: u32,
    ) -> Result<RegMrResp> {
        let command = RegMr { response: 0, start, length, hca_va, pd_handle, access_flags };
        self.legacy(IB_USER_VERBS_CMD_REG_MR, &command, Udata::none()).map_err(|e| self.error("reg_mr", e))
    }

    /// Takes a region back: once this has succeeded, no device reaches the memory any more.
    pub(crate) fn dereg_mr(&self, mr_handle: u32) -> Result<(), Errno> {
        let request = ioctl::Request::new(abi::UVERBS_OBJECT_MR, abi::UVERBS_METHOD_MR_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_MR_HANDLE, mr_handle);
        match self.attributes(request) {
            Some(done) => done.map(drop),
            None => self.legacy(IB_USER_VERBS_CMD_DEREG_MR, &DeregMr { mr_handle }, Udata::none()),
        }
    }

    /// Has the pages of an on-demand region brought in for writing before they are needed.
    pub(crate) fn prefetch(&self, pd_handle: u32, part: Sge) -> Result<(), Errno> {
        let request = ioctl::Request::new(abi::UVERBS_OBJECT_MR, abi::UVERBS_METHOD_ADVISE_MR)
            .handle(abi::UVERBS_ATTR_ADVISE_MR_PD_HANDLE, pd_handle)
            .constant(
                abi::UVERBS_ATTR_ADVISE_MR_ADVICE,
                abi::IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE.into(),
            )
            .constant(abi::UVERBS_ATTR_ADVISE_MR_FLAGS, abi::IB_UVERBS_ADVISE_MR_FLAG_FLUSH.into())
            .input(abi::UVERBS_ATTR_ADVISE_MR_SGE_LIST, &part);
        // There is no legacy command; a kernel whose driver has no such call has no such method.
        self.attributes(request).unwrap_or(Err(Errno::EOPNOTSUPP)).map(drop)
    }
}
