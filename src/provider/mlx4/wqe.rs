//! The requests in the slots, as ConnectX reads them: 16-byte segments of big-endian words.
//!
//! A send request is a control segment, then what its operation needs, then its data. The device may fetch a slot before it is told
//! to, in chunks of 64 bytes, and takes a chunk as valid by its first word: the owner bit of the control segment, and
//! elsewhere a byte count that is not all ones (slots are stamped so before they are used again). So the owner bit is
//! written last of all, and a byte count that begins a chunk after the rest of its chunk.

use crate::sys::barrier;
use crate::sys::region::{Region, Slot};
use crate::types::{
    Access, Data, Dest, MwBind, MwType, QpType, RecvWr, Refusal, Remote, SendFlags, SendOp, SendWr, Sge,
    UdAddr,
};

/// Bytes that the device fetches at once, and the smallest slot of a send queue.
pub(super) const CHUNK: usize = 64;

/// The largest segment header: the operation's part of a datagram.
const DATAGRAM: usize = 48;

/// Bytes of one segment.
const SEGMENT: usize = 16;

/// In the control segment's flags: report completion, solicited event, order strictly after what came before.
pub(super) const CQ_UPDATE: u32 = 3 << 2;
const SOLICIT: u32 = 1 << 1;
const STRONG_ORDER: u32 = 1 << 7;

/// Beside the size of the request: wait for earlier reads and atomics.
const FENCE: u32 = 1 << 6;

/// In an inline segment's byte count; alone, it stands for no bytes.
const INLINE: u32 = 1 << 31;

/// The key that ends a receive's list where it is shorter than its slot.
pub(super) const INVALID_LKEY: u32 = 0x100;

/// Operations, as a control segment and the sender's completion have them.
pub(super) mod opcode {
    pub(in super::super) const SEND_INVAL: u32 = 0x01;
    pub(in super::super) const RDMA_WRITE: u32 = 0x08;
    pub(in super::super) const RDMA_WRITE_IMM: u32 = 0x09;
    pub(in super::super) const SEND: u32 = 0x0a;
    pub(in super::super) const SEND_IMM: u32 = 0x0b;
    pub(in super::super) const RDMA_READ: u32 = 0x10;
    pub(in super::super) const ATOMIC_CS: u32 = 0x11;
    pub(in super::super) const ATOMIC_FA: u32 = 0x12;
    pub(in super::super) const BIND_MW: u32 = 0x18;
    pub(in super::super) const LOCAL_INVAL: u32 = 0x1b;
}

/// Where a send queue's requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the one peer.
    Connected,
    /// Each to an address of its own, with so many bytes at the most.
    Datagrams { mtu: u32 },
    /// To shared receive queues of the one peer.
    Xrc,
}

/// The longest datagram that any port takes, until the port is known.
const MAX_MTU: u32 = 4096;

/// What a send queue's slots have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) kind: Kind,
    /// Log2 of the bytes of a slot.
    pub(super) shift: u32,
    pub(super) max_sge: u32,
    pub(super) max_inline: u32,
}

impl Limits {
    /// For a queue of this kind with room for so many elements or inline bytes; nothing where no slot is so large.
    pub(super) fn new(qp_type: QpType, max_sge: u32, max_inline: u32) -> Option<Self> {
        let (kind, head, least) = match qp_type {
            QpType::Ud => (Kind::Datagrams { mtu: MAX_MTU }, DATAGRAM, 0),
            // A remote address; an atomic has another segment and one element.
            QpType::Rc => (Kind::Connected, SEGMENT, 3 * SEGMENT),
            QpType::XrcSend => (Kind::Xrc, SEGMENT, 3 * SEGMENT),
            _ => (Kind::Connected, SEGMENT, 0),
        };
        // An inline segment has a header of 4 bytes and ends where its chunk does.
        let before = (SEGMENT + head) % CHUNK;
        let inline = max_inline as usize;
        let inline = (inline + 4 * (inline + before).div_ceil(CHUNK - 4)).next_multiple_of(SEGMENT);
        let data = inline.max((max_sge as usize).checked_mul(SEGMENT)?);
        // Binding a window takes two segments.
        let size = SEGMENT + (head + data).max(least).max(2 * SEGMENT);
        let slot = size.max(CHUNK).checked_next_power_of_two()?;
        // What there is room for, which may be more than was asked for.
        let data = slot - SEGMENT - head;
        Some(Self {
            kind,
            shift: slot.trailing_zeros(),
            max_sge: u32::try_from(data / SEGMENT).ok()?,
            max_inline: u32::try_from(data - 4 * data.div_ceil(CHUNK)).ok()?,
        })
    }
}

