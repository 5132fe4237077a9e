//! Completion queues.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{Udata, Uverbs, ioctl};
use crate::error::Result;
use crate::uapi::ioctl as abi;
use crate::uapi::verbs::{
    CreateCq, DestroyCq, DestroyCqResp, ExCreateCq, IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION, ReqNotifyCq,
    ResizeCq,
};

/// The parameters of `CREATE_CQ`.
#[derive(Clone, Copy)]
pub(crate) struct CqParams<'a> {
    pub(crate) cqe: u32,
    pub(crate) channel: Option<BorrowedFd<'a>>,
    pub(crate) comp_vector: u32,
    /// What events of this queue carry.
    pub(crate) user_handle: u64,
    /// Completions carry timestamps.
    pub(crate) timestamps: bool,
}

/// The kernel's answer to `CREATE_CQ`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CqAnswer {
    pub(crate) handle: u32,
    /// Entries that the queue holds.
    pub(crate) cqe: u32,
}

impl Uverbs {
    /// Creates a completion queue.
    pub(crate) fn create_cq(&self, init: &CqParams<'_>, mut driver: Udata<'_>) -> Result<CqAnswer> {
        let flags = if init.timestamps { IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION } else { 0 };
        let comp_channel = init.channel.map_or(-1, |fd| fd.as_raw_fd());
        let mut cqe = 0u32;
        let mut request = ioctl::Request::new(&ioctl::method::CQ_CREATE)
            .new_handle(abi::UVERBS_ATTR_CREATE_CQ_HANDLE)
            .input(abi::UVERBS_ATTR_CREATE_CQ_CQE, &init.cqe)
            .input(abi::UVERBS_ATTR_CREATE_CQ_USER_HANDLE, &init.user_handle)
            .input(abi::UVERBS_ATTR_CREATE_CQ_COMP_VECTOR, &init.comp_vector)
            .output(abi::UVERBS_ATTR_CREATE_CQ_RESP_CQE, &mut cqe)
            .udata(&mut driver);
        if let Some(channel) = init.channel {
            request = request.fd(abi::UVERBS_ATTR_CREATE_CQ_COMP_CHANNEL, channel);
        }
        if flags != 0 {
            request = request.input(abi::UVERBS_ATTR_CREATE_CQ_FLAGS, &flags);
        }
        let answer = match self.attributes(request) {
            Some(done) => done
                .and_then(|done| done.handle(abi::UVERBS_ATTR_CREATE_CQ_HANDLE))
                .map(|handle| CqAnswer { handle, cqe }),
            None if flags != 0 => {
                let command = ExCreateCq {
                    user_handle: init.user_handle,
                    cqe: init.cqe,
                    comp_vector: init.comp_vector,
                    comp_channel,
                    comp_mask: 0,
                    flags,
                    reserved: 0,
                };
                let answer = self.legacy(&command, driver);
                answer.map(|answer| CqAnswer { handle: answer.base.cq_handle, cqe: answer.base.cqe })
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
                let answer = self.legacy(&command, driver);
                answer.map(|answer| CqAnswer { handle: answer.cq_handle, cqe: answer.cqe })
            }
        };
        answer.map_err(|e| self.error("create_cq", e))
    }

    /// Changes the size of a completion queue and returns the new one.
    pub(crate) fn resize_cq(&self, cq_handle: u32, cqe: u32, driver: Udata<'_>) -> Result<u32> {
        self.legacy(&ResizeCq { response: 0, cq_handle, cqe }, driver)
            .map(|answer| answer.cqe)
            .map_err(|e| self.error("resize_cq", e))
    }

    /// Destroys a completion queue that no queue pair uses any more.
    pub(crate) fn destroy_cq(&self, cq_handle: u32) -> Result<(), Errno> {
        let mut answer = DestroyCqResp::default();
        let request = ioctl::Request::new(&ioctl::method::CQ_DESTROY)
            .handle(abi::UVERBS_ATTR_DESTROY_CQ_HANDLE, cq_handle)
            .output(abi::UVERBS_ATTR_DESTROY_CQ_RESP, &mut answer);
        self.destroy(request, &DestroyCq { response: 0, cq_handle, reserved: 0 })
    }

    /// Asks for an event on the queue's channel at the next completion (or the next solicited one).
    ///
    /// On the data path of devices that cannot be armed by a doorbell: one system call.
    pub(crate) fn req_notify_cq(&self, cq_handle: u32, solicited_only: bool) -> Result<(), Errno> {
        self.ring(ReqNotifyCq { cq_handle, solicited_only: solicited_only.into() })
    }
}
