//! The legacy commands: which structure goes with which number and answer, and sending them.

#![allow(unsafe_code)] // vouches for the structures that have no address

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::{Encoding, Udata, Uverbs, ioctl, write};
use crate::uapi::verbs::*;

/// A legacy command that has no address in it but that of its answer, which the code that sends it fills in.
///
/// # Safety
/// The structure is the one that the kernel reads for [`NUMBER`](Self::NUMBER). Whatever its fields say, the kernel accesses no
/// memory of this process but the answer, of the size of [`Answer`](Self::Answer). A structure with an answer begins with a field of
/// 8 bytes for its address, except in extended commands.
pub(super) unsafe trait Command: Copy + FromBytes + IntoBytes + Immutable {
    /// `IB_USER_VERBS_CMD_*`, with the extended flag for extended commands.
    const NUMBER: u32;
    /// What the kernel answers; `()` for nothing.
    type Answer: FromBytes + IntoBytes;
}

macro_rules! commands {
    ($( $command:ident => $answer:ty = $number:expr; )*) => {
        $(
            // SAFETY: its fields are handles, numbers, keys, attributes and descriptors; structure and answer are those of the command.
            unsafe impl Command for $command {
                const NUMBER: u32 = $number;
                type Answer = $answer;
            }
        )*
    };
}

const EXTENDED: u32 = IB_USER_VERBS_CMD_FLAG_EXTENDED;

// REG_MR is not here: it has the address of the memory.
commands! {
    GetContext => GetContextResp = IB_USER_VERBS_CMD_GET_CONTEXT;
    QueryDevice => QueryDeviceResp = IB_USER_VERBS_CMD_QUERY_DEVICE;
    ExQueryDevice => ExQueryDeviceResp = IB_USER_VERBS_EX_CMD_QUERY_DEVICE | EXTENDED;
    QueryPort => QueryPortResp = IB_USER_VERBS_CMD_QUERY_PORT;
    CreateCompChannel => CreateCompChannelResp = IB_USER_VERBS_CMD_CREATE_COMP_CHANNEL;
    AllocPd => AllocPdResp = IB_USER_VERBS_CMD_ALLOC_PD;
    DeallocPd => () = IB_USER_VERBS_CMD_DEALLOC_PD;
    DeregMr => () = IB_USER_VERBS_CMD_DEREG_MR;
    AllocMw => AllocMwResp = IB_USER_VERBS_CMD_ALLOC_MW;
    DeallocMw => () = IB_USER_VERBS_CMD_DEALLOC_MW;
    CreateAh => CreateAhResp = IB_USER_VERBS_CMD_CREATE_AH;
    DestroyAh => () = IB_USER_VERBS_CMD_DESTROY_AH;
    CreateCq => CreateCqResp = IB_USER_VERBS_CMD_CREATE_CQ;
    ExCreateCq => ExCreateCqResp = IB_USER_VERBS_EX_CMD_CREATE_CQ | EXTENDED;
    ResizeCq => ResizeCqResp = IB_USER_VERBS_CMD_RESIZE_CQ;
    ReqNotifyCq => () = IB_USER_VERBS_CMD_REQ_NOTIFY_CQ;
    DestroyCq => DestroyCqResp = IB_USER_VERBS_CMD_DESTROY_CQ;
    CreateQp => CreateQpResp = IB_USER_VERBS_CMD_CREATE_QP;
    ModifyQp => () = IB_USER_VERBS_CMD_MODIFY_QP;
    QueryQp => QueryQpResp = IB_USER_VERBS_CMD_QUERY_QP;
    DestroyQp => DestroyQpResp = IB_USER_VERBS_CMD_DESTROY_QP;
    PostSend => PostSendResp = IB_USER_VERBS_CMD_POST_SEND;
    CreateSrq => CreateSrqResp = IB_USER_VERBS_CMD_CREATE_SRQ;
    CreateXsrq => CreateSrqResp = IB_USER_VERBS_CMD_CREATE_XSRQ;
    ModifySrq => () = IB_USER_VERBS_CMD_MODIFY_SRQ;
    QuerySrq => QuerySrqResp = IB_USER_VERBS_CMD_QUERY_SRQ;
    DestroySrq => DestroySrqResp = IB_USER_VERBS_CMD_DESTROY_SRQ;
    AttachMcast => () = IB_USER_VERBS_CMD_ATTACH_MCAST;
    DetachMcast => () = IB_USER_VERBS_CMD_DETACH_MCAST;
    OpenXrcd => OpenXrcdResp = IB_USER_VERBS_CMD_OPEN_XRCD;
    CloseXrcd => () = IB_USER_VERBS_CMD_CLOSE_XRCD;
}

impl Uverbs {
    /// Sends a legacy command and returns its answer.
    pub(super) fn legacy<C: Command>(&self, command: &C, driver: Udata<'_>) -> Result<C::Answer, Errno> {
        self.legacy_over(command, driver, C::Answer::new_zeroed())
    }

    /// As [`legacy`](Self::legacy); what the kernel does not write of its answer stays as it is in `answer`.
    pub(super) fn legacy_over<C: Command>(
        &self,
        command: &C,
        driver: Udata<'_>,
        mut answer: C::Answer,
    ) -> Result<C::Answer, Errno> {
        // SAFETY: `Command` says that there is no other address in it.
        unsafe { self.legacy_with_addresses(C::NUMBER, command, driver, &mut answer) }.map(|()| answer)
    }

    /// Sends the legacy command `number`, which answers with a structure like `answer`.
    ///
    /// # Safety
    /// `command` and `answer` are of the structures that the kernel has for `number`. Every address in `command`, other than that of
    /// the answer, is that of memory which the kernel and the device may access as the command says, for as long as they do.
    pub(crate) unsafe fn legacy_with_addresses<C, R>(
        &self,
        number: u32,
        command: &C,
        mut driver: Udata<'_>,
        answer: &mut R,
    ) -> Result<(), Errno>
    where
        C: IntoBytes + Immutable + ?Sized,
        R: FromBytes + IntoBytes + ?Sized,
    {
        if !self.no_ioctl.load(Ordering::Relaxed) {
            // SAFETY: as the caller says.
            let request =
                unsafe { ioctl::Request::invoke_write(number, command.as_bytes(), answer.as_mut_bytes()) };
            match self.attributes(request.udata(&mut driver)) {
                Some(Ok(done)) if size_of_val(answer) > 0 && !done.has_core_answer() => {
                    return Err(Errno::EBADMSG);
                }
                Some(done) => return done.map(drop),
                None if self.encoding == Encoding::Ioctl => return Err(Errno::EPROTONOSUPPORT),
                None => {}
            }
        }
        let (driver_in, driver_out) = driver.parts();
        let request = write::Request { number, core: command.as_bytes(), driver_in };
        // SAFETY: as the caller says.
        unsafe { request.send(self.fd.as_fd(), answer.as_mut_bytes(), driver_out) }
    }

    /// Destroys an object: by a method of the ioctl, or by the legacy command where the kernel does not have the method. The count
    /// of delivered events that some answer with is dropped.
    pub(super) fn destroy<C: Command>(&self, request: ioctl::Request<'_>, command: &C) -> Result<(), Errno> {
        match self.attributes(request) {
            Some(done) => done.map(drop),
            None => self.legacy(command, Udata::none()).map(drop),
        }
    }
}