/// A request that lies in its slot and is not valid yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) opcode: u32,
    /// Segments, control segment included.
    pub(super) segments: u32,
    /// The device needs no memory of this side's to begin with it: worth writing to BlueFlame.
    pub(super) complete: bool,
}

/// Where a request's control segment begins.
type Control<'r> = Slot<'r, SEGMENT>;

/// Writes all of a send request into the slot at `at` but the word that makes it valid. `flags` are the queue's own.
#[inline(always)] // a caller knows the operation and the kind of data: most of this is decided when it is compiled
pub(super) fn write_send(
    region: &mut Region,
    at: usize,
    wr: &SendWr<'_>,
    limits: Limits,
    flags: u32,
) -> Result<Written, Refusal> {
    let mut flags = flags;
    let mut imm = 0;
    let mut segments = 1;
    let mut complete = false;
    match (limits.kind, wr.dest) {
        (Kind::Connected, Dest::Connected) => {}
        (Kind::Connected, _) => return Err(Refusal::AddressNotAllowed),
        (Kind::Datagrams { mtu }, _) => {
            datagram(region, at, wr, mtu)?;
            segments = 1 + (DATAGRAM / SEGMENT) as u32;
        }
        (Kind::Xrc, Dest::Xrc(srqn)) => flags |= srqn.get() << 8,
        // What takes no receive of the peer's needs no queue there.
        (Kind::Xrc, Dest::Connected) if !takes_receive(wr.op) => {}
        (Kind::Xrc, Dest::Connected) => return Err(Refusal::AddressMissing),
        (Kind::Xrc, Dest::Ud(_)) => return Err(Refusal::AddressNotAllowed),
    }
    let opcode = match wr.op {
        SendOp::Send => opcode::SEND,
        SendOp::SendWithImm(data) => {
            imm = data;
            opcode::SEND_IMM
        }
        SendOp::SendWithInv(rkey) => {
            imm = rkey.0;
            opcode::SEND_INVAL
        }
        SendOp::Write(to) => {
            remote(region, at, to);
            (segments, complete) = (2, true);
            opcode::RDMA_WRITE
        }
        SendOp::WriteWithImm(to, data) => {
            remote(region, at, to);
            imm = data;
            (segments, complete) = (2, true);
            opcode::RDMA_WRITE_IMM
        }
        SendOp::Read(from) => {
            remote(region, at, from);
            segments = 2;
            opcode::RDMA_READ
        }
        SendOp::CompareSwap { remote, compare, swap } => {
            atomic(region, at, wr, remote, swap, compare)?;
            segments = 3;
            opcode::ATOMIC_CS
        }
        SendOp::FetchAdd { remote, add } => {
            atomic(region, at, wr, remote, add, 0)?;
            segments = 3;
            opcode::ATOMIC_FA
        }
        SendOp::BindMw(_) | SendOp::LocalInv(_) if !matches!(wr.data, Data::None) => {
            return Err(Refusal::DataNotAllowed);
        }
        SendOp::BindMw(bind) => {
            window(region, at, &bind);
            flags |= STRONG_ORDER;
            segments = 3;
            opcode::BIND_MW
        }
        SendOp::LocalInv(rkey) => {
            let mut slot = region.slot::<{ 3 * SEGMENT }>(at);
            slot.put(SEGMENT, [0, 0, rkey.0.to_be(), 0, 0, 0, 0, 0]);
            flags |= STRONG_ORDER;
            segments = 3;
            opcode::LOCAL_INVAL
        }
    };
    let reads = matches!(wr.op, SendOp::Read(_));
    let mut control: Control<'_> = match wr.data {
        Data::None => region.slot(at),
        // One element lies at a place that is known when this is compiled.
        Data::One(sge) if limits.max_sge > 0 && sge.length & INLINE == 0 && segments <= 3 => {
            let mut slot = region.slot::<CHUNK>(at);
            element(&mut slot, segments as usize * SEGMENT, &sge);
            segments += 1;
            complete = reads;
            slot.head()
        }
        Data::One(sge) => {
            segments = write_list(region, at, segments, std::slice::from_ref(&sge), limits)?;
            complete = reads;
            region.slot(at)
        }
        Data::List(sges) => {
            complete = reads || complete && sges.is_empty();
            segments = write_list(region, at, segments, sges, limits)?;
            region.slot(at)
        }
        Data::Inline(_) if reads => return Err(Refusal::InlineNotAllowed),
        Data::Inline(bytes) => {
            complete |= !bytes.is_empty();
            segments = write_inline(region, at, segments, bytes, limits)?;
            region.slot(at)
        }
    };
    if wr.flags.contains(SendFlags::SIGNALED) {
        flags |= CQ_UPDATE;
    }
    if wr.flags.contains(SendFlags::SOLICITED) {
        flags |= SOLICIT;
    }
    let fence = if wr.flags.contains(SendFlags::FENCE) { FENCE } else { 0 };
    control.put(4, (fence | segments).to_be());
    control.put(8, [flags.to_be(), imm.to_be()]);
    Ok(Written { opcode, segments, complete })
}

