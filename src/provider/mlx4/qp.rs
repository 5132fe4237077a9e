//! ConnectX's queue pair: both queues in one piece of this process's memory, sends announced by a register, receives by a
//! doorbell record.

use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use zerocopy::IntoBytes;

use super::cqe::Key;
use super::queues::{Received, Registration, Shared};
use super::ring::{Producer, Ring};
use super::uar::{Register, Uar};
use super::wqe::{self, CHUNK, Kind, Limits, Written};
use super::{Context, Cq, Srq, dbrec};
use crate::error::{Error, Result};
use crate::sys::barrier;
use crate::sys::region::{Region, Word};
use crate::types::{PostError, QpType, RecvWr, Refusal, SendWr};
use crate::uapi::ioctl::verbs::QpCap;
use crate::uapi::mlx4::CreateQp;
use crate::uverbs::qp::{NewQp, QpInit};
use crate::uverbs::{Udata, Uverbs};

/// The bit of a request's first word that tells laps around the queue apart.
const OWNER: u32 = 1 << 31;

/// What the device must not take for a request in a chunk that it has fetched too early.
const STAMP: u32 = u32::MAX;

/// Bytes that the device may fetch beyond the last request.
const HEADROOM: u32 = 2048;

/// More inline bytes than this have no slot that a device knows.
const MAX_INLINE: u32 = 1024;

/// A send queue.
pub(crate) struct Sq {
    region: Region,
    ring: Producer,
    /// Slots, a power of two.
    slots: u32,
    /// Slots that are never filled, so that the device may fetch ahead.
    spare: u32,
    limits: Limits,
    /// What the queue adds to each request's flags.
    flags: u32,
    /// Its number as the doorbell takes it.
    doorbell: u32,
    uar: Arc<Uar>,
    blueflame: Option<Register>,
}

/// A receive queue.
pub(crate) struct Rq {
    region: Region,
    ring: Producer,
    slots: u32,
    /// Log2 of the bytes of a slot.
    shift: u32,
    max_sge: u32,
    record: Option<Word>,
}

/// What the kernel's object uses as long as it is there, and where its completions go.
#[derive(Debug)]
pub(crate) struct Hold {
    completions: Completions,
    registered: Mutex<[Option<Registration>; 2]>,
    _record: Option<dbrec::Record>,
}

/// Where completions go, and by which number.
#[derive(Debug)]
struct Completions {
    qpn: u32,
    send_cq: Option<Arc<Shared>>,
    recv_cq: Option<Arc<Shared>>,
    srq: Option<Arc<super::srq::Ring>>,
}

impl Completions {
    /// Registers the queues where they complete: together where that is the same.
    fn register(&self, sent: Arc<Ring>, received: Arc<Ring>) -> [Option<Registration>; 2] {
        let key = Key::Qp(self.qpn);
        let received = match &self.srq {
            Some(srq) => Received::Srq(Arc::clone(srq)),
            None => Received::Rq(received),
        };
        match (&self.send_cq, &self.recv_cq) {
            (Some(send_cq), Some(recv_cq)) if Arc::ptr_eq(send_cq, recv_cq) => {
                [Some(send_cq.register(key, Some(sent), received)), None]
            }
            (send_cq, recv_cq) => [
                send_cq.as_ref().map(|cq| cq.register(key, Some(sent), Received::Nowhere)),
                recv_cq.as_ref().map(|cq| cq.register(key, None, received)),
            ],
        }
    }
}

/// How large the queues of a queue pair are, and where they lie in its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    send: Limits,
    send_slots: u32,
    spare: u32,
    recv_slots: u32,
    recv_shift: u32,
}

impl Layout {
    /// For these sizes, of which those of queues that there are not count for nothing.
    fn new(qp_type: QpType, cap: &QpCap, has_rq: bool) -> Option<Self> {
        let (send, send_slots, spare) = if qp_type == QpType::XrcRecv {
            (Limits { kind: Kind::Connected, shift: 0, max_sge: 0, max_inline: 0 }, 0, 0)
        } else {
            let send = Limits::new(qp_type, cap.max_send_sge, cap.max_inline_data)?;
            let spare = (HEADROOM >> send.shift) + 1;
            (send, cap.max_send_wr.checked_add(spare)?.checked_next_power_of_two()?, spare)
        };
        let (recv_slots, recv_shift) = if has_rq {
            let slot = cap.max_recv_sge.max(1).checked_mul(16)?.checked_next_power_of_two()?;
            (cap.max_recv_wr.max(1).checked_next_power_of_two()?, slot.trailing_zeros())
        } else {
            (0, 0)
        };
        Some(Self { send, send_slots, spare, recv_slots, recv_shift })
    }

