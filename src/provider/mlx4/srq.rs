//! ConnectX's shared receive queue: slots that each name the slot to be posted after them.
//!
//! Receives complete in any order, and in the completion queues of several queue pairs, each with its own thread. So those who poll
//! only put a slot onto a stack of free ones, without a lock; the one who posts takes the whole stack when he has run out,
//! and appends it to the chain. The last slot of the chain is never posted: it does not know its successor yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::wqe;
use crate::sys::barrier;
use crate::sys::region::{Region, Word};
use crate::types::{PostError, RecvWr, Refusal};

/// Bytes before the elements of a slot; of them, two say which slot comes next.
const HEAD: usize = 16;
const NEXT: usize = 2;

/// Of a slot: the device has it; nobody waits for it; it is the last of the stack.
const POSTED: u32 = u32::MAX;
const IDLE: u32 = u32::MAX - 1;
const LAST: u32 = u32::MAX - 2;

/// What who posts and those who poll share.
#[derive(Debug)]
pub(super) struct Ring {
    wr_ids: Box<[AtomicU64]>,
    /// Of each slot: what it is, or the one below it on the stack.
    slots: Box<[AtomicU32]>,
    /// The top of the stack of free slots.
    free: AtomicU32,
}

impl Ring {
    pub(super) fn new(slots: u32) -> Arc<Self> {
        Arc::new(Self {
            wr_ids: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            slots: (0..slots).map(|_| AtomicU32::new(IDLE)).collect(),
            free: AtomicU32::new(LAST),
        })
    }

    /// A receive has completed; gives its name, or nothing where that slot is not outstanding.
    #[inline]
    pub(super) fn complete(&self, slot: u16) -> Option<u64> {
        let state = self.slots.get(usize::from(slot))?;
        let wr_id = self.wr_ids.get(usize::from(slot))?.load(Ordering::Relaxed);
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
    region: Region,
    ring: Arc<Ring>,
    /// Of each slot of the chain, the next one.
    next: Box<[u16]>,
    /// The slot to post next.
    head: u16,
    /// The last slot of the chain.
    tail: u16,
    /// Log2 of the bytes of a slot.
    shift: u32,
    max_sge: u32,
    /// How many receives were posted.
    count: u16,
    record: Word,
}

impl Srq {
    /// `region` has `slots` slots, a power of two of at most 2¹⁶.
    pub(super) fn new(region: Region, slots: u32, shift: u32, max_sge: u32, record: Word) -> Self {
        let last = slots.saturating_sub(1) as u16;
        let next = (0..slots).map(|slot| slot.wrapping_add(1) as u16 & last).collect();
        let mut srq = Self {
            region,
            ring: Ring::new(slots),
            next,
            head: 0,
            tail: last,
            shift,
            max_sge,
            count: 0,
            record,
        };
        for slot in 0..slots {
            let at = (slot as usize) << shift;
            srq.region.fill(at + NEXT, &srq.next[slot as usize].to_be_bytes());
            for element in (at + HEAD..at + (1 << shift)).step_by(16) {
                srq.region.fill(element + 4, &wqe::INVALID_LKEY.to_be_bytes());
            }
        }
        srq
    }

    pub(super) fn ring(&self) -> &Arc<Ring> {
        &self.ring
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
        if posted > 0 {
            self.count = self.count.wrapping_add(posted as u16);
            // The slots, and the chain, before the count by which the device takes them.
            barrier::to_device();
            self.record.store(u32::from(self.count).to_be());
        }
        refused.map_or(Ok(()), Err)
    }

    #[inline(always)]
    fn push(&mut self, wr: &RecvWr<'_>) -> Result<(), Refusal> {
        if self.head == self.tail {
            self.collect();
            if self.head == self.tail {
                return Err(Refusal::QueueFull);
            }
        }
        let slot = usize::from(self.head);
        wqe::write_recv(&mut self.region, (slot << self.shift) + HEAD, wr, self.max_sge)?;
        if let (Some(wr_id), Some(state), Some(next)) =
            (self.ring.wr_ids.get(slot), self.ring.slots.get(slot), self.next.get(slot))
        {
            wr_id.store(wr.wr_id, Ordering::Relaxed);
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
            self.region.fill((usize::from(self.tail) << self.shift) + NEXT, &slot.to_be_bytes());
            self.tail = slot;
        }
    }
}