/// Whether an operation uses up a receive of the peer's.
fn takes_receive(op: SendOp) -> bool {
    matches!(op, SendOp::Send | SendOp::SendWithImm(_) | SendOp::SendWithInv(_) | SendOp::WriteWithImm(..))
}

/// A datagram segment, which follows the control segment; its data begin the next chunk.
#[inline(never)]
fn datagram(region: &mut Region, at: usize, wr: &SendWr<'_>, mtu: u32) -> Result<(), Refusal> {
    let UdAddr { ah, qpn, qkey } = match wr.dest {
        Dest::Ud(to) if matches!(wr.op, SendOp::Send | SendOp::SendWithImm(_)) => to,
        Dest::Connected => return Err(Refusal::AddressMissing),
        Dest::Ud(_) | Dest::Xrc(_) => return Err(Refusal::AddressNotAllowed),
    };
    let length = match wr.data {
        Data::None => 0,
        Data::One(sge) => sge.length.into(),
        Data::List(sges) => sges.iter().map(|sge| u64::from(sge.length)).sum(),
        Data::Inline(bytes) => bytes.len() as u64,
    };
    if length > mtu.into() {
        return Err(Refusal::DatagramTooLong { max: mtu });
    }
    let [vector @ .., vlan, mac] = ah.0;
    let mut slot = region.slot::<CHUNK>(at);
    slot.put(SEGMENT, vector);
    slot.put(3 * SEGMENT, [qpn.get().to_be(), qkey.0.to_be(), vlan, mac]);
    Ok(())
}

/// A remote address segment, which follows the control segment.
#[inline(always)]
fn remote(region: &mut Region, at: usize, remote: Remote) {
    let mut slot = region.slot::<{ 2 * SEGMENT }>(at);
    slot.put(SEGMENT, remote.addr.to_be());
    slot.put(SEGMENT + 8, [remote.rkey.0.to_be(), 0]);
}

/// A remote address segment and an atomic segment.
#[inline(always)]
fn atomic(
    region: &mut Region,
    at: usize,
    wr: &SendWr<'_>,
    to: Remote,
    swap_add: u64,
    compare: u64,
) -> Result<(), Refusal> {
    let length = match wr.data {
        Data::Inline(_) => return Err(Refusal::InlineNotAllowed),
        Data::None => 0,
        Data::One(sge) => sge.length.into(),
        Data::List(sges) => sges.iter().map(|sge| u64::from(sge.length)).sum(),
    };
    if length != 8 {
        return Err(Refusal::AtomicLength);
    }
    remote(region, at, to);
    region.slot::<{ 3 * SEGMENT }>(at).put(2 * SEGMENT, [swap_add.to_be(), compare.to_be()]);
    Ok(())
}

/// A data segment; where it begins a chunk, its first word is written last.
#[inline(always)]
fn element<const N: usize>(slot: &mut Slot<'_, N>, at: usize, sge: &Sge) {
    let count = if sge.length == 0 { INLINE } else { sge.length };
    slot.put(at + 4, sge.lkey.0.to_be());
    slot.put(at + 8, sge.addr.to_be());
    if at.is_multiple_of(CHUNK) {
        barrier::to_device();
    }
    slot.put(at, count.to_be());
}

/// Data segments after the first `segments`; gives how many segments there are then.
#[inline(never)]
fn write_list(
    region: &mut Region,
    at: usize,
    segments: u32,
    sges: &[Sge],
    limits: Limits,
) -> Result<u32, Refusal> {
    let room = ((1usize << limits.shift) / SEGMENT).saturating_sub(segments as usize);
    let max = room.min(limits.max_sge as usize);
    if sges.len() > max {
        return Err(Refusal::TooManySges { max: max as u32 });
    }
    if sges.iter().map(|sge| u64::from(sge.length)).sum::<u64>() >= INLINE.into() {
        return Err(Refusal::MessageTooLong);
    }
    // Backwards, so that the first word of a chunk comes after the rest of it.
    for (n, sge) in sges.iter().enumerate().rev() {
        let place = (segments as usize + n) * SEGMENT;
        let mut slot = region.slot::<SEGMENT>(at + place);
        let count = if sge.length == 0 { INLINE } else { sge.length };
        slot.put(4, sge.lkey.0.to_be());
        slot.put(8, sge.addr.to_be());
        if place.is_multiple_of(CHUNK) {
            barrier::to_device();
        }
        slot.put(0, count.to_be());
    }
    Ok(segments + sges.len() as u32)
}

