//! The requests in the slots, as ConnectX reads them: 16-byte segments of big-endian words.
//!
//! A send request is a control segment, then what its operation needs, then its data. The device may fetch a slot before the doorbell says
//! to, in chunks of 64 bytes, and takes a chunk as valid by its first word: the owner bit of the control segment, and
//! elsewhere a byte count that is not all ones (slots are stamped so before they are used again). So the owner bit is
//! written last of all, and a byte count that begins a chunk after the rest of its chunk.

mod limits;
mod recv;

pub(super) use limits::{Kind, Limits};
pub(super) use recv::{Elements, INVALID_LKEY, write_recv};

use crate::sys::barrier;
use crate::sys::region::Slot;
use crate::sys::slots::Slots;
use crate::types::{
    Access, Data, Dest, MwBind, MwType, PostErrorKind, Remote, SendFlags, SendOp, SendWr, Sge, UdAddr,
};

/// Bytes that the device fetches at once, and the smallest slot of a send queue.
pub(super) const CHUNK: usize = 64;

/// The largest segment header: the operation's part of a datagram.
const DATAGRAM: usize = 48;

/// Bytes of one segment, and how many make a chunk.
const SEGMENT: usize = 16;
pub(super) const SEGMENTS: u32 = (CHUNK / SEGMENT) as u32;

/// In the control segment's flags, as they lie there: report completion, solicited event, order strictly after what came before.
pub(super) const CQ_UPDATE: u32 = (3u32 << 2).to_be();
const SOLICIT: u32 = (1u32 << 1).to_be();
const STRONG_ORDER: u32 = (1u32 << 7).to_be();

/// What a request's flags add to the word with its size, and to its flags; by their bits.
static FLAGS: [(u32, u32); 8] = {
    let mut table = [(0, 0); 8];
    let mut bits = 0;
    while bits < table.len() {
        let flags = SendFlags::from_bits(bits as u32);
        if flags.contains(SendFlags::FENCE) {
            table[bits].0 |= FENCE;
        }
        if flags.contains(SendFlags::SIGNALED) {
            table[bits].1 |= CQ_UPDATE;
        }
        if flags.contains(SendFlags::SOLICITED) {
            table[bits].1 |= SOLICIT;
        }
        bits += 1;
    }
    table
};

/// Beside the size of the request: wait for earlier reads and atomics.
const FENCE: u32 = (1u32 << 6).to_be();

/// In an inline segment's byte count; alone, it stands for no bytes.
const INLINE: u32 = 1 << 31;

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

/// A request that lies in its slot and is not valid yet.
pub(super) struct Draft<'r> {
    head: Chunk<'r>,
    pub(super) written: Written,
}

impl Draft<'_> {
    /// Makes it valid, by the owner bit of this lap.
    #[inline(always)]
    pub(super) fn hand_over(mut self, owner: u32) -> Written {
        // The device may begin as soon as it sees the owner bit: all of the request comes before.
        barrier::to_device();
        self.head.hand_over(0, (owner | self.written.opcode).to_be());
        self.written
    }
}

/// What lies in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) opcode: u32,
    /// Segments, control segment included.
    pub(super) segments: u32,
    /// The device can begin without reading other memory of this process: worth writing to BlueFlame.
    pub(super) self_contained: bool,
}

impl Written {
    /// Chunks that it takes.
    #[inline(always)]
    pub(super) fn chunks(&self) -> u32 {
        self.segments.div_ceil(SEGMENTS)
    }
}

/// A send queue's memory.
pub(super) type Chunks = Slots<CHUNK>;

/// A chunk: the first of a request has room for all but its data.
type Chunk<'r> = Slot<'r, CHUNK>;

