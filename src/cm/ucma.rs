//! The open file of RDMA-CM: framing of its commands, which all go by `write()`.
//!
//! A header says which command, and how long it and its answer are; the answer goes to an address that the command names.

#![allow(unsafe_code)] // the addresses in commands

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::discover;
use crate::error::{Error, Result};
use crate::sys::linux;
use crate::uapi::ucm::*;

/// 64-bit words: more than any command has.
const WORDS: usize = 48;

/// A command that has no answer.
///
/// # Safety
/// There is no address in it.
pub(super) unsafe trait Plain: IntoBytes + Immutable {
    /// `RDMA_USER_CM_CMD_*`
    const NUMBER: u32;
}

macro_rules! plain {
    ($( $command:ident = $number:ident; )*) => {
        $(
            // SAFETY: its fields are numbers, keys and bytes.
            unsafe impl Plain for $command {
                const NUMBER: u32 = $number;
            }
        )*
    };
}

plain! {
    Bind = RDMA_USER_CM_CMD_BIND;
    Listen = RDMA_USER_CM_CMD_LISTEN;
    ResolveAddr = RDMA_USER_CM_CMD_RESOLVE_ADDR;
    ResolveRoute = RDMA_USER_CM_CMD_RESOLVE_ROUTE;
    Connect = RDMA_USER_CM_CMD_CONNECT;
    Accept = RDMA_USER_CM_CMD_ACCEPT;
    Reject = RDMA_USER_CM_CMD_REJECT;
    Disconnect = RDMA_USER_CM_CMD_DISCONNECT;
    Notify = RDMA_USER_CM_CMD_NOTIFY;
}

/// The connection manager's file. It never blocks.
#[derive(Debug)]
pub(super) struct Ucma(OwnedFd);

impl Ucma {
    pub(super) fn open() -> Result<Self> {
        let fd = discover::open_rdma_cm()?;
        linux::set_nonblocking(fd.as_fd()).map_err(|e| Error::os("open", "rdma_cm", e))?;
        Ok(Self(fd))
    }

    /// Sends a command that has no answer.
    pub(super) fn tell<C: Plain>(&self, command: &C) -> Result<(), Errno> {
        // SAFETY: there is no address in it.
        unsafe { self.send(C::NUMBER, command.as_bytes(), 0) }
    }

    /// Sends the command that `make` makes of the answer's address.
    ///
    /// # Safety
    /// The only address in the command is the one that `make` is given.
    unsafe fn ask<C, R>(&self, number: u32, mut answer: R, make: impl FnOnce(u64) -> C) -> Result<R, Errno>
    where
        C: IntoBytes + Immutable,
        R: FromBytes + IntoBytes,
    {
        let command = make(answer.as_mut_bytes().as_mut_ptr().expose_provenance() as u64);
        // SAFETY: the address is that of `answer`, which is as long as is said, and lives until the call has returned.
        unsafe { self.send(number, command.as_bytes(), size_of::<R>() as u16) }?;
        Ok(answer)
    }

    /// # Safety
    /// Every address in `command` points to memory that the kernel may use as the command says; that of the answer to
    /// `out_bytes` that it may write.
    unsafe fn send(&self, number: u32, command: &[u8], out_bytes: u16) -> Result<(), Errno> {
        let mut frame = [0u64; WORDS];
        let header = CmdHdr { cmd: number, in_bytes: command.len() as u16, out_bytes };
        let whole = size_of::<CmdHdr>() + command.len();
        let bytes = frame.as_mut_bytes().get_mut(..whole).ok_or(Errno::E2BIG)?;
        bytes[..size_of::<CmdHdr>()].copy_from_slice(header.as_bytes());
        bytes[size_of::<CmdHdr>()..].copy_from_slice(command);
        // SAFETY: a whole command; the caller vouches for the addresses in it.
        unsafe { linux::write_command(self.0.as_fd(), bytes) }
    }

    pub(super) fn create_id(&self, uid: u64, ps: u16, qp_type: u8) -> Result<u32, Errno> {
        let make = |response| CreateId { uid, response, ps, qp_type, reserved: [0; 5] };
        // Not 0, which is somebody's id.
        let answer = CreateIdResp { id: u32::MAX };
        // SAFETY: the command's one address is the answer's.
        unsafe { self.ask(RDMA_USER_CM_CMD_CREATE_ID, answer, make) }.map(|answer| answer.id)
    }

    /// Destroys an id; says how many events of it the kernel had delivered.
    pub(super) fn destroy_id(&self, id: u32) -> Result<u32, Errno> {
        let make = |response| DestroyId { response, id, reserved: 0 };
        // SAFETY: as above.
        unsafe { self.ask(RDMA_USER_CM_CMD_DESTROY_ID, DestroyIdResp::default(), make) }
            .map(|answer| answer.events_reported)
    }

    pub(super) fn query_addr(&self, id: u32) -> Result<QueryAddrResp, Errno> {
        let make = |response| Query { response, id, option: RDMA_USER_CM_QUERY_ADDR };
        // SAFETY: as above.
        unsafe { self.ask(RDMA_USER_CM_CMD_QUERY, QueryAddrResp::default(), make) }
    }

    pub(super) fn init_qp_attr(&self, id: u32, qp_state: u32) -> Result<QpAttr, Errno> {
        let make = |response| InitQpAttr { response, id, qp_state };
        // SAFETY: as above.
        unsafe { self.ask(RDMA_USER_CM_CMD_INIT_QP_ATTR, QpAttr::default(), make) }
    }

    /// The next event; `EAGAIN` where there is none.
    pub(super) fn get_event(&self) -> Result<EventResp, Errno> {
        let make = |response| GetEvent { response };
        // SAFETY: as above.
        unsafe { self.ask(RDMA_USER_CM_CMD_GET_EVENT, EventResp::default(), make) }
    }

    /// Sets an option of level `RDMA_OPTION_ID`.
    pub(super) fn set_option(
        &self,
        id: u32,
        optname: u32,
        value: &(impl IntoBytes + Immutable),
    ) -> Result<(), Errno> {
        let value = value.as_bytes();
        let command = SetOption {
            optval: value.as_ptr().expose_provenance() as u64,
            id,
            level: RDMA_OPTION_ID,
            optname,
            optlen: value.len() as u32,
        };
        // SAFETY: the command's one address is that of `value`, which the kernel only reads.
        unsafe { self.send(RDMA_USER_CM_CMD_SET_OPTION, command.as_bytes(), 0) }
    }
}

impl AsFd for Ucma {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
