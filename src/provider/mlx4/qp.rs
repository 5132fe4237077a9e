//! ConnectX's queue pair: both queues in one piece of this process's memory, sends announced by a register, receives by a
//! doorbell record.

use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use zerocopy::IntoBytes;

use super::cqe::Key;
use super::layout::Layout;
use super::queues::{Received, Registration, Shared};
use super::ring::{Producer, Ring};
use super::uar::{Register, Uar};
use super::wqe::{self, CHUNK, Chunks, Elements, Kind, Limits, SEGMENTS, Written};
use super::{Context, Cq, Srq, dbrec};
use crate::error::{Error, Result};
use crate::sys::barrier;
use crate::sys::region::{Region, Word};
use crate::types::{Data, Dest, PostError, PostErrorKind, QpType, RecvWr, SendOp, SendWr};
use crate::uapi::ioctl::verbs::QpCap;
use crate::uapi::mlx4::CreateQp;
use crate::uverbs::qp::{NewQp, QpInit};
use crate::uverbs::{Udata, Uverbs};

/// The bit of a request's first word that tells laps around the queue apart.
const OWNER: u32 = 1 << 31;

/// What the device must not take for a request in a chunk that it has fetched too early.
const STAMP: u32 = u32::MAX;

/// A send queue.
pub(crate) struct Sq {
    chunks: Chunks,
    ring: Producer,
    /// Slots, a power of two.
    slots: u32,
    /// Log2 of the chunks of a slot.
    shift: u32,
    /// Slots that are never filled, so that the device may fetch ahead.
    spare: u32,
    /// Segments of the longest request so far.
    longest: u32,
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
    elements: Elements,
    ring: Producer,
    slots: u32,
    /// Log2 of the elements of a slot.
    shift: u32,
    record: Word,
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
    fn register(&self, sent: Option<Arc<Ring>>, received: Option<Arc<Ring>>) -> [Option<Registration>; 2] {
        let key = Key::qp(self.qpn);
        let received = match (&self.srq, received) {
            (Some(srq), _) => Received::Srq(Arc::clone(srq)),
            (None, Some(ring)) => Received::Rq(ring),
            (None, None) => Received::Nowhere,
        };
        match (&self.send_cq, &self.recv_cq) {
            (Some(send_cq), Some(recv_cq)) if Arc::ptr_eq(send_cq, recv_cq) => {
                [Some(send_cq.register(key, sent, received)), None]
            }
            (send_cq, recv_cq) => [
                send_cq.as_ref().map(|cq| cq.register(key, sent, Received::Nowhere)),
                recv_cq.as_ref().map(|cq| cq.register(key, None, received)),
            ],
        }
    }
}

/// Makes a queue pair; gives it, the queues that it has of its own, and what must outlive the kernel's object.
pub(crate) fn create(
    ctx: &Context,
    uverbs: &Uverbs,
    init: &QpInit,
    send_cq: Option<&Cq>,
    recv_cq: Option<&Cq>,
    srq: Option<&Srq>,
) -> Result<(NewQp, Option<Sq>, Option<Rq>, Hold)> {
    let fail = |errno| uverbs.error("create_qp", errno);
    let qp_type = QpType::from(init.qp_type);
    let has_rq = init.srq_handle.is_none() && !matches!(qp_type, QpType::XRC_SEND | QpType::XRC_RECV);
    ctx.check(uverbs, &init.cap).map_err(fail)?;
    let layout = Layout::new(qp_type, &init.cap, has_rq).ok_or(fail(Errno::EINVAL))?;
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
    let queues = || {
        let sq = (layout.send_slots > 0)
            .then(|| Sq::new(&ctx.uar, send, &layout, made.qp_num, init.sq_sig_all))
            .transpose()?;
        let rq = word.map(|word| Rq::new(recv, &layout, made.cap.max_recv_wr, word)).transpose()?;
        Ok((sq, rq))
    };
    let (sq, rq) = queues().map_err(|errno| {
        // Nothing to add to the error.
        let _ = uverbs.destroy_qp(made.handle);
        fail(errno)
    })?;
    let shared = |cq: Option<&Cq>| cq.map(|cq| Arc::clone(cq.shared()));
    let completions = Completions {
        qpn: made.qp_num,
        send_cq: shared(send_cq),
        recv_cq: shared(recv_cq),
        srq: srq.map(|srq| Arc::clone(srq.ring())),
    };
    let registered = completions.register(sq.as_ref().map(Sq::ring), rq.as_ref().map(Rq::ring));
    Ok((made, sq, rq, Hold { completions, registered: Mutex::new(registered), _record: record }))
}