    fn send_bytes(&self) -> usize {
        (self.send_slots as usize) << self.send.shift
    }

    fn recv_bytes(&self) -> usize {
        (self.recv_slots as usize) << self.recv_shift
    }

    /// The queue with the larger slots comes first, and of equal ones the send queue: the device goes by that.
    fn split(&self, memory: Region) -> (Region, Region) {
        if self.recv_shift > self.send.shift {
            let (recv, send) = memory.split(self.recv_bytes());
            (send, recv)
        } else {
            memory.split(self.send_bytes())
        }
    }
}

/// Makes a queue pair; gives it, its queues, of receives only where it has one of its own, and what must outlive the kernel's
/// object.
pub(crate) fn create(
    ctx: &Context,
    uverbs: &Uverbs,
    init: &QpInit,
    send_cq: Option<&Cq>,
    recv_cq: Option<&Cq>,
    srq: Option<&Srq>,
) -> Result<(NewQp, Sq, Option<Rq>, Hold)> {
    let fail = |errno| uverbs.error("create_qp", errno);
    let qp_type = QpType::from(init.qp_type);
    let has_rq = init.srq_handle.is_none() && !matches!(qp_type, QpType::XrcSend | QpType::XrcRecv);
    ctx.check(uverbs, &init.cap).map_err(fail)?;
    let layout = Layout::new(qp_type, &init.cap, has_rq)
        .filter(|_| init.cap.max_inline_data <= MAX_INLINE)
        .ok_or(fail(Errno::EINVAL))?;
    // A mapping has a byte at least.
    let bytes = (layout.send_bytes() + layout.recv_bytes()).max(1);
    let memory = Region::anonymous(bytes).map_err(fail)?;
    let record = if has_rq { Some(ctx.records.take().map_err(fail)?) } else { None };
    let input = CreateQp {
        buf_addr: memory.address(),
        db_addr: record.as_ref().map_or(0, dbrec::Record::address),
        log_sq_bb_count: layout.send_slots.checked_ilog2().unwrap_or(0) as u8,
        log_sq_stride: layout.send.shift as u8,
        ..CreateQp::default()
    };
    let word = record.as_ref().map(|record| record.word(0));
    let (send, recv) = layout.split(memory);
    let mut init = *init;
    init.cap.max_recv_wr = if has_rq { init.cap.max_recv_wr.max(1) } else { 0 };
    init.cap.max_recv_sge = if has_rq { init.cap.max_recv_sge.max(1) } else { 0 };
    let mut made = uverbs.create_qp(&init, Udata { input: input.as_bytes(), output: &mut [] })?;
    if has_rq
        && (made.cap.max_recv_wr > layout.recv_slots || made.cap.max_recv_sge > 1 << layout.recv_shift >> 4)
    {
        // Nothing to add to the error.
        let _ = uverbs.destroy_qp(made.handle);
        let QpCap { max_recv_wr, max_recv_sge, .. } = made.cap;
        let why =
            format!("the kernel made a receive queue of {max_recv_wr} receives of {max_recv_sge} elements");
        return Err(Error::bad_answer("create_qp", uverbs.device(), why));
    }
    made.cap.max_send_wr = layout.send_slots - layout.spare;
    made.cap.max_send_sge = layout.send.max_sge;
    made.cap.max_inline_data = layout.send.max_inline;
    let (sq, sent) = Sq::new(&ctx.uar, send, &layout, made.qp_num, init.sq_sig_all);
    let (rq, received) = Rq::new(recv, &layout, made.cap.max_recv_wr, word);
    let shared = |cq: Option<&Cq>| cq.map(|cq| Arc::clone(cq.shared()));
    let completions = Completions {
        qpn: made.qp_num,
        send_cq: shared(send_cq),
        recv_cq: shared(recv_cq),
        srq: srq.map(|srq| Arc::clone(srq.ring())),
    };
    let registered = Mutex::new(completions.register(sent, received));
    Ok((made, sq, has_rq.then_some(rq), Hold { completions, registered, _record: record }))
}

