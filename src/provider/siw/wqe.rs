//! A work request as siw's queues hold it: a fixed head, then elements or inline bytes.

use std::mem::offset_of;

use super::ring::{Producer, request_word};
use crate::sys::region::Slot;
use crate::types::{Data, Dest, PostErrorKind, RecvWr, Remote, SendFlags, SendOp, SendWr, Sge};
use crate::uapi::siw::{self as abi, Rqe, Sqe};

/// Bytes of a request.
pub(super) const SQE: usize = size_of::<Sqe>();
pub(super) const RQE: usize = size_of::<Rqe>();

/// The longest message.
const MAX_MESSAGE: u32 = 1 << 31;

/// Inline bytes follow the first element, whose length counts them.
const INLINE: usize = offset_of!(Sqe, sge) + size_of::<abi::Sge>();
pub(super) const MAX_INLINE: u32 = (SQE - INLINE) as u32;

/// What a queue was created for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_sge: u32,
    pub(super) max_inline: u32,
    /// Every request of a send queue is reported.
    pub(super) sig_all: bool,
}

impl Limits {
    pub(super) fn new(max_sge: u32, max_inline: u32, sig_all: bool) -> Self {
        // Whatever the kernel answered, an entry has no more room.
        Self { max_sge: max_sge.min(abi::SIW_MAX_SGE), max_inline: max_inline.min(MAX_INLINE), sig_all }
    }
}

/// Fills the free entry `at` with a send request. Returns the word that hands it over.
#[inline(always)] // the caller knows the operation and the kind of data: most of this is decided at compile time
pub(super) fn write_send(
    ring: &mut Producer<SQE>,
    at: u32,
    wr: &SendWr<'_>,
    limits: &Limits,
) -> Result<u32, PostErrorKind> {
    if !matches!(wr.dest, Dest::Connected) {
        return Err(PostErrorKind::AddressNotAllowed);
    }
    let (opcode, rkey, raddr, data) = match wr.op {
        SendOp::Send => (abi::SIW_OP_SEND, 0, 0, Kind::Out),
        SendOp::SendWithInv(rkey) => (abi::SIW_OP_SEND_REMOTE_INV, rkey.0, 0, Kind::NoInline),
        SendOp::Write(Remote { addr, rkey }) => (abi::SIW_OP_WRITE, rkey.0, addr, Kind::Out),
        SendOp::Read(Remote { addr, rkey }) => (abi::SIW_OP_READ, rkey.0, addr, Kind::In),
        SendOp::LocalInv(rkey) => (abi::SIW_OP_INVAL_STAG, rkey.0, 0, Kind::Nothing),
        SendOp::SendWithImm(_)
        | SendOp::WriteWithImm(..)
        | SendOp::CompareSwap { .. }
        | SendOp::FetchAdd { .. }
        | SendOp::BindMw(_) => return Err(PostErrorKind::Unsupported),
    };
    let mut flags = abi::SIW_WQE_VALID;
    let mut flag = |wanted: bool, flag: u16| flags |= if wanted { flag } else { 0 };
    flag(limits.sig_all || wr.flags.contains(SendFlags::SIGNALED), abi::SIW_WQE_SIGNALLED);
    flag(wr.flags.contains(SendFlags::SOLICITED), abi::SIW_WQE_SOLICITED);
    flag(wr.flags.contains(SendFlags::FENCE), abi::SIW_WQE_READ_FENCE);
    flag(matches!(wr.data, Data::Inline(_)), abi::SIW_WQE_INLINE);
    if data == Kind::In && wr.flags.contains(SendFlags::FENCE) {
        // The driver takes a read that waits for reads for an error of the connection.
        return Err(PostErrorKind::Unsupported);
    }
    let num_sge = write_data(ring, at, &wr.data, data, limits)?;
    let mut slot = ring.slot(at);
    slot.put(offset_of!(Sqe, id), wr.wr_id);
    slot.put(offset_of!(Sqe, rkey), rkey);
    slot.put(offset_of!(Sqe, raddr), raddr);
    Ok(request_word(flags, num_sge, opcode))
}