impl Hold {
    /// The queue pair is in the state RESET: nothing of it is outstanding, and the device counts from 0 again.
    ///
    /// # Errors
    /// There is not enough memory for new rings. Then nothing can be posted until the queue pair is reset again.
    pub(crate) fn reset(&self, sq: Option<&mut Sq>, rq: Option<&mut Rq>) -> Result<(), Errno> {
        let mut registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        // What is in the completion queues belongs to the old registration, which ends here.
        *registered = [None, None];
        let sent = sq.as_ref().map(|sq| Ring::new(sq.slots)).transpose();
        let received = rq.as_ref().map(|rq| Ring::new(rq.slots)).transpose();
        let (sent, received, outcome) = match (sent, received) {
            (Ok(sent), Ok(received)) => (sent, received, Ok(())),
            (Err(errno), _) | (_, Err(errno)) => (None, None, Err(errno)),
        };
        if let Some(sq) = sq {
            sq.reset(sent.clone());
        }
        if let Some(rq) = rq {
            rq.reset(received.clone());
        }
        *registered = self.completions.register(sent, received);
        outcome
    }
}

impl Sq {
    /// A queue of a slot at least.
    fn new(
        uar: &Arc<Uar>,
        memory: Region,
        layout: &Layout,
        qpn: u32,
        sq_sig_all: bool,
    ) -> Result<Self, Errno> {
        let chunks = layout.send_slots << (layout.send.shift - CHUNK.trailing_zeros());
        let mut sq = Self {
            chunks: Chunks::new(memory, chunks).ok_or(Errno::EINVAL)?,
            ring: Producer::new(Ring::new(layout.send_slots)?, layout.send_slots - layout.spare),
            slots: layout.send_slots,
            shift: layout.send.shift - CHUNK.trailing_zeros(),
            spare: layout.spare,
            longest: 0,
            limits: layout.send,
            flags: if sq_sig_all { wqe::CQ_UPDATE } else { 0 },
            doorbell: (qpn << 8).to_be(),
            uar: Arc::clone(uar),
            blueflame: uar.register(),
        };
        sq.disown();
        Ok(sq)
    }

    /// What is shared with who polls.
    fn ring(&self) -> Arc<Ring> {
        self.ring.shared()
    }

    /// No slot is valid, and none can be taken for it.
    fn disown(&mut self) {
        self.longest = SEGMENTS << self.shift;
        for number in 0..self.slots {
            let segments = ((1u32 << self.limits.shift) / 16).min(0x3f);
            self.chunks.slot(number << self.shift).put(0, [OWNER.to_be(), segments.to_be()]);
            self.stamp_chunks(number << self.shift, 1);
        }
        self.longest = 0;
    }

    /// From now on a datagram may have `mtu` bytes.
    pub(crate) fn set_mtu(&mut self, mtu: u32) {
        self.limits.kind = Kind::Datagrams { mtu };
    }

    /// Starts again from request 0, on a new ring; without one, nothing can be posted.
    fn reset(&mut self, ring: Option<Arc<Ring>>) {
        self.ring.restart(ring);
        self.disown();
    }

