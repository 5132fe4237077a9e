//! Completion queues.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{
    CreateCq, CreateCqResp, DestroyCq, DestroyCqResp, ExCreateCq, ExCreateCqResp,
    IB_USER_VERBS_CMD_CREATE_CQ, IB_USER_VERBS_CMD_DESTROY_CQ, IB_USER_VERBS_CMD_FLAG_EXTENDED,
    IB_USER_VERBS_CMD_REQ_NOTIFY_CQ, IB_USER_VERBS_CMD_RESIZE_CQ, IB_USER_VERBS_EX_CMD_CREATE_CQ,
    IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION, ReqNotifyCq, ResizeCq, ResizeCqResp,
};

/// What is wanted of a completion queue.
pub(crate) struct CqInit<'a> {
    pub(crate) cqe: u32,
    pub(crate) channel: Option<BorrowedFd<'a>>,
    pub(crate) comp_vector: u32,
    /// What events of this CQ will carry.
    pub(crate) user_handle: u64,
    /// Completions have the time.
    pub(crate) timestamps: bool,
}

impl Uverbs {
    /// Makes a completion queue; gives its handle and size.
    pub(crate) fn create_cq(&self, init: &CqInit<'_>, driver: Udata<'_>) -> Result<CreateCqResp> {
        let flags = if init.timestamps { IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION } else { 0 };
        let comp_channel = init.channel.map_or(-1, |fd| fd.as_raw_fd());
        let mut cqe = 0u32;
        let mut request = ioctl::Request::new(abi::UVERBS_OBJECT_CQ, abi::UVERBS_METHOD_CQ_CREATE)
            .new_handle(abi::UVERBS_ATTR_CREATE_CQ_HANDLE)
            .input(abi::UVERBS_ATTR_CREATE_CQ_CQE, &init.cqe)
            .input(abi::UVERBS_ATTR_CREATE_CQ_USER_HANDLE, &init.user_handle)
            .input(abi::UVERBS_ATTR_CREATE_CQ_COMP_VECTOR, &init.comp_vector)
            .output(abi::UVERBS_ATTR_CREATE_CQ_RESP_CQE, &mut cqe)
            .udata(Udata { input: driver.input, output: &mut *driver.output });
        if let Some(channel) = init.channel {
            request = request.fd(abi::UVERBS_ATTR_CREATE_CQ_COMP_CHANNEL, channel);
        }
        if flags != 0 {
            request = request.input(abi::UVERBS_ATTR_CREATE_CQ_FLAGS, &flags);
        }
        let answer = match self.attributes(request) {
            Some(done) => done
                .and_then(|done| done.handle(abi::UVERBS_ATTR_CREATE_CQ_HANDLE))
                .map(|cq_handle| CreateCqResp { cq_handle, cqe, ..CreateCqResp::default() }),
            None if flags != 0 => {
                let extended = IB_USER_VERBS_EX_CMD_CREATE_CQ | IB_USER_VERBS_CMD_FLAG_EXTENDED;
                let command = ExCreateCq {
                    user_handle: init.user_handle,
                    cqe: init.cqe,
                    comp_vector: init.comp_vector,
                    comp_channel,
                    comp_mask: 0,
                    flags,
                    reserved: 0,
                };
                self.legacy(extended, &command, driver).map(|answer: ExCreateCqResp| answer.base)
            }
            None => {
                let command = CreateCq {
                    response: 0,
                    user_handle: init.user_handle,
                    cqe: init.cqe,
                    comp_vector: init.comp_vector,
                    comp_channel,
                    reserved: 0,
                };
                self.legacy(IB_USER_VERBS_CMD_CREATE_CQ, &command, driver)
            }
        };
        answer.map_err(|e| self.error("create_cq", e))
    }

    /// Changes the size of a completion queue; gives the new one.
    pub(crate) fn resize_cq(&self, cq_handle: u32, cqe: u32, driver: Udata<'_>) -> Result<u32> {
        self.legacy(IB_USER_VERBS_CMD_RESIZE_CQ, &ResizeCq { response: 0, cq_handle, cqe }, driver)
            .map(|answer: ResizeCqResp| answer.cqe)
            .map_err(|e| self.error("resize_cq", e))
    }

    /// Unmakes a completion queue that no QP uses any more; says how many events it had delivered.
    pub(crate) fn destroy_cq(&self, cq_handle: u32) -> Result<DestroyCqResp, Errno> {
        let mut answer = DestroyCqResp::default();
        let request = ioctl::Request::new(abi::UVERBS_OBJECT_CQ, abi::UVERBS_METHOD_CQ_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_CQ_HANDLE, cq_handle)
            .output(abi::UVERBS_ATTR_DESTROY_CQ_RESP, &mut answer);
        match self.attributes(request) {
            Some(done) => done.map(|_| answer),
            None => self.legacy(
                IB_USER_VERBS_CMD_DESTROY_CQ,
                &DestroyCq { response: 0, cq_handle, reserved: 0 },
                Udata::none(),
            ),
        }
    }

    /// Asks for an event on the CQ's channel at the next completion (or the next solicited one).
    ///
    /// On the data path of devices that cannot be armed by a doorbell: one system call.
    pub(crate) fn req_notify_cq(&self, cq_handle: u32, solicited_only: bool) -> Result<(), Errno> {
        let solicited_only = solicited_only.into();
        self.ring(IB_USER_VERBS_CMD_REQ_NOTIFY_CQ, false, |_| ReqNotifyCq { cq_handle, solicited_only })
    }
}
