//! A work request as rxe's queues hold it: a fixed head, then SGEs or inline bytes.

use std::mem::offset_of;

use super::ring::Slots;
use crate::sys::region::{Region, Slot};
use crate::types::{Data, Dest, DeviceAh, MwBind, PostErrorKind, RecvWr, Remote, SendFlags, SendOp, SendWr};
use crate::uapi::rxe::{DmaInfo, RecvWqe, SendWqe, Sge, WrAtomic, WrMw, WrRdma, WrUd, WrUnion};
use crate::uapi::verbs as abi;

/// `IB_SEND_INLINE` of `enum ib_send_flags`.
const SEND_INLINE: u32 = 1 << 3;

/// The longest message of InfiniBand.
const MAX_MESSAGE: u32 = 1 << 31;

/// Bytes of a request's head, and of a head and one element.
const SEND_HEAD: usize = size_of::<SendWqe>();
pub(super) const SEND_ONE: usize = SEND_HEAD + size_of::<Sge>();
const RECV_HEAD: usize = size_of::<RecvWqe>();
pub(super) const RECV_ONE: usize = RECV_HEAD + size_of::<Sge>();

/// What a queue was made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_sge: u32,
    pub(super) max_inline: u32,
    /// Bytes.
    max_message: u32,
    /// Each send goes to an address of its own, in one packet.
    datagrams: bool,
}

impl Limits {
    /// Of a queue whose messages may be as long as any.
    pub(super) const fn new(max_sge: u32, max_inline: u32) -> Self {
        Self { max_sge, max_inline, max_message: MAX_MESSAGE, datagrams: false }
    }

    /// Of a queue that sends datagrams of `mtu` bytes at the most.
    pub(super) fn datagrams(self, mtu: u32) -> Self {
        Self { max_message: mtu, datagrams: true, ..self }
    }

    fn too_long(&self) -> PostErrorKind {
        if self.datagrams {
            PostErrorKind::DatagramTooLong { max: self.max_message }
        } else {
            PostErrorKind::MessageTooLong
        }
    }

    /// Bytes that a slot of the send queue needs.
    pub(super) fn send_slot(&self) -> usize {
        let tail = (self.max_sge as usize).saturating_mul(size_of::<Sge>()).max(self.max_inline as usize);
        SEND_HEAD.saturating_add(tail)
    }

    /// Bytes that a slot of the receive queue needs.
    pub(super) fn recv_slot(&self) -> usize {
        RECV_HEAD.saturating_add((self.max_sge as usize).saturating_mul(size_of::<Sge>()))
    }
}