impl Hold {
    /// The queue pair is in the state RESET: nothing of it is outstanding, and the device counts from 0 again.
    pub(crate) fn reset(&self, sq: &mut Sq, rq: Option<&mut Rq>) {
        let mut registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        // What is in the completion queues is of the old registration, which ends here.
        *registered = [None, None];
        let received = rq.map_or_else(|| Ring::new(0), Rq::reset);
        *registered = self.completions.register(sq.reset(), received);
    }
}

impl Sq {
    fn new(uar: &Arc<Uar>, region: Region, layout: &Layout, qpn: u32, sq_sig_all: bool) -> (Self, Arc<Ring>) {
        let ring = Ring::new(layout.send_slots);
        let mut sq = Self {
            region,
            ring: Producer::new(Arc::clone(&ring), layout.send_slots - layout.spare),
            slots: layout.send_slots,
            spare: layout.spare,
            limits: layout.send,
            flags: if sq_sig_all { wqe::CQ_UPDATE } else { 0 },
            doorbell: (qpn << 8).to_be(),
            uar: Arc::clone(uar),
            blueflame: uar.register(),
        };
        sq.disown();
        (sq, ring)
    }

    /// No slot is valid, and none can be taken for it.
    fn disown(&mut self) {
        for number in 0..self.slots {
            let segments = ((1u32 << self.limits.shift) / 16).min(0x3f);
            let at = self.offset(number);
            self.region.slot::<8>(at).put(0, [OWNER.to_be(), segments.to_be()]);
            self.stamp(number);
        }
    }

    /// From now on a datagram may have `mtu` bytes.
    pub(crate) fn set_mtu(&mut self, mtu: u32) {
        self.limits.kind = Kind::Datagrams { mtu };
    }

    /// Begins anew; gives the new ring.
    fn reset(&mut self) -> Arc<Ring> {
        let ring = Ring::new(self.slots);
        self.ring = self.ring.renewed(&ring);
        self.disown();
        ring
    }

    #[inline(always)]
    fn offset(&self, number: u32) -> usize {
        (number as usize & (self.slots as usize).wrapping_sub(1)) << self.limits.shift
    }

    /// Posts requests and rings the doorbell once for all of them.
    #[inline(always)]
    pub(crate) fn post<'a>(&mut self, wrs: impl IntoIterator<Item = SendWr<'a>>) -> Result<(), PostError> {
        let mut refused = None;
        let mut posted = 0;
        let mut last = Written { opcode: 0, segments: 0, complete: false };
        let mut number = 0u32;
        for wr in wrs {
            // The headroom behind the request before this one: after the doorbell for the last, where it costs no time.
            if posted > 0 {
                self.stamp(number.wrapping_add(self.spare));
            }
            match self.push(&wr) {
                Ok((at, written)) => (number, last) = (at, written),
                Err(refusal) => {
                    refused = Some(PostError { posted, refusal });
                    break;
                }
            }
            posted += 1;
        }
        if posted > 0 {
            // The requests are valid. Their count, for who polls; then what makes the device look: the request itself into a
            // BlueFlame register where it is the only one and short, else the doorbell.
            let next = self.ring.publish();
            match &mut self.blueflame {
                Some(register) if posted == 1 && fits(&last, register) => {
                    let at = (number as usize & (self.slots as usize).wrapping_sub(1)) << self.limits.shift;
                    let owner = owner(number, self.slots, last.opcode) | (number & 0xffff) << 8;
                    let mut control = self.region.slot::<8>(at);
                    control.hand_over(4, control.get::<u32>(4) | self.doorbell);
                    control.hand_over(0, owner.to_be());
                    register.write(&self.region, at, (last.segments as usize * 16).div_ceil(CHUNK));
                }
                _ => {
                    barrier::before_doorbell();
                    self.uar.ring_send(self.doorbell);
                }
            }
            self.stamp(next.wrapping_sub(1).wrapping_add(self.spare));
        }
        refused.map_or(Ok(()), Err)
    }

    #[inline(always)]
    fn push(&mut self, wr: &SendWr<'_>) -> Result<(u32, Written), Refusal> {
        let number = self.ring.next().ok_or_else(|| full(self.slots))?;
        let at = self.offset(number);
        let written = wqe::write_send(&mut self.region, at, wr, self.limits, self.flags)?;
        // The device may begin as soon as it sees the owner bit: all of the request comes before.
        barrier::to_device();
        self.region.slot::<8>(at).hand_over(0, owner(number, self.slots, written.opcode).to_be());
        self.ring.fill(wr.wr_id);
        Ok((number, written))
    }

    /// Makes a slot that was used before invalid beyond its first chunk, whose owner bit says so.
    #[inline(always)]
    fn stamp(&mut self, number: u32) {
        // The smallest slot is one chunk.
        if 1 << self.limits.shift > CHUNK {
            self.stamp_chunks(number);
        }
    }

    #[inline(never)]
    fn stamp_chunks(&mut self, number: u32) {
        let at = self.offset(number);
        let segments = u32::from_be(self.region.slot::<8>(at).get(4)) & 0x3f;
        let used = (segments as usize * 16).min(1 << self.limits.shift);
        for chunk in (CHUNK..used).step_by(CHUNK) {
            self.region.slot::<4>(at + chunk).put(0, STAMP);
        }
    }
}

