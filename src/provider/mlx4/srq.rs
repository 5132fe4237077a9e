//! ConnectX's shared receive queue: slots that each name the slot to be posted after them.
//!
//! Receives complete in any order, and in the completion queues of several queue pairs, each with its own thread. So those who poll
//! only put a slot onto a stack of free ones, without a lock; the one who posts takes the whole stack when he has run out,
//! and appends it to the chain. The last slot of the chain is never posted: it does not know its successor yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use zerocopy::IntoBytes;

use super::cqe::Key;
use super::queues::{Received, Registration};
use super::wqe::{self, Elements};
use super::{Context, Cq, dbrec};
use crate::error::{Error, Result};
use crate::sys::barrier;
use crate::sys::region::{Region, Word};
use crate::sys::slots::{Numbers, boxed};
use crate::types::{PostError, PostErrorKind, RecvWr};
use crate::uapi::mlx4::{CreateSrq, CreateSrqResp};
use crate::uverbs::srq::{NewSrq, SrqInit};
use crate::uverbs::{Udata, Uverbs};

/// Bytes before the elements of a slot; of them, two say which slot comes next.
const HEAD: usize = 16;
const NEXT: usize = 2;

/// Of a slot: the device has it; nobody waits for it; it is the last of the stack.
const POSTED: u32 = u32::MAX;
const IDLE: u32 = u32::MAX - 1;
const LAST: u32 = u32::MAX - 2;

/// More receives than the chain can name, and more elements than any device takes.
const MAX_WR: u32 = 1 << 16;
const MAX_SGE: u32 = 64;

/// What the kernel's object uses as long as it is there, and where its XRC completions go.
#[derive(Debug)]
pub(crate) struct Hold {
    _registered: Option<Registration>,
    _record: dbrec::Record,
}

/// Makes a shared receive queue, which for XRC completes into `xrc_cq`; gives it, its ring and what must outlive the kernel's
/// object.
pub(crate) fn create(
    ctx: &Context,
    uverbs: &Uverbs,
    init: &SrqInit,
    xrc_cq: Option<&Cq>,
) -> Result<(NewSrq, Srq, Hold)> {
    let fail = |errno| uverbs.error("create_srq", errno);
    // One slot more: the last of the chain is never posted.
    if init.max_wr >= MAX_WR || init.max_sge > MAX_SGE {
        return Err(fail(Errno::EINVAL));
    }
    let slots = (init.max_wr + 1).next_power_of_two();
    let shift = (HEAD + 16 * init.max_sge as usize).max(32).next_power_of_two().trailing_zeros();
    let region = Region::anonymous((slots as usize) << shift).map_err(fail)?;
    let record = ctx.records.take().map_err(fail)?;
    let input = CreateSrq { buf_addr: region.address(), db_addr: record.address() };
    // The device may look at the chain as soon as it knows of it.
    let srq = Srq::new(region, slots, shift, init.max_sge, record.word(0)).map_err(fail)?;
    let mut answer = CreateSrqResp::default();
    let driver = Udata { input: input.as_bytes(), output: answer.as_mut_bytes() };
    let made = uverbs.create_srq(init, driver)?;
    if made.max_wr >= slots || made.max_sge > init.max_sge {
        // Nothing to add to the error.
        let _ = uverbs.destroy_srq(made.handle);
        let why = format!("the kernel made {} receives of {} elements", made.max_wr, made.max_sge);
        return Err(Error::bad_answer("create_srq", uverbs.device(), why));
    }
    let registered = xrc_cq
        .map(|cq| cq.shared().register(Key::srq(answer.srqn), None, Received::Srq(Arc::clone(&srq.ring))));
    Ok((made, srq, Hold { _registered: registered, _record: record }))
}

/// What who posts and those who poll share.
#[derive(Debug)]
pub(super) struct Ring {
    wr_ids: Numbers,
    /// Of each slot: what it is, or the one below it on the stack.
    slots: Box<[AtomicU32]>,
    /// The top of the stack of free slots.
    free: AtomicU32,
}

