//! ConnectX's queue pair: both queues in one piece of this process's memory, sends announced by a register, receives by a
//! doorbell record.

use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use super::cqe::Key;
use super::layout::Layout;
use super::registry::{Received, Registration, Shared};
use super::uar::{Register, Uar};
use super::wq::{Poster, WorkQueue};
use super::wqe::{self, CHUNK, Chunks, Elements, Kind, Limits, SEGMENTS, Written};
use super::{Context, command, cq, dbrec, srq};
use crate::error::{Error, Result};
use crate::provider::post::post_all;
use crate::provider::{self, Created, NewQp, Queues, RecvQueue, SendQueue};
use crate::sys::barrier;
use crate::sys::region::{Region, Word};
use crate::types::{Data, Dest, PostError, PostErrorKind, QpType, RecvWr, SendOp, SendWr};
use crate::uapi::ioctl::verbs::QpCap;
use crate::uverbs::Uverbs;
use crate::uverbs::qp::QpParams;

/// The bit of a request's first word that alternates with each lap around the queue.
const OWNER: u32 = 1 << 31;

/// Marks a chunk that the device may fetch too early as invalid.
const STAMP: u32 = u32::MAX;

/// A send queue.
pub(crate) struct Sq {
    chunks: Chunks,
    poster: Poster,
    /// Slots, a power of two.
    slots: u32,
    /// Log2 of the chunks of a slot.
    log2_chunks: u32,
    /// Slots that are never filled: the device may fetch ahead.
    spare: u32,
    /// Segments of the longest request so far.
    longest: u32,
    limits: Limits,
    /// Flags of every request.
    flags: u32,
    /// What is written to the doorbell register.
    doorbell: u32,
    uar: Arc<Uar>,
    blueflame: Option<Register>,
}

/// A receive queue.
pub(crate) struct Rq {
    elements: Elements,
    poster: Poster,
    /// Log2 of the elements of a slot.
    log2_elements: u32,
    record: Word,
}

/// What the kernel's object uses until it is destroyed, and the registrations with its completion queues.
#[derive(Debug)]
pub(crate) struct Hold {
    completions: Completions,
    registrations: Mutex<[Option<Registration>; 2]>,
    _record: Option<dbrec::Record>,
}

/// Where completions go, and the number that they carry.
#[derive(Debug)]
struct Completions {
    qpn: u32,
    send_cq: Option<Arc<Shared>>,
    recv_cq: Option<Arc<Shared>>,
    srq: Option<Arc<srq::Receives>>,
}