/// Writes a send request into the slot that begins with chunk `first`, all but the word that makes it valid. `flags` are the
/// queue's own.
#[inline(always)] // a caller knows the operation and the kind of data: most of this is decided when it is compiled
pub(super) fn write_send<'r>(
    chunks: &'r mut Chunks,
    first: u32,
    wr: &SendWr<'_>,
    limits: &Limits,
    flags: u32,
) -> Result<Draft<'r>, PostErrorKind> {
    let mut flags = flags;
    let mut imm = 0;
    let mut segments = 1;
    let mut self_contained = false;
    let mut head = chunks.slot(first);
    match (limits.kind, wr.dest) {
        (Kind::Connected, Dest::Connected) => {}
        (Kind::Connected, _) => return Err(PostErrorKind::AddressNotAllowed),
        (Kind::Datagrams { mtu }, Dest::Ud(to)) if is_datagram(wr.op) => {
            datagram(&mut head, to, wr.data.length(), mtu)?;
            segments = 1 + (DATAGRAM / SEGMENT) as u32;
        }
        (Kind::Datagrams { .. }, Dest::Connected) => return Err(PostErrorKind::AddressMissing),
        (Kind::Datagrams { .. }, _) => return Err(PostErrorKind::AddressNotAllowed),
        (Kind::Xrc, Dest::Xrc(srqn)) => flags |= (srqn.get() << 8).to_be(),
        // What takes no receive of the peer's needs no queue there.
        (Kind::Xrc, Dest::Connected) if !takes_receive(wr.op) => {}
        (Kind::Xrc, Dest::Connected) => return Err(PostErrorKind::AddressMissing),
        (Kind::Xrc, Dest::Ud(_)) => return Err(PostErrorKind::AddressNotAllowed),
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
            remote(&mut head, to);
            (segments, self_contained) = (2, true);
            opcode::RDMA_WRITE
        }
        SendOp::WriteWithImm(to, data) => {
            remote(&mut head, to);
            imm = data;
            (segments, self_contained) = (2, true);
            opcode::RDMA_WRITE_IMM
        }
        SendOp::Read(from) => {
            remote(&mut head, from);
            segments = 2;
            opcode::RDMA_READ
        }
        SendOp::CompareSwap { remote, compare, swap } => {
            atomic(&mut head, wr.data, remote, swap, compare)?;
            segments = 3;
            opcode::ATOMIC_CS
        }
        SendOp::FetchAdd { remote, add } => {
            atomic(&mut head, wr.data, remote, add, 0)?;
            segments = 3;
            opcode::ATOMIC_FA
        }
        SendOp::BindMw(_) | SendOp::LocalInv(_) if !matches!(wr.data, Data::None) => {
            return Err(PostErrorKind::DataNotAllowed);
        }
        SendOp::BindMw(bind) => {
            window(&mut head, &bind);
            flags |= STRONG_ORDER;
            segments = 3;
            opcode::BIND_MW
        }
        SendOp::LocalInv(rkey) => {
            head.put(SEGMENT, [0, 0, rkey.0.to_be(), 0, 0, 0, 0, 0]);
            flags |= STRONG_ORDER;
            segments = 3;
            opcode::LOCAL_INVAL
        }
    };
    let reads = matches!(wr.op, SendOp::Read(_));
    match wr.data {
        Data::None => {}
        Data::One(sge) if sge.length & INLINE != 0 => return Err(PostErrorKind::MessageTooLong),
        // One element has room behind whatever comes before it, at a place that is known when this is compiled.
        Data::One(sge) => {
            let place = segments as usize * SEGMENT;
            if place < CHUNK {
                element(&mut head, place, &sge);
            } else {
                element(&mut chunks.slot(chunk(first, place)), place % CHUNK, &sge);
            }
            segments += 1;
            self_contained = reads;
        }
        Data::List(sges) => {
            self_contained = reads || self_contained && sges.is_empty();
            segments = write_list(chunks, first, segments, sges, limits)?;
        }
        Data::Inline(_) if reads => return Err(PostErrorKind::InlineNotAllowed),
        Data::Inline(bytes) => {
            self_contained |= !bytes.is_empty();
            segments = write_inline(chunks, first, segments, bytes, limits.max_inline)?;
        }
    }
    let mut head = chunks.slot(first);
    let (fence, own) = FLAGS[(wr.flags.bits() & SendFlags::all().bits()) as usize];
    head.put(4, fence | segments.to_be());
    head.put::<u64>(8, zerocopy::transmute!([flags | own, imm.to_be()]));
    Ok(Draft { head, written: Written { opcode, segments, self_contained } })
}

/// Whether datagrams can do it.
fn is_datagram(op: SendOp) -> bool {
    matches!(op, SendOp::Send | SendOp::SendWithImm(_))
}

/// Whether an operation uses up a receive of the peer's.
fn takes_receive(op: SendOp) -> bool {
    matches!(op, SendOp::Send | SendOp::SendWithImm(_) | SendOp::SendWithInv(_) | SendOp::WriteWithImm(..))
}

/// A datagram segment, which follows the control segment; its data begin the next chunk.
#[inline(never)]
fn datagram(head: &mut Chunk<'_>, to: UdAddr<'_>, length: u64, mtu: u32) -> Result<(), PostErrorKind> {
    if length > mtu.into() {
        return Err(PostErrorKind::DatagramTooLong { max: mtu });
    }
    let [vector @ .., vlan, mac] = to.ah.0;
    head.put(SEGMENT, vector);
    head.put(3 * SEGMENT, [to.qpn.get().to_be(), to.qkey.0.to_be(), vlan, mac]);
    Ok(())
}

