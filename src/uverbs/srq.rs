//! Shared receive queues.

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{
    CreateSrq, CreateSrqResp, CreateXsrq, DestroySrq, DestroySrqResp, ModifySrq, QuerySrq, QuerySrqResp,
};

/// Which fields of [`ModifySrq`] count (`enum ib_srq_attr_mask`).
pub(crate) const SRQ_MAX_WR: u32 = 1;
pub(crate) const SRQ_LIMIT: u32 = 2;

/// The parameters of `CREATE_SRQ`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SrqParams {
    pub(crate) pd_handle: u32,
    pub(crate) max_wr: u32,
    pub(crate) max_sge: u32,
    pub(crate) srq_limit: u32,
    /// For an XRC queue.
    pub(crate) xrc: Option<Xrc>,
    /// What events of this queue carry.
    pub(crate) user_handle: u64,
}

/// The XRC domain and the completion queue of an XRC queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Xrc {
    pub(crate) xrcd_handle: u32,
    pub(crate) cq_handle: u32,
}

/// The kernel's answer to `CREATE_SRQ`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SrqAnswer {
    pub(crate) handle: u32,
    /// At least what was asked for.
    pub(crate) max_wr: u32,
    pub(crate) max_sge: u32,
    /// The number by which peers name an XRC queue; 0 for others.
    pub(crate) srq_num: u32,
}

impl Uverbs {
    /// Creates a shared receive queue.
    pub(crate) fn create_srq(&self, init: &SrqParams, mut driver: Udata<'_>) -> Result<SrqAnswer> {
        let (mut max_wr, mut max_sge, mut srq_num) = (0u32, 0u32, 0u32);
        let srq_type = if init.xrc.is_some() { abi::IB_UVERBS_SRQT_XRC } else { abi::IB_UVERBS_SRQT_BASIC };
        let mut request = ioctl::Request::new(&ioctl::method::SRQ_CREATE)
            .new_handle(abi::UVERBS_ATTR_CREATE_SRQ_HANDLE)
            .handle(abi::UVERBS_ATTR_CREATE_SRQ_PD_HANDLE, init.pd_handle)
            .input(abi::UVERBS_ATTR_CREATE_SRQ_USER_HANDLE, &init.user_handle)
            .input(abi::UVERBS_ATTR_CREATE_SRQ_MAX_WR, &init.max_wr)
            .input(abi::UVERBS_ATTR_CREATE_SRQ_MAX_SGE, &init.max_sge)
            .input(abi::UVERBS_ATTR_CREATE_SRQ_LIMIT, &init.srq_limit)
            .constant(abi::UVERBS_ATTR_CREATE_SRQ_TYPE, srq_type.into())
            .output(abi::UVERBS_ATTR_CREATE_SRQ_RESP_MAX_WR, &mut max_wr)
            .output(abi::UVERBS_ATTR_CREATE_SRQ_RESP_MAX_SGE, &mut max_sge)
            .udata(&mut driver);
        if let Some(xrc) = init.xrc {
            request = request
                .handle(abi::UVERBS_ATTR_CREATE_SRQ_XRCD_HANDLE, xrc.xrcd_handle)
                .handle(abi::UVERBS_ATTR_CREATE_SRQ_CQ_HANDLE, xrc.cq_handle)
                .output(abi::UVERBS_ATTR_CREATE_SRQ_RESP_SRQ_NUM, &mut srq_num);
        }
        let made = match self.attributes(request) {
            Some(done) => done
                .and_then(|done| done.handle(abi::UVERBS_ATTR_CREATE_SRQ_HANDLE))
                .map(|handle| SrqAnswer { handle, max_wr, max_sge, srq_num }),
            None => self.create_srq_legacy(init, driver),
        };
        made.map_err(|e| self.error("create_srq", e))
    }

    fn create_srq_legacy(&self, init: &SrqParams, driver: Udata<'_>) -> Result<SrqAnswer, Errno> {
        let SrqParams { pd_handle, max_wr, max_sge, srq_limit, xrc, user_handle } = *init;
        let answer: CreateSrqResp = match xrc {
            None => {
                let basic =
                    CreateSrq { user_handle, pd_handle, max_wr, max_sge, srq_limit, ..CreateSrq::default() };
                self.legacy(&basic, driver)?
            }
            Some(xrc) => {
                let extended = CreateXsrq {
                    user_handle,
                    srq_type: abi::IB_UVERBS_SRQT_XRC,
                    pd_handle,
                    max_wr,
                    max_sge,
                    srq_limit,
                    xrcd_handle: xrc.xrcd_handle,
                    cq_handle: xrc.cq_handle,
                    ..CreateXsrq::default()
                };
                self.legacy(&extended, driver)?
            }
        };
        let CreateSrqResp { srq_handle: handle, max_wr, max_sge, srqn: srq_num, .. } = answer;
        Ok(SrqAnswer { handle, max_wr, max_sge, srq_num })
    }

    /// Changes the size or the limit; `attr_mask` says which fields of `command` count.
    pub(crate) fn modify_srq(&self, command: &ModifySrq, driver: Udata<'_>) -> Result<()> {
        self.legacy(command, driver).map_err(|e| self.error("modify_srq", e))
    }

    /// Asks for sizes and limit.
    pub(crate) fn query_srq(&self, srq_handle: u32) -> Result<QuerySrqResp> {
        let command = QuerySrq { srq_handle, ..QuerySrq::default() };
        self.legacy(&command, Udata::none()).map_err(|e| self.error("query_srq", e))
    }

    /// Destroys a queue that no queue pair uses any more.
    pub(crate) fn destroy_srq(&self, srq_handle: u32) -> Result<(), Errno> {
        let mut answer = DestroySrqResp::default();
        let request = ioctl::Request::new(&ioctl::method::SRQ_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_SRQ_HANDLE, srq_handle)
            .output(abi::UVERBS_ATTR_DESTROY_SRQ_RESP, &mut answer);
        self.destroy(request, &DestroySrq { response: 0, srq_handle, reserved: 0 })
    }
}