/// Writes a send request into the slot with the number `at`; `ssn` is its place in the order of sends.
#[inline(always)] // a caller knows the operation and the kind of data: most of this is decided when it is compiled
pub(super) fn write_send(
    slots: &mut Slots<SEND_ONE>,
    at: u32,
    wr: &SendWr<'_>,
    limits: &Limits,
    ssn: u32,
) -> Result<(), PostErrorKind> {
    let (data, mut slot) = write_data::<SEND_HEAD, SEND_ONE>(slots, at, &wr.data, limits)?;
    // What the operation has no words for in `wr.wr` the driver does not read.
    let wqe = SendWqe { ssn, dma: data.dma(), ..SendWqe::default() };
    slot.put_behind(offset_of!(SendWqe, status), &wqe);
    slot.put(offset_of!(SendWqe, wr.wr_id), wr.wr_id);
    slot.put(offset_of!(SendWqe, wr.reserved), 0u32);
    slot.put(offset_of!(SendWqe, wr.send_flags), wr.flags.bits() & SendFlags::all().bits() | data.flag);

    let mut arm = |remote: Option<Remote>, arm: WrUnion| {
        slot.put(offset_of!(SendWqe, wr.wr), arm);
        slot.put(offset_of!(SendWqe, iova), remote.map_or(0, |remote| remote.addr));
    };
    let rdma = |to: Remote| WrUnion::rdma(WrRdma { remote_addr: to.addr, rkey: to.rkey.0, reserved: 0 });
    let send = matches!(wr.op, SendOp::Send | SendOp::SendWithImm(_));
    match wr.dest {
        Dest::Connected if !limits.datagrams => {}
        Dest::Connected => return Err(PostErrorKind::AddressMissing),
        Dest::Ud(to) if limits.datagrams && send => arm(
            None,
            WrUnion::ud(WrUd {
                remote_qpn: to.qpn.get(),
                remote_qkey: to.qkey.0,
                ah_num: ah_num(to.ah),
                ..WrUd::default()
            }),
        ),
        Dest::Ud(_) | Dest::Xrc(_) => return Err(PostErrorKind::AddressNotAllowed),
    }
    let (opcode, ex) = match wr.op {
        SendOp::Send => (abi::IB_UVERBS_WR_SEND, 0),
        SendOp::SendWithImm(imm) => (abi::IB_UVERBS_WR_SEND_WITH_IMM, imm.to_be()),
        SendOp::SendWithInv(rkey) => (abi::IB_UVERBS_WR_SEND_WITH_INV, rkey.0),
        SendOp::Write(to) => {
            arm(Some(to), rdma(to));
            (abi::IB_UVERBS_WR_RDMA_WRITE, 0)
        }
        SendOp::WriteWithImm(to, imm) => {
            arm(Some(to), rdma(to));
            (abi::IB_UVERBS_WR_RDMA_WRITE_WITH_IMM, imm.to_be())
        }
        SendOp::Read(from) => {
            data.not_inline()?;
            arm(Some(from), rdma(from));
            (abi::IB_UVERBS_WR_RDMA_READ, 0)
        }
        SendOp::CompareSwap { remote, compare, swap } => {
            arm(Some(remote), atomic(remote, compare, swap, &data)?);
            (abi::IB_UVERBS_WR_ATOMIC_CMP_AND_SWP, 0)
        }
        SendOp::FetchAdd { remote, add } => {
            arm(Some(remote), atomic(remote, add, 0, &data)?);
            (abi::IB_UVERBS_WR_ATOMIC_FETCH_AND_ADD, 0)
        }
        SendOp::BindMw(_) | SendOp::LocalInv(_) if !matches!(wr.data, Data::None) => {
            return Err(PostErrorKind::DataNotAllowed);
        }
        SendOp::BindMw(bind) => {
            arm(None, window(&bind));
            (abi::IB_UVERBS_WR_BIND_MW, 0)
        }
        SendOp::LocalInv(rkey) => (abi::IB_UVERBS_WR_LOCAL_INV, rkey.0),
    };
    slot.put(offset_of!(SendWqe, wr.opcode), opcode);
    slot.put(offset_of!(SendWqe, wr.ex), ex);
    Ok(())
}

/// Writes a receive request into the slot with the number `at`.
#[inline(always)]
pub(super) fn write_recv(
    slots: &mut Slots<RECV_ONE>,
    at: u32,
    wr: &RecvWr<'_>,
    limits: &Limits,
) -> Result<(), PostErrorKind> {
    let (data, mut slot) = write_data::<RECV_HEAD, RECV_ONE>(slots, at, &wr.data, limits)?;
    slot.put(0, RecvWqe { wr_id: wr.wr_id, dma: data.dma(), ..RecvWqe::default() });
    Ok(())
}

/// What was written of a request's data.
struct Written {
    length: u32,
    num_sge: u32,
    flag: u32,
}

impl Written {
    #[inline]
    fn dma(&self) -> DmaInfo {
        DmaInfo { length: self.length, resid: self.length, num_sge: self.num_sge, ..DmaInfo::default() }
    }

    fn not_inline(&self) -> Result<(), PostErrorKind> {
        if self.flag == SEND_INLINE { Err(PostErrorKind::InlineNotAllowed) } else { Ok(()) }
    }
}