/// A remote address segment, which follows the control segment.
#[inline(always)]
fn remote(head: &mut Chunk<'_>, remote: Remote) {
    head.put(SEGMENT, remote.addr.to_be());
    head.put(SEGMENT + 8, [remote.rkey.0.to_be(), 0]);
}

/// A remote address segment and an atomic segment.
#[inline(always)]
fn atomic(
    head: &mut Chunk<'_>,
    data: Data<'_>,
    to: Remote,
    swap_add: u64,
    compare: u64,
) -> Result<(), PostErrorKind> {
    if matches!(data, Data::Inline(_)) {
        return Err(PostErrorKind::InlineNotAllowed);
    }
    if data.length() != 8 {
        return Err(PostErrorKind::AtomicLength);
    }
    remote(head, to);
    head.put(2 * SEGMENT, [swap_add.to_be(), compare.to_be()]);
    Ok(())
}

/// A data segment; where it begins a chunk, its first word is written last.
#[inline(always)]
fn element(chunk: &mut Chunk<'_>, at: usize, sge: &Sge) {
    let count = if sge.length == 0 { INLINE } else { sge.length };
    chunk.put(at + 8, sge.addr.to_be());
    if at == 0 {
        chunk.put(4, sge.lkey.0.to_be());
        barrier::to_device();
        chunk.put(0, count.to_be());
    } else {
        chunk.put(at, (u64::from(count) << 32 | u64::from(sge.lkey.0)).to_be());
    }
}

/// Data segments after the first `segments`; gives how many segments there are then.
#[inline(never)]
fn write_list(
    chunks: &mut Chunks,
    first: u32,
    segments: u32,
    sges: &[Sge],
    limits: &Limits,
) -> Result<u32, PostErrorKind> {
    let room = limits.segments().saturating_sub(segments as usize);
    let max = room.min(limits.max_sge as usize);
    if sges.len() > max {
        return Err(PostErrorKind::TooManySges { max: max as u32 });
    }
    if sges.iter().map(|sge| u64::from(sge.length)).sum::<u64>() >= INLINE.into() {
        return Err(PostErrorKind::MessageTooLong);
    }
    // Backwards, so that the first word of a chunk comes after the rest of it.
    for (n, sge) in sges.iter().enumerate().rev() {
        let place = (segments as usize + n) * SEGMENT;
        element(&mut chunks.slot(chunk(first, place)), place % CHUNK, sge);
    }
    Ok(segments + sges.len() as u32)
}

/// Inline segments after the first `segments`, each within a chunk; gives how many segments there are then.
#[inline(always)] // where the length is known when this is compiled, little is left of it
fn write_inline(
    chunks: &mut Chunks,
    first: u32,
    segments: u32,
    bytes: &[u8],
    max: u32,
) -> Result<u32, PostErrorKind> {
    if bytes.len() > max as usize {
        return Err(PostErrorKind::InlineTooLong { max });
    }
    let place = segments as usize * SEGMENT;
    let (now, later) = bytes.split_at(bytes.len().min(CHUNK - place % CHUNK - 4));
    if now.is_empty() {
        return Ok(segments);
    }
    inline(&mut chunks.slot(chunk(first, place)), place % CHUNK, now);
    let mut end = place + 4 + now.len();
    for part in later.chunks(CHUNK - 4) {
        inline(&mut chunks.slot(chunk(first, end)), 0, part);
        end += 4 + part.len();
    }
    Ok(end.div_ceil(SEGMENT) as u32)
}

/// An inline segment, which does not reach beyond its chunk; where it begins the chunk, its first word is written last.
#[inline(always)]
fn inline(chunk: &mut Chunk<'_>, at: usize, bytes: &[u8]) {
    chunk.fill(at + 4, bytes);
    if at == 0 {
        barrier::to_device();
    }
    chunk.put(at, (INLINE | bytes.len() as u32).to_be());
}

/// The number of the chunk that has this byte of a request.
#[inline(always)]
fn chunk(first: u32, place: usize) -> u32 {
    first.wrapping_add((place / CHUNK) as u32)
}

/// A bind segment.
#[inline(never)]
fn window(head: &mut Chunk<'_>, bind: &MwBind) {
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
    head.put(SEGMENT, [access, kind, bind.rkey.0, bind.part.lkey.0].map(u32::to_be));
    head.put(2 * SEGMENT, [bind.part.addr, bind.part.length.into()].map(u64::to_be));
}

#[cfg(test)]
#[path = "wqe_tests.rs"]
mod tests;
