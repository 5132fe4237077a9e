//! What a connection is made of, and how both roles post to it.

use bareverbs::{CmId, CompChannel, Cq, Mr, PostError, Qp, RecvWr, SendWr};

use super::wire::{self, Buffer};
use crate::outcome::Failure;
use crate::output::Tool;

/// Ids of requests; those of receives are the numbers of their slots.
pub(super) const SEND: u64 = 0x100;
pub(super) const READ: u64 = 0x101;
pub(super) const WRITE: u64 = 0x102;

/// A client's sends complete with the server's answers: every so many, one asks for a completion of its own.
const SIGNAL_EVERY: u32 = 8;

/// A connection's objects. Fields drop in this order.
pub(super) struct Wires {
    pub(super) qp: Qp,
    pub(super) cq: Cq,
    pub(super) channel: CompChannel,
    pub(super) armed: bool,
    pub(super) sent: u32,
    pub(super) debug: bool,
    /// Where messages come in.
    pub(super) slots: Mr,
    /// What is read, written, and printed.
    pub(super) data: Mr,
    pub(super) id: CmId,
}

impl Wires {
    /// A line of the steps, where they are printed.
    #[inline]
    pub(super) fn log(&self, tool: &Tool, line: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.debug {
            false => Ok(()),
            true => tool.report(&line()),
        }
    }

    pub(super) fn post_recv(&mut self, slot: usize) -> Result<(), Failure> {
        let place = self.slots.slice(slot * wire::LEN..(slot + 1) * wire::LEN);
        self.qp
            .post_recv(RecvWr::new(slot as u64).sge(place))
            .map_err(|e| Failure::new(format!("post recv error: {e}")))
    }

    pub(super) fn message(&self, slot: usize) -> Buffer {
        let mut bytes = [0; wire::LEN];
        self.slots.read(slot * wire::LEN, &mut bytes);
        Buffer::decode(bytes)
    }

    /// Whether the next send asks for a completion.
    pub(super) fn signals(&mut self) -> bool {
        self.sent = self.sent.wrapping_add(1);
        self.debug || self.sent.is_multiple_of(SIGNAL_EVERY)
    }

    /// Sends a message.
    #[inline]
    pub(super) fn send(&mut self, message: Buffer) -> Result<(), Failure> {
        let bytes = message.encode();
        let mut wr = SendWr::send(SEND).inline(&bytes);
        if self.signals() {
            wr = wr.signaled();
        }
        // The function for several is one for the whole program; that for one is made for each caller.
        self.qp.post_sends(&[wr]).map_err(unposted)
    }
}

pub(super) fn unposted(error: PostError) -> Failure {
    Failure::new(format!("post send error: {error}"))
}