/// Writes the elements or the inline bytes behind the head (of `HEAD` bytes) of the request at `at`, where they fit; gives
/// the slot for the head. `ONE` is the size of a head and one element.
#[inline(always)]
fn write_data<'r, const HEAD: usize, const ONE: usize>(
    slots: &'r mut Slots<ONE>,
    at: u32,
    data: &Data<'_>,
    limits: &Limits,
) -> Result<(Written, Slot<'r, HEAD>), PostErrorKind> {
    if let Data::One(sge) = data
        && limits.max_sge > 0
        && sge.length <= limits.max_message
    {
        let mut slot = slots.slot(at);
        slot.put(HEAD, raw(sge));
        return Ok((Written { length: sge.length, num_sge: 1, flag: 0 }, slot.head()));
    }
    let behind = slots.offset(at) + HEAD;
    let written = match data {
        Data::One(sge) => write_list(slots.region_mut(), behind, &[*sge], limits)?,
        Data::List(sges) => write_list(slots.region_mut(), behind, sges, limits)?,
        Data::Inline(bytes) => write_inline(slots.region_mut(), behind, bytes, limits)?,
        Data::None => Written { length: 0, num_sge: 0, flag: 0 },
    };
    Ok((written, slots.slot(at).head()))
}

#[inline(never)]
fn write_list(
    region: &mut Region,
    at: usize,
    sges: &[crate::types::Sge],
    limits: &Limits,
) -> Result<Written, PostErrorKind> {
    if sges.len() > limits.max_sge as usize {
        return Err(PostErrorKind::TooManySges { max: limits.max_sge });
    }
    let mut length = 0;
    for (n, sge) in sges.iter().enumerate() {
        length += u64::from(sge.length);
        region.slot::<{ size_of::<Sge>() }>(at + n * size_of::<Sge>()).put(0, raw(sge));
    }
    if length > limits.max_message.into() {
        return Err(limits.too_long());
    }
    Ok(Written { length: length as u32, num_sge: sges.len() as u32, flag: 0 })
}

#[inline(never)]
fn write_inline(
    region: &mut Region,
    at: usize,
    bytes: &[u8],
    limits: &Limits,
) -> Result<Written, PostErrorKind> {
    if bytes.len() > limits.max_inline as usize {
        return Err(PostErrorKind::InlineTooLong { max: limits.max_inline });
    }
    if bytes.len() > limits.max_message as usize {
        return Err(limits.too_long());
    }
    region.write_bytes(at, bytes);
    Ok(Written { length: bytes.len() as u32, num_sge: 0, flag: SEND_INLINE })
}

/// An address handle in this provider's words: the driver's number of it.
pub(super) fn device_ah(ah_num: u32) -> DeviceAh {
    let mut words = [0; 10];
    words[0] = ah_num;
    DeviceAh(words)
}

fn ah_num(ah: &DeviceAh) -> u32 {
    ah.0[0]
}

#[inline]
fn raw(sge: &crate::types::Sge) -> Sge {
    Sge { addr: sge.addr, length: sge.length, lkey: sge.lkey.0 }
}

fn atomic(at: Remote, compare_add: u64, swap: u64, data: &Written) -> Result<WrUnion, PostErrorKind> {
    data.not_inline()?;
    if data.length != 8 {
        return Err(PostErrorKind::AtomicLength);
    }
    let arm = WrAtomic { remote_addr: at.addr, compare_add, swap, rkey: at.rkey.0, reserved: 0 };
    Ok(WrUnion::atomic(arm))
}

fn window(bind: &MwBind) -> WrUnion {
    WrUnion::mw(WrMw {
        addr: bind.part.addr,
        length: bind.part.length.into(),
        mr_lkey: bind.part.lkey.0,
        mw_rkey: bind.window.0,
        rkey: bind.rkey.0,
        access: bind.access.bits(),
    })
}

#[cfg(test)]
#[path = "wqe_tests.rs"]
mod tests;