impl Completions {
    /// Registers both queues with the completion queues: once where that is the same one.
    fn register(
        &self,
        sent: Option<Arc<WorkQueue>>,
        received: Option<Arc<WorkQueue>>,
    ) -> [Option<Registration>; 2] {
        let key = Key::qp(self.qpn);
        let received = match (&self.srq, received) {
            (Some(srq), _) => Received::Srq(Arc::clone(srq)),
            (None, Some(rq)) => Received::Rq(rq),
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

/// Creates a queue pair on these queues.
pub(super) fn create(
    ctx: &Context,
    uverbs: &Uverbs,
    init: &QpParams,
    queues: Queues<'_>,
) -> Result<NewQp<Option<Sq>, Option<Rq>>> {
    let fail = |errno| uverbs.error("create_qp", errno);
    let qp_type = QpType::from(init.qp_type);
    let has_rq = init.srq_handle.is_none() && !matches!(qp_type, QpType::XRC_SEND | QpType::XRC_RECV);
    ctx.check(uverbs, &init.cap).map_err(fail)?;
    let layout = Layout::new(qp_type, &init.cap, has_rq).ok_or(fail(Errno::EINVAL))?;
    // A mapping has a byte at least.
    let bytes = (layout.send_bytes() + layout.recv_bytes()).max(1);
    let memory = Region::queue(bytes).map_err(fail)?;
    let record = if has_rq { Some(ctx.records.take().map_err(fail)?) } else { None };
    let word = record.as_ref().map(|record| record.word(0));
    let mut init = *init;
    init.cap.max_recv_wr = if has_rq { init.cap.max_recv_wr.max(1) } else { 0 };
    init.cap.max_recv_sge = if has_rq { init.cap.max_recv_sge.max(1) } else { 0 };
    let told = command::QpMemory {
        queues: &memory,
        record: record.as_ref(),
        log_send_slots: layout.send_slots.checked_ilog2().unwrap_or(0) as u8,
        log_send_slot: layout.send.log2_size as u8,
    };
    let mut made = command::create_qp(uverbs, &init, &told)?;
    let created = Created::new(uverbs, made.handle, Uverbs::destroy_qp);
    let (send, recv) = layout.split(memory);
    if has_rq
        && (made.cap.max_recv_wr > layout.recv_slots
            || made.cap.max_recv_sge > 1 << layout.recv_log2_size >> 4)
    {
        let QpCap { max_recv_wr, max_recv_sge, .. } = made.cap;
        let why =
            format!("the kernel made a receive queue of {max_recv_wr} receives of {max_recv_sge} elements");
        return Err(Error::bad_answer("create_qp", uverbs.device(), why));
    }
    made.cap.max_send_wr = layout.max_send_wr();
    made.cap.max_send_sge = layout.send.max_sge;
    made.cap.max_inline_data = layout.send.max_inline;
    let send_queue = || Sq::new(&ctx.uar, send, &layout, made.qp_num, init.sq_sig_all).map_err(fail);
    let sq = (layout.send_slots > 0).then(send_queue).transpose()?;
    let recv_queue = |word| Rq::new(recv, &layout, made.cap.max_recv_wr, word).map_err(fail);
    let rq = word.map(recv_queue).transpose()?;
    let shared = |cq: Option<&provider::Hold>| {
        cq.and_then(provider::Hold::get::<cq::Hold>).map(|cq| Arc::clone(&cq.shared))
    };
    let completions = Completions {
        qpn: made.qp_num,
        send_cq: shared(queues.send_cq),
        recv_cq: shared(queues.recv_cq),
        srq: queues.srq.and_then(provider::Hold::get::<srq::Hold>).map(|srq| Arc::clone(&srq.receives)),
    };
    let registrations =
        Mutex::new(completions.register(sq.as_ref().map(Sq::work_queue), rq.as_ref().map(Rq::work_queue)));
    let hold = Hold { completions, registrations, _record: record };
    created.keep();
    Ok(NewQp { answer: made, sq, rq, hold: provider::Hold::new(hold) })
}

impl Hold {
    /// Starts both queues again: the queue pair is in the state RESET, where nothing is outstanding, and the device counts from 0.
    ///
    /// # Errors
    /// There is not enough memory. Then nothing can be posted until the queue pair is reset again.
    fn reset(&self, sq: &mut Sq, rq: Option<&mut Rq>) -> Result<(), Errno> {
        let mut registrations = self.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        // What is in the completion queues belongs to the old registration, which ends here.
        *registrations = [None, None];
        let sent = sq.poster.renewed().map(Some);
        let received = rq.as_ref().map(|rq| rq.poster.renewed()).transpose();
        let (sent, received, outcome) = match (sent, received) {
            (Ok(sent), Ok(received)) => (sent, received, Ok(())),
            (Err(errno), _) | (_, Err(errno)) => (None, None, Err(errno)),
        };
        sq.restart(sent.clone());
        if let Some(rq) = rq {
            rq.restart(received.clone());
        }
        *registrations = self.completions.register(sent, received);
        outcome
    }
}

impl Sq {
    /// `memory` has at least one slot.
    fn new(
        uar: &Arc<Uar>,
        memory: Region,
        layout: &Layout,
        qpn: u32,
        sq_sig_all: bool,
    ) -> Result<Self, Errno> {
        let log2_chunks = layout.send.log2_size - CHUNK.trailing_zeros();
        let mut sq = Self {
            chunks: Chunks::new(memory, layout.send_slots << log2_chunks).ok_or(Errno::EINVAL)?,
            poster: Poster::new(layout.max_send_wr())?,
            slots: layout.send_slots,
            log2_chunks,
            spare: layout.spare,
            longest: 0,
            limits: layout.send,
            flags: if sq_sig_all { wqe::CQ_UPDATE } else { 0 },
            doorbell: (qpn << 8).to_be(),
            uar: Arc::clone(uar),
            blueflame: uar.register(),
        };
        sq.invalidate();
        Ok(sq)
    }

    fn work_queue(&self) -> Arc<WorkQueue> {
        Arc::clone(self.poster.work_queue())
    }

    /// Makes every slot invalid, also for a device that fetches too early.
    fn invalidate(&mut self) {
        self.longest = SEGMENTS << self.log2_chunks;
        for number in 0..self.slots {
            let segments = ((1u32 << self.limits.log2_size) / 16).min(0x3f);
            self.chunks.slot(number << self.log2_chunks).put(0, [OWNER.to_be(), segments.to_be()]);
            self.stamp_chunks(number << self.log2_chunks, 1);
        }
        self.longest = 0;
    }

    /// Starts again with this work queue; without one, nothing can be posted.
    fn restart(&mut self, wq: Option<Arc<WorkQueue>>) {
        self.poster.restart(wq);
        self.invalidate();
    }

    /// Posts one request. A short one is written to the BlueFlame register, if the queue has one.
    #[inline(always)]
    fn post_one(&mut self, wr: &SendWr<'_>) -> Result<(), PostError> {
        let written = self.push(wr).map_err(|kind| PostError { posted: 0, kind })?;
        match &mut self.blueflame {
            Some(register) if fits(&written, register) => {
                let number = self.poster.posted().wrapping_sub(1);
                let first = number << self.log2_chunks;
                let owner = owner(number, self.slots) | (number & 0xffff) << 8 | written.opcode;
                let mut head = self.chunks.slot(first);
                head.hand_over(4, head.get::<u32>(4) | self.doorbell);
                head.hand_over(0, owner.to_be());
                register.write(&self.chunks, first, written.chunks());
            }
            _ => self.ring_doorbell(),
        }
        // After the doorbell, where it delays nothing.
        self.stamp();
        Ok(())
    }

    /// Posts requests one by one and rings the doorbell for all of them.
    #[inline(never)]
    fn post_several(&mut self, wrs: &[SendWr<'_>]) -> Result<(), PostError> {
        let push = |sq: &mut Self, wr: &SendWr<'_>| {
            sq.push_any(wr)?;
            sq.stamp();
            Ok(())
        };
        post_all(self, wrs, push, |sq, _| {
            sq.ring_doorbell();
            Ok(())
        })
    }

    /// Has the device look at the requests, which are valid.
    #[inline(always)]
    fn ring_doorbell(&self) {
        barrier::before_doorbell();
        self.uar.ring_send(self.doorbell);
    }

    /// Writes a request about which nothing is known at compile time. The usual kinds have code of their own.
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

    /// Fills the next slot and makes it valid. Returns what is in it.
    #[inline(always)]
    fn push(&mut self, wr: &SendWr<'_>) -> Result<Written, PostErrorKind> {
        let reserved = self.poster.reserve().ok_or(PostErrorKind::QueueFull)?;
        let (first, owner) = (reserved.number << self.log2_chunks, owner(reserved.number, self.slots));
        let draft = wqe::write_send(&mut self.chunks, first, wr, &self.limits, self.flags)?;
        reserved.announce(wr.wr_id);
        let written = draft.hand_over(owner);
        if written.segments > SEGMENTS {
            self.longest = self.longest.max(written.segments);
        }
        Ok(written)
    }

    /// Makes the last slot of the headroom behind the last request invalid. Its first chunk already is, by its owner bit.
    #[inline(always)]
    fn stamp(&mut self) {
        if self.longest > SEGMENTS {
            let first = self.poster.posted().wrapping_sub(1).wrapping_add(self.spare) << self.log2_chunks;
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

impl SendQueue for Sq {
    type Rq = Rq;

    #[inline(always)]
    fn post(
        &mut self,
        wrs: &[SendWr<'_>],
        _doorbell: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), PostError> {
        match wrs {
            [wr] => self.post_one(wr),
            _ => self.post_several(wrs),
        }
    }

    fn set_mtu(&mut self, mtu: u32) {
        self.limits.kind = Kind::Datagrams { mtu };
    }

    fn reset(&mut self, rq: Option<&mut Rq>, hold: &provider::Hold) -> Result<(), Errno> {
        hold.get::<Hold>().map_or(Ok(()), |hold| hold.reset(self, rq))
    }
}

/// The owner bit of a valid request with this number.
#[inline(always)]
fn owner(number: u32, slots: u32) -> u32 {
    if number & slots != 0 { OWNER } else { 0 }
}

/// Whether a request is worth writing to a BlueFlame register and fits it.
#[inline(always)]
fn fits(request: &Written, register: &Register) -> bool {
    request.self_contained && request.segments > 1 && request.segments as usize * 16 <= register.capacity()
}

impl Rq {
    /// `memory` has at least one slot.
    fn new(memory: Region, layout: &Layout, max_wr: u32, record: Word) -> Result<Self, Errno> {
        let log2_elements = layout.recv_log2_size - 4;
        Ok(Self {
            elements: Elements::new(memory, layout.recv_slots << log2_elements).ok_or(Errno::EINVAL)?,
            poster: Poster::new(max_wr.min(layout.recv_slots))?,
            log2_elements,
            record,
        })
    }

    fn work_queue(&self) -> Arc<WorkQueue> {
        Arc::clone(self.poster.work_queue())
    }

    /// Starts again with this work queue; without one, nothing can be posted.
    fn restart(&mut self, wq: Option<Arc<WorkQueue>>) {
        self.poster.restart(wq);
        self.record.store(0);
    }

    #[inline(always)]
    fn push(&mut self, wr: &RecvWr<'_>) -> Result<(), PostErrorKind> {
        let reserved = self.poster.reserve().ok_or(PostErrorKind::QueueFull)?;
        let first = reserved.number << self.log2_elements;
        wqe::write_recv(&mut self.elements, first, wr, 1 << self.log2_elements)?;
        reserved.announce(wr.wr_id);
        Ok(())
    }
}

impl RecvQueue for Rq {
    /// The device looks at the doorbell record when a message comes in.
    #[inline(always)]
    fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        post_all(self, wrs, Self::push, |rq, _| {
            // The receives, before the count by which the device takes them.
            barrier::to_device();
            rq.record.store((rq.poster.posted() & 0xffff).to_be());
            Ok(())
        })
    }
}

#[cfg(test)]
#[path = "qp_tests.rs"]
mod tests;