/// Fills the free entry `at` with a receive request. Returns the word that hands it over.
#[inline(always)] // as for sends
pub(super) fn write_recv(
    ring: &mut Producer<RQE>,
    at: u32,
    wr: &RecvWr<'_>,
    limits: &Limits,
) -> Result<u32, PostErrorKind> {
    let mut slot = ring.slot(at);
    let num_sge = match &wr.data {
        Data::One(sge) => {
            write_list(&mut slot, offset_of!(Rqe, sge), std::slice::from_ref(sge), limits.max_sge)?
        }
        Data::List(sges) => write_list(&mut slot, offset_of!(Rqe, sge), sges, limits.max_sge)?,
        Data::None => 0,
        Data::Inline(_) => return Err(PostErrorKind::InlineNotAllowed),
    };
    slot.put(offset_of!(Rqe, id), wr.wr_id);
    Ok(request_word(abi::SIW_WQE_VALID, num_sge, 0))
}

/// What an operation does with its data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Sends them.
    Out,
    /// Sends them from registered memory only.
    NoInline,
    /// Fills them, in one piece: an iWARP read names one region of this side.
    In,
    /// It has none.
    Nothing,
}

/// Writes elements or inline bytes and returns the number of elements.
#[inline(always)]
fn write_data(
    ring: &mut Producer<SQE>,
    at: u32,
    data: &Data<'_>,
    kind: Kind,
    limits: &Limits,
) -> Result<u8, PostErrorKind> {
    const SGE: usize = offset_of!(Sqe, sge);
    let max_sge = if kind == Kind::In { limits.max_sge.min(1) } else { limits.max_sge };
    let mut slot = ring.slot(at);
    let written = match data {
        Data::None => 0,
        _ if kind == Kind::Nothing => return Err(PostErrorKind::DataNotAllowed),
        Data::One(sge) => write_list(&mut slot, SGE, std::slice::from_ref(sge), max_sge)?,
        Data::List(sges) => write_list(&mut slot, SGE, sges, max_sge)?,
        Data::Inline(_) if kind != Kind::Out => return Err(PostErrorKind::InlineNotAllowed),
        Data::Inline(bytes) => {
            if bytes.len() > limits.max_inline as usize {
                return Err(PostErrorKind::InlineTooLong { max: limits.max_inline });
            }
            slot.put(SGE, abi::Sge { laddr: 0, length: bytes.len() as u32, lkey: 0 });
            ring.fill_bytes(at, INLINE, bytes);
            return Ok(1);
        }
    };
    if written == 0 && kind != Kind::Nothing {
        // No data are one empty element: the driver looks at the first in any case.
        slot.put(SGE, abi::Sge::default());
        return Ok(1);
    }
    Ok(written)
}

/// Writes the elements that are not empty and returns their number. The driver does not look up the region of an empty element, and
/// follows the null pointer when it sends the elements after it (Linux 6.1): the machine would crash.
#[inline(always)]
fn write_list<const N: usize>(
    slot: &mut Slot<'_, N>,
    at: usize,
    sges: &[Sge],
    max_sge: u32,
) -> Result<u8, PostErrorKind> {
    if sges.len() > max_sge as usize {
        return Err(PostErrorKind::TooManySges { max: max_sge });
    }
    let (mut length, mut written) = (0, 0);
    for sge in sges.iter().filter(|sge| sge.length > 0) {
        length += u64::from(sge.length);
        let raw = abi::Sge { laddr: sge.addr, length: sge.length, lkey: sge.lkey.0 };
        slot.put(at + written * size_of::<abi::Sge>(), raw);
        written += 1;
    }
    if length > MAX_MESSAGE.into() {
        return Err(PostErrorKind::MessageTooLong);
    }
    Ok(written as u8)
}

#[cfg(test)]
#[path = "wqe_tests.rs"]
mod tests;