impl Ring {
    /// # Errors
    /// There is not enough memory.
    pub(super) fn new(slots: u32) -> Result<Arc<Self>, Errno> {
        Ok(Arc::new(Self {
            wr_ids: Numbers::new(slots)?,
            slots: boxed(slots as usize, |_| AtomicU32::new(IDLE))?,
            free: AtomicU32::new(LAST),
        }))
    }

    /// A receive has completed; gives its name, or nothing where that slot is not outstanding.
    #[inline]
    pub(super) fn complete(&self, slot: u16) -> Option<u64> {
        let state = self.slots.get(usize::from(slot))?;
        let wr_id = self.wr_ids.at(slot.into()).load(Ordering::Relaxed);
        // Once only: a slot that is on the stack twice would make it endless.
        state.compare_exchange(POSTED, IDLE, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        let mut top = self.free.load(Ordering::Relaxed);
        loop {
            state.store(top, Ordering::Relaxed);
            // Release: pairs with the poster's acquire, so that it sees what lies below, and we have read the name.
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
    ring: Arc<Ring>,
    /// Of each slot of the chain, the next one.
    next: Box<[u16]>,
    /// The slot to post next.
    head: u16,
    /// The last slot of the chain.
    tail: u16,
    /// Log2 of the elements of a slot, its head counted as one.
    shift: u32,
    max_sge: u32,
    /// How many receives were posted.
    count: u16,
    record: Word,
}

impl Srq {
    /// `region` has `slots` slots of 2^`shift` bytes, a power of two of at most 2¹⁶.
    ///
    /// # Errors
    /// There is not enough memory, or the slots do not fit the region.
    pub(super) fn new(
        region: Region,
        slots: u32,
        shift: u32,
        max_sge: u32,
        record: Word,
    ) -> Result<Self, Errno> {
        let last = slots.saturating_sub(1) as u16;
        let shift = shift - HEAD.trailing_zeros();
        let mut srq = Self {
            elements: Elements::new(region, slots << shift).ok_or(Errno::EINVAL)?,
            ring: Ring::new(slots)?,
            next: boxed(slots as usize, |slot| (slot as u16).wrapping_add(1) & last)?,
            head: 0,
            tail: last,
            shift,
            max_sge,
            count: 0,
            record,
        };
        for slot in 0..slots {
            let first = slot << srq.shift;
            srq.elements.slot(first).put(NEXT, srq.next[slot as usize].to_be());
            for element in first + 1..first + (1 << srq.shift) {
                srq.elements.slot(element).put(4, wqe::INVALID_LKEY.to_be());
            }
        }
        Ok(srq)
    }

    pub(super) fn ring(&self) -> &Arc<Ring> {
        &self.ring
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
            self.count = self.count.wrapping_add(posted as u16);
            // The slots, and the chain, before the count by which the device takes them.
            barrier::to_device();
            self.record.store(u32::from(self.count).to_be());
        }
        outcome
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
        let first = (u32::from(self.head) << self.shift) + 1;
        wqe::write_recv(&mut self.elements, first, wr, self.max_sge)?;
        if let (Some(state), Some(next)) = (self.ring.slots.get(slot), self.next.get(slot)) {
            self.ring.wr_ids.at(self.head.into()).store(wr.wr_id, Ordering::Relaxed);
            state.store(POSTED, Ordering::Relaxed);
            self.head = *next;
        }
        Ok(())
    }

    /// Appends the slots that are free again to the chain.
    #[cold]
    fn collect(&mut self) {
        // Acquire: pairs with the pollers' release.
        let mut top = self.ring.free.swap(LAST, Ordering::Acquire);
        while let Some(state) = self.ring.slots.get(top as usize) {
            let slot = top as u16;
            top = state.load(Ordering::Relaxed);
            state.store(IDLE, Ordering::Relaxed);
            self.next[usize::from(self.tail)] = slot;
            self.elements.slot(u32::from(self.tail) << self.shift).put(NEXT, slot.to_be());
            self.tail = slot;
        }
    }
}
