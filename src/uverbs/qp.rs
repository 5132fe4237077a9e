//! Queue pairs.

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::ioctl::verbs::QpCap;
use crate::uapi::verbs::{
    CreateQp, DestroyQp, DestroyQpResp, ModifyQp, PostSend, QueryQp, QueryQpResp, SendWr,
};

/// The parameters of `CREATE_QP`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QpParams {
    /// For every type but the receiving side of XRC.
    pub(crate) pd_handle: Option<u32>,
    /// For every type but the receiving side of XRC.
    pub(crate) send_cq_handle: Option<u32>,
    /// For every type but those of XRC.
    pub(crate) recv_cq_handle: Option<u32>,
    /// The shared receive queue, if it has no receive queue of its own.
    pub(crate) srq_handle: Option<u32>,
    /// For the receiving side of XRC.
    pub(crate) xrcd_handle: Option<u32>,
    pub(crate) qp_type: u8,
    pub(crate) sq_sig_all: bool,
    pub(crate) cap: QpCap,
    /// What events of this queue pair carry.
    pub(crate) user_handle: u64,
}

/// The kernel's answer to `CREATE_QP`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QpAnswer {
    pub(crate) handle: u32,
    pub(crate) qp_num: u32,
    /// At least what was asked for.
    pub(crate) cap: QpCap,
}

impl Uverbs {
    /// Creates a queue pair.
    pub(crate) fn create_qp(&self, init: &QpParams, mut driver: Udata<'_>) -> Result<QpAnswer> {
        let (mut cap, mut qp_num) = (QpCap::default(), 0u32);
        let flags = if init.sq_sig_all { abi::IB_UVERBS_QP_CREATE_SQ_SIG_ALL } else { 0 };
        let mut request = ioctl::Request::new(&ioctl::method::QP_CREATE)
            .new_handle(abi::UVERBS_ATTR_CREATE_QP_HANDLE)
            .input(abi::UVERBS_ATTR_CREATE_QP_USER_HANDLE, &init.user_handle)
            .input(abi::UVERBS_ATTR_CREATE_QP_CAP, &init.cap)
            .constant(abi::UVERBS_ATTR_CREATE_QP_TYPE, init.qp_type.into())
            .constant(abi::UVERBS_ATTR_CREATE_QP_FLAGS, flags.into())
            .output(abi::UVERBS_ATTR_CREATE_QP_RESP_CAP, &mut cap)
            .output(abi::UVERBS_ATTR_CREATE_QP_RESP_QP_NUM, &mut qp_num)
            .udata(&mut driver);
        for (id, handle) in [
            (abi::UVERBS_ATTR_CREATE_QP_PD_HANDLE, init.pd_handle),
            (abi::UVERBS_ATTR_CREATE_QP_SEND_CQ_HANDLE, init.send_cq_handle),
            (abi::UVERBS_ATTR_CREATE_QP_RECV_CQ_HANDLE, init.recv_cq_handle),
            (abi::UVERBS_ATTR_CREATE_QP_SRQ_HANDLE, init.srq_handle),
            (abi::UVERBS_ATTR_CREATE_QP_XRCD_HANDLE, init.xrcd_handle),
        ] {
            if let Some(handle) = handle {
                request = request.handle(id, handle);
            }
        }
        let made = match self.attributes(request) {
            Some(done) => done
                .and_then(|done| done.handle(abi::UVERBS_ATTR_CREATE_QP_HANDLE))
                .map(|handle| QpAnswer { handle, qp_num, cap }),
            None => self.create_qp_legacy(init, driver),
        };
        made.map_err(|e| self.error("create_qp", e))
    }

    fn create_qp_legacy(&self, init: &QpParams, driver: Udata<'_>) -> Result<QpAnswer, Errno> {
        let command = CreateQp {
            user_handle: init.user_handle,
            // The command has one place for either.
            pd_handle: init.pd_handle.or(init.xrcd_handle).unwrap_or_default(),
            send_cq_handle: init.send_cq_handle.unwrap_or_default(),
            recv_cq_handle: init.recv_cq_handle.unwrap_or_default(),
            srq_handle: init.srq_handle.unwrap_or_default(),
            is_srq: init.srq_handle.is_some().into(),
            max_send_wr: init.cap.max_send_wr,
            max_recv_wr: init.cap.max_recv_wr,
            max_send_sge: init.cap.max_send_sge,
            max_recv_sge: init.cap.max_recv_sge,
            max_inline_data: init.cap.max_inline_data,
            sq_sig_all: init.sq_sig_all.into(),
            qp_type: init.qp_type,
            ..CreateQp::default()
        };
        let answer = self.legacy(&command, driver)?;
        let cap = QpCap {
            max_send_wr: answer.max_send_wr,
            max_recv_wr: answer.max_recv_wr,
            max_send_sge: answer.max_send_sge,
            max_recv_sge: answer.max_recv_sge,
            max_inline_data: answer.max_inline_data,
        };
        Ok(QpAnswer { handle: answer.qp_handle, qp_num: answer.qpn, cap })
    }

    /// Changes attributes and state; `attr_mask` says which fields of `command` count.
    pub(crate) fn modify_qp(&self, command: &ModifyQp) -> Result<(), Errno> {
        self.legacy(command, Udata::none())
    }

    /// Asks for attributes and state.
    pub(crate) fn query_qp(&self, qp_handle: u32, attr_mask: u32) -> Result<QueryQpResp> {
        self.legacy(&QueryQp { response: 0, qp_handle, attr_mask }, Udata::none())
            .map_err(|e| self.error("query_qp", e))
    }

    /// Destroys a queue pair.
    pub(crate) fn destroy_qp(&self, qp_handle: u32) -> Result<(), Errno> {
        let mut answer = DestroyQpResp::default();
        let request = ioctl::Request::new(&ioctl::method::QP_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_QP_HANDLE, qp_handle)
            .output(abi::UVERBS_ATTR_DESTROY_QP_RESP, &mut answer);
        self.destroy(request, &DestroyQp { response: 0, qp_handle, reserved: 0 })
    }

    /// Tells a software device to look at its send queue: a post of no work request. One system call.
    #[inline]
    pub(crate) fn ring_send_queue(&self, qp_handle: u32) -> Result<(), Errno> {
        let wqe_size = size_of::<SendWr>() as u32;
        self.ring(PostSend { response: 0, qp_handle, wr_count: 0, sge_count: 0, wqe_size })
    }
}