/// Why a queue of so many slots takes no request.
#[cold]
fn full(slots: u32) -> Refusal {
    if slots == 0 { Refusal::NoQueue } else { Refusal::QueueFull }
}

/// The first word of the request with this number, which makes it valid.
#[inline(always)]
fn owner(number: u32, slots: u32, opcode: u32) -> u32 {
    opcode | if number & slots != 0 { OWNER } else { 0 }
}

/// Whether a request is worth writing to a register, and fits it.
#[inline(always)]
fn fits(request: &Written, register: &Register) -> bool {
    request.complete && request.segments > 1 && request.segments as usize * 16 <= register.capacity()
}

impl Rq {
    fn new(region: Region, layout: &Layout, max_wr: u32, record: Option<Word>) -> (Self, Arc<Ring>) {
        let ring = Ring::new(layout.recv_slots);
        let rq = Self {
            region,
            ring: Producer::new(Arc::clone(&ring), max_wr.min(layout.recv_slots)),
            slots: layout.recv_slots,
            shift: layout.recv_shift,
            max_sge: (1 << layout.recv_shift) / 16,
            record,
        };
        (rq, ring)
    }

    /// Begins anew; gives the new ring.
    fn reset(&mut self) -> Arc<Ring> {
        let ring = Ring::new(self.slots);
        self.ring = self.ring.renewed(&ring);
        if let Some(record) = &self.record {
            record.store(0);
        }
        ring
    }

    /// Posts receives. The device looks at the doorbell record when a message comes in.
    #[inline(always)]
    pub(crate) fn post<'a>(&mut self, wrs: impl IntoIterator<Item = RecvWr<'a>>) -> Result<(), PostError> {
        let mut refused = None;
        let mut posted = 0;
        for wr in wrs {
            if let Err(refusal) = self.push(&wr) {
                refused = Some(PostError { posted, refusal });
                break;
            }
            posted += 1;
        }
        if posted > 0
            && let Some(record) = &self.record
        {
            let next = self.ring.publish();
            // The receives, before the count by which the device takes them.
            barrier::to_device();
            record.store((next & 0xffff).to_be());
        }
        refused.map_or(Ok(()), Err)
    }

    #[inline(always)]
    fn push(&mut self, wr: &RecvWr<'_>) -> Result<(), Refusal> {
        let number = self.ring.next().ok_or_else(|| full(self.slots))?;
        let at = (number as usize & (self.slots as usize).wrapping_sub(1)) << self.shift;
        wqe::write_recv(&mut self.region, at, wr, self.max_sge)?;
        self.ring.fill(wr.wr_id);
        Ok(())
    }
}

#[cfg(test)]
#[path = "qp_tests.rs"]
mod tests;