    /// Posts requests, and has the device look at them once.
    #[inline(always)]
    pub(crate) fn post(&mut self, wrs: &[SendWr<'_>]) -> Result<(), PostError> {
        match wrs {
            [wr] => self.post_one(wr),
            _ => self.post_several(wrs),
        }
    }

    /// Posts a request: one that is short goes into a BlueFlame register, where there is one.
    #[inline(always)]
    fn post_one(&mut self, wr: &SendWr<'_>) -> Result<(), PostError> {
        let written = self.push(wr).map_err(|kind| PostError { posted: 0, kind })?;
        match &mut self.blueflame {
            Some(register) if fits(&written, register) => {
                let number = self.ring.posted().wrapping_sub(1);
                let first = number << self.shift;
                let owner = owner(number, self.slots) | (number & 0xffff) << 8 | written.opcode;
                let mut head = self.chunks.slot(first);
                head.hand_over(4, head.get::<u32>(4) | self.doorbell);
                head.hand_over(0, owner.to_be());
                register.write(&self.chunks, first, written.chunks());
            }
            _ => self.ring_doorbell(),
        }
        // After what makes the device look, where it costs no time.
        self.stamp();
        Ok(())
    }

    /// Posts requests and rings the doorbell for all of them.
    #[inline(never)]
    fn post_several(&mut self, wrs: &[SendWr<'_>]) -> Result<(), PostError> {
        let mut outcome = Ok(());
        let begin = self.ring.posted();
        for (posted, wr) in wrs.iter().enumerate() {
            if let Err(kind) = self.push_any(wr) {
                outcome = Err(PostError { posted, kind });
                break;
            }
            self.stamp();
        }
        if self.ring.posted() != begin {
            self.ring_doorbell();
        }
        outcome
    }

    /// The requests are valid: the device may look.
    #[inline(always)]
    fn ring_doorbell(&self) {
        barrier::before_doorbell();
        self.uar.ring_send(self.doorbell);
    }

    /// A request of which nothing is known when this is compiled: what it mostly is has a way of its own.
    #[inline(always)]
    fn push_any(&mut self, wr: &SendWr<'_>) -> Result<(), PostErrorKind> {
        let SendWr { wr_id, flags, .. } = *wr;
        let (data @ Data::One(_), dest @ Dest::Connected) = (wr.data, wr.dest) else {
            return self.push_other(wr);
        };
        match wr.op {
            op @ SendOp::Send => _ = self.push(&SendWr { wr_id, op, flags, data, dest })?,
            op @ SendOp::Write(_) => _ = self.push(&SendWr { wr_id, op, flags, data, dest })?,
            _ => self.push_other(wr)?,
        }
        Ok(())
    }

    #[inline(never)]
    fn push_other(&mut self, wr: &SendWr<'_>) -> Result<(), PostErrorKind> {
        self.push(wr).map(drop)
    }

    /// Fills the next slot and makes it valid; gives what is in it.
    #[inline(always)]
    fn push(&mut self, wr: &SendWr<'_>) -> Result<Written, PostErrorKind> {
        let place = self.ring.next().ok_or(PostErrorKind::QueueFull)?;
        let (first, owner) = (place.number << self.shift, owner(place.number, self.slots));
        let draft = wqe::write_send(&mut self.chunks, first, wr, &self.limits, self.flags)?;
        place.announce(wr.wr_id);
        let written = draft.hand_over(owner);
        if written.segments > SEGMENTS {
            self.longest = self.longest.max(written.segments);
        }
        Ok(written)
    }

    /// Makes the slot at the end of the headroom behind the last request invalid, beyond its first chunk, whose owner bit says so.
    #[inline(always)]
    fn stamp(&mut self) {
        if self.longest > SEGMENTS {
            let first = self.ring.posted().wrapping_sub(1).wrapping_add(self.spare) << self.shift;
            self.chunks.slot(first.wrapping_add(1)).put(0, STAMP);
            if self.longest > 2 * SEGMENTS {
                self.stamp_chunks(first, 2);
            }
        }
    }

    #[inline(never)]
    fn stamp_chunks(&mut self, first: u32, from: u32) {
        for chunk in from..self.longest.div_ceil(SEGMENTS) {
            self.chunks.slot(first.wrapping_add(chunk)).put(0, STAMP);
        }
    }
}

/// The owner bit of the request with this number, as it is while the request is valid.
#[inline(always)]
fn owner(number: u32, slots: u32) -> u32 {
    if number & slots != 0 { OWNER } else { 0 }
}

/// Whether a request is worth writing to a register, and fits it.
#[inline(always)]
fn fits(request: &Written, register: &Register) -> bool {
    request.complete && request.segments > 1 && request.segments as usize * 16 <= register.capacity()
}

impl Rq {
    /// A queue of a slot at least.
    fn new(memory: Region, layout: &Layout, max_wr: u32, record: Word) -> Result<Self, Errno> {
        let shift = layout.recv_shift - 4;
        Ok(Self {
            elements: Elements::new(memory, layout.recv_slots << shift).ok_or(Errno::EINVAL)?,
            ring: Producer::new(Ring::new(layout.recv_slots)?, max_wr.min(layout.recv_slots)),
            slots: layout.recv_slots,
            shift,
            record,
        })
    }

    /// What is shared with who polls.
    fn ring(&self) -> Arc<Ring> {
        self.ring.shared()
    }

    /// Starts again from request 0, on a new ring; without one, nothing can be posted.
    fn reset(&mut self, ring: Option<Arc<Ring>>) {
        self.ring.restart(ring);
        self.record.store(0);
    }

    /// Posts receives. The device looks at the doorbell record when a message comes in.
    #[inline(always)]
    pub(crate) fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        let mut outcome = Ok(());
        let mut posted = 0;
        for wr in wrs {
            if let Err(kind) = self.push(wr) {
                outcome = Err(PostError { posted, kind });
                break;
            }
            posted += 1;
        }
        if posted > 0 {
            // The receives, before the count by which the device takes them.
            barrier::to_device();
            self.record.store((self.ring.posted() & 0xffff).to_be());
        }
        outcome
    }

    #[inline(always)]
    fn push(&mut self, wr: &RecvWr<'_>) -> Result<(), PostErrorKind> {
        let place = self.ring.next().ok_or(PostErrorKind::QueueFull)?;
        wqe::write_recv(&mut self.elements, place.number << self.shift, wr, 1 << self.shift)?;
        place.announce(wr.wr_id);
        Ok(())
    }
}

#[cfg(test)]
#[path = "qp_tests.rs"]
mod tests;