/// Inline segments after the first `segments`, each within a chunk; gives how many segments there are then.
#[inline(never)]
fn write_inline(
    region: &mut Region,
    at: usize,
    segments: u32,
    bytes: &[u8],
    limits: Limits,
) -> Result<u32, Refusal> {
    if bytes.len() > limits.max_inline as usize {
        return Err(Refusal::InlineTooLong { max: limits.max_inline });
    }
    let mut place = segments as usize * SEGMENT;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(CHUNK - 4 - place % CHUNK));
        region.fill(at + place + 4, now);
        if place.is_multiple_of(CHUNK) {
            barrier::to_device();
        }
        region.fill(at + place, &(INLINE | now.len() as u32).to_be_bytes());
        place += 4 + now.len();
        rest = later;
    }
    Ok(place.div_ceil(SEGMENT) as u32)
}

/// A bind segment.
#[inline(never)]
fn window(region: &mut Region, at: usize, bind: &MwBind) {
    const ATOMIC: u32 = 1 << 31;
    const REMOTE_WRITE: u32 = 1 << 30;
    const REMOTE_READ: u32 = 1 << 29;
    const TYPE_2: u32 = 1 << 31;
    const ZERO_BASED: u32 = 1 << 30;
    let bits = |table: &[(bool, u32)]| -> u32 {
        table.iter().map(|(set, bit)| if *set { *bit } else { 0 }).fold(0, |all, bit| all | bit)
    };
    let may = |access| bind.access.contains(access);
    let access = bits(&[
        (may(Access::REMOTE_ATOMIC), ATOMIC),
        (may(Access::REMOTE_WRITE), REMOTE_WRITE),
        (may(Access::REMOTE_READ), REMOTE_READ),
    ]);
    let kind = bits(&[(bind.mw_type == MwType::Two, TYPE_2), (may(Access::ZERO_BASED), ZERO_BASED)]);
    let mut slot = region.slot::<{ 3 * SEGMENT }>(at);
    slot.put(SEGMENT, [access, kind, bind.rkey.0, bind.part.lkey.0].map(u32::to_be));
    slot.put(2 * SEGMENT, [bind.part.addr, bind.part.length.into()].map(u64::to_be));
}

/// Writes a receive's elements at `at`, where `max_sge` of them have room.
#[inline(always)]
pub(super) fn write_recv(
    region: &mut Region,
    at: usize,
    wr: &RecvWr<'_>,
    max_sge: u32,
) -> Result<(), Refusal> {
    match wr.data {
        // A slot has room for a power of two of elements: where it is not one, there is room for the end of the list too.
        Data::One(sge) if max_sge == 1 && sge.length != 0 && sge.length & INLINE == 0 => {
            scatter(&mut region.slot::<SEGMENT>(at), 0, &sge);
            Ok(())
        }
        Data::One(sge) if max_sge > 1 && sge.length != 0 && sge.length & INLINE == 0 => {
            let mut slot = region.slot::<{ 2 * SEGMENT }>(at);
            scatter(&mut slot, 0, &sge);
            end(&mut slot, SEGMENT);
            Ok(())
        }
        Data::One(sge) => scatter_list(region, at, &[sge], max_sge),
        Data::List(sges) => scatter_list(region, at, sges, max_sge),
        Data::None | Data::Inline(_) => scatter_list(region, at, &[], max_sge),
    }
}

#[inline(never)]
fn scatter_list(region: &mut Region, at: usize, sges: &[Sge], max_sge: u32) -> Result<(), Refusal> {
    if sges.len() > max_sge as usize {
        return Err(Refusal::TooManySges { max: max_sge });
    }
    let mut place = at;
    // A count of 0 ends the list: elements that take nothing are left out.
    for sge in sges.iter().filter(|sge| sge.length != 0) {
        if sge.length & INLINE != 0 {
            return Err(Refusal::MessageTooLong);
        }
        scatter(&mut region.slot::<SEGMENT>(place), 0, sge);
        place += SEGMENT;
    }
    if place < at + max_sge as usize * SEGMENT {
        end(&mut region.slot::<SEGMENT>(place), 0);
    }
    Ok(())
}

#[inline(always)]
fn scatter<const N: usize>(slot: &mut Slot<'_, N>, at: usize, sge: &Sge) {
    slot.put(at, [sge.length.to_be(), sge.lkey.0.to_be()]);
    slot.put(at + 8, sge.addr.to_be());
}

#[inline(always)]
fn end<const N: usize>(slot: &mut Slot<'_, N>, at: usize) {
    slot.put(at, [0, INVALID_LKEY.to_be()]);
    slot.put(at + 8, 0u64);
}

#[cfg(test)]
#[path = "wqe_tests.rs"]
mod tests;
