//! ConnectX's shared receive queue: a chain of slots, each of which names the slot to be posted after it.
//!
//! Receives complete in any order, and in the completion queues of several queue pairs, each with its own poller. A poller
//! pushes the slot onto a stack of free ones, without a lock; the poster takes the whole stack when the chain has run out, and
//! appends it to the chain. The last slot of the chain is never posted: it does not know its successor yet.

use std::sync::Arc;

use nix::errno::Errno;

use super::cqe::Key;
use super::registry::{Received, Registration};
use super::wqe::{self, Elements};
use super::{Context, MAX_SGE, command, cq, dbrec};
use crate::error::{Error, Result};
use crate::provider::post::post_all;
use crate::provider::{self, Created, NewSrq, RecvQueue, SharedRecvQueue};
use crate::sys::barrier;
use crate::sys::region::{Region, Word};
use crate::sys::slots::{Numbers, boxed};
use crate::sys::sync::{AtomicU32, Ordering};
use crate::types::{PostError, PostErrorKind, RecvWr};
use crate::uverbs::Uverbs;
use crate::uverbs::srq::SrqParams;

/// Bytes before the elements of a slot, and where in them the number of the next slot is.
const HEAD: usize = 16;
const NEXT: usize = 2;

/// States of a slot: posted to the device; in the chain; at the bottom of the stack.
const POSTED: u32 = u32::MAX;
const CHAINED: u32 = u32::MAX - 1;
const BOTTOM: u32 = u32::MAX - 2;

/// More receives than the chain can name.
pub(super) const MAX_WR: u32 = 1 << 16;

/// What the kernel's object uses while it exists, and where its completions are looked up.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(super) receives: Arc<Receives>,
    _registered: Option<Registration>,
    _record: dbrec::Record,
}

/// Creates a shared receive queue, which for XRC completes into the queue that `xrc_cq` belongs to.
pub(super) fn create(
    ctx: &Context,
    uverbs: &Uverbs,
    init: &SrqParams,
    xrc_cq: Option<&provider::Hold>,
) -> Result<NewSrq<Srq>> {
    let fail = |errno| uverbs.error("create_srq", errno);
    // One slot more: the last of the chain is never posted.
    if init.max_wr >= MAX_WR || init.max_sge > MAX_SGE {
        return Err(fail(Errno::EINVAL));
    }
    let slots = (init.max_wr + 1).next_power_of_two();
    let log2_size = (HEAD + 16 * init.max_sge as usize).max(32).next_power_of_two().trailing_zeros();
    let region = Region::queue((slots as usize) << log2_size).map_err(fail)?;
    let record = ctx.records.take().map_err(fail)?;
    // The device may look at the chain as soon as it knows of it.
    let srq = Srq::new(region, slots, log2_size, init.max_sge, record.word(0)).map_err(fail)?;
    let (made, srqn) = command::create_srq(uverbs, init, srq.elements.region(), &record)?;
    let created = Created::new(uverbs, made.handle, Uverbs::destroy_srq);
    if made.max_wr >= slots || made.max_sge > init.max_sge {
        let why = format!("the kernel made {} receives of {} elements", made.max_wr, made.max_sge);
        return Err(Error::bad_answer("create_srq", uverbs.device(), why));
    }
    let received = Received::Srq(Arc::clone(&srq.receives));
    let registered = xrc_cq
        .and_then(provider::Hold::get::<cq::Hold>)
        .map(|cq| cq.shared.register(Key::srq(srqn), None, received));
    let hold = Hold { receives: Arc::clone(&srq.receives), _registered: registered, _record: record };
    created.keep();
    Ok(NewSrq { answer: made, ring: srq, hold: provider::Hold::new(hold) })
}

/// Shared by the poster and the pollers of a shared receive queue.
#[derive(Debug)]
pub(super) struct Receives {
    /// By slot.
    wr_ids: Numbers,
    /// The state of each slot; of one on the stack, the slot below it.
    slots: Box<[AtomicU32]>,
    /// The top of the stack of free slots.
    free: AtomicU32,
}

impl Receives {
    /// # Errors
    /// There is not enough memory.
    pub(super) fn new(slots: u32) -> Result<Arc<Self>, Errno> {
        Ok(Arc::new(Self {
            wr_ids: Numbers::new(slots)?,
            slots: boxed(slots as usize, |_| AtomicU32::new(CHAINED))?,
            free: AtomicU32::new(BOTTOM),
        }))
    }

    /// Retires the receive in a slot and returns its `wr_id`, or `None` if it is not outstanding.
    #[inline]
    pub(super) fn retire(&self, slot: u16) -> Option<u64> {
        let state = self.slots.get(usize::from(slot))?;
        let wr_id = self.wr_ids.at(slot.into()).load(Ordering::Relaxed);
        // Once only: a slot that is on the stack twice would make it endless.
        state.compare_exchange(POSTED, CHAINED, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        let mut top = self.free.load(Ordering::Relaxed);
        loop {
            state.store(top, Ordering::Relaxed);
            // Release: pairs with the poster's acquire, so that it sees what is below, and we have read the wr_id.
            let pushed =
                self.free.compare_exchange_weak(top, slot.into(), Ordering::Release, Ordering::Relaxed);
            match pushed {
                Ok(_) => return Some(wr_id),
                Err(now) => top = now,
            }
        }
    }
}

/// The poster's side.
#[derive(Debug)]
pub(crate) struct Srq {
    elements: Elements,
    receives: Arc<Receives>,
    /// The slot after each one of the chain.
    next: Box<[u16]>,
    /// The slot to post next.
    head: u16,
    /// The last slot of the chain.
    tail: u16,
    /// Log2 of the elements of a slot; its head counts as one.
    log2_elements: u32,
    max_sge: u32,
    /// How many receives were posted.
    count: u16,
    record: Word,
}

impl Srq {
    /// `region` has `slots` slots of 2^`log2_size` bytes; their number is a power of two of at most 2¹⁶.
    ///
    /// # Errors
    /// There is not enough memory, or the slots do not fit the region.
    pub(super) fn new(
        region: Region,
        slots: u32,
        log2_size: u32,
        max_sge: u32,
        record: Word,
    ) -> Result<Self, Errno> {
        let last = slots.saturating_sub(1) as u16;
        let log2_elements = log2_size - HEAD.trailing_zeros();
        let mut srq = Self {
            elements: Elements::new(region, slots << log2_elements).ok_or(Errno::EINVAL)?,
            receives: Receives::new(slots)?,
            next: boxed(slots as usize, |slot| (slot as u16).wrapping_add(1) & last)?,
            head: 0,
            tail: last,
            log2_elements,
            max_sge,
            count: 0,
            record,
        };
        for slot in 0..slots {
            let first = slot << srq.log2_elements;
            srq.elements.slot(first).put(NEXT, srq.next[slot as usize].to_be());
            for element in first + 1..first + (1 << srq.log2_elements) {
                srq.elements.slot(element).put(4, wqe::INVALID_LKEY.to_be());
            }
        }
        Ok(srq)
    }

    #[cfg(test)]
    pub(super) fn receives(&self) -> &Arc<Receives> {
        &self.receives
    }

    #[inline(always)]
    fn push(&mut self, wr: &RecvWr<'_>) -> Result<(), PostErrorKind> {
        if self.head == self.tail {
            self.collect();
            if self.head == self.tail {
                return Err(PostErrorKind::QueueFull);
            }
        }
        let slot = usize::from(self.head);
        let first = (u32::from(self.head) << self.log2_elements) + 1;
        wqe::write_recv(&mut self.elements, first, wr, self.max_sge)?;
        if let (Some(state), Some(next)) = (self.receives.slots.get(slot), self.next.get(slot)) {
            self.receives.wr_ids.at(self.head.into()).store(wr.wr_id, Ordering::Relaxed);
            state.store(POSTED, Ordering::Relaxed);
            self.head = *next;
        }
        Ok(())
    }

    /// Appends the slots that are free again to the chain.
    #[cold]
    fn collect(&mut self) {
        // Acquire: pairs with the pollers' release.
        let mut top = self.receives.free.swap(BOTTOM, Ordering::Acquire);
        while let Some(state) = self.receives.slots.get(top as usize) {
            let slot = top as u16;
            top = state.load(Ordering::Relaxed);
            state.store(CHAINED, Ordering::Relaxed);
            self.next[usize::from(self.tail)] = slot;
            self.elements.slot(u32::from(self.tail) << self.log2_elements).put(NEXT, slot.to_be());
            self.tail = slot;
        }
    }
}

impl RecvQueue for Srq {
    /// The device looks at the doorbell record when a message comes in.
    #[inline(always)]
    fn post(&mut self, wrs: &[RecvWr<'_>]) -> Result<(), PostError> {
        post_all(self, wrs, Self::push, |srq, posted| {
            srq.count = srq.count.wrapping_add(posted as u16);
            // The slots, and the chain, before the count by which the device takes them.
            barrier::to_device();
            srq.record.store(u32::from(srq.count).to_be());
            Ok(())
        })
    }
}

/// The driver cannot resize, and says so.
impl SharedRecvQueue for Srq {}
