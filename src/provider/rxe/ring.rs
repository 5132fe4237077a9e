//! The ring that a queue is: slots between a producer index and a consumer index, one of which is ours and the other the
//! kernel's. One slot always stays empty, so that full and empty differ.
//!
//! Each side owns one index word and only reads the other's. Ours is cached and published once for a batch. The kernel's
//! side is `drivers/infiniband/sw/rxe/rxe_queue.h`, which uses the mirror image of each ordering named here.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::sys::region::{Entry, Region};
use crate::sys::slots;
use crate::uapi::rxe::QueueBuf;

const PRODUCER: usize = offset_of!(QueueBuf, producer_index);
const CONSUMER: usize = offset_of!(QueueBuf, consumer_index);

/// The memory of a ring.
pub(super) type Slots<const N: usize> = slots::Slots<N, 0, { size_of::<QueueBuf>() }>;

/// Checks that slots of `slot` bytes at least, and of `N`, lie within the mapping as its header describes them.
fn checked<const N: usize>(region: Region, what: &'static str, slot: usize) -> Result<Slots<N>> {
    let wrong = |why: String| Error::bad_answer(what, "rxe queue", why);
    let (header, len) = (size_of::<QueueBuf>(), region.len());
    if len < header {
        return Err(wrong(format!("it has {len} bytes, less than its header")));
    }
    let shift = region.load_relaxed(offset_of!(QueueBuf, log2_elem_size));
    let mask = region.load_relaxed(offset_of!(QueueBuf, index_mask));
    let slots = u64::from(mask) + 1;
    if shift > 20 || !slots.is_power_of_two() {
        return Err(wrong(format!("its header claims {slots} slots of 2^{shift} bytes")));
    }
    let slot = slot.max(N);
    if (1usize << shift) < slot {
        return Err(wrong(format!("its slots have 2^{shift} bytes where {slot} are needed")));
    }
    let exceeds = || wrong(format!("{slots} slots of 2^{shift} bytes exceed its {len} bytes"));
    let count = u32::try_from(slots).map_err(|_| exceeds())?;
    Slots::behind_header(region, count, shift).ok_or_else(exceeds)
}

/// The slot after the one with this number.
#[inline(always)]
fn next<const N: usize>(slots: &Slots<N>, number: u32) -> u32 {
    number.wrapping_add(1) & slots.mask()
}

/// The side that fills slots: send and receive queues.
pub(super) struct Producer<const N: usize> {
    slots: Slots<N>,
    /// The next slot to fill; the kernel knows all before the last `publish`.
    head: u32,
    /// The kernel's index when last looked at: it has taken every slot before it.
    tail: u32,
}

impl<const N: usize> Producer<N> {
    /// A ring of which the kernel is the consumer; of a queue that was resized, with what was moved into it.
    pub(super) fn new(region: Region, what: &'static str, slot: usize) -> Result<Self> {
        let slots = checked(region, what, slot)?;
        let head = slots.word::<PRODUCER>().load(Ordering::Relaxed) & slots.mask();
        let tail = slots.word::<CONSUMER>().load(Ordering::Acquire) & slots.mask();
        Ok(Self { slots, head, tail })
    }

    /// How many slots are filled and not yet taken; the kernel may take some meanwhile.
    pub(super) fn queued(&self) -> u32 {
        let tail = self.slots.word::<CONSUMER>().load(Ordering::Relaxed);
        self.head.wrapping_sub(tail) & self.slots.mask()
    }

    /// The number of the slot to fill next; `None` while the ring is full.
    #[inline(always)]
    pub(super) fn free_slot(&mut self) -> Option<u32> {
        let next = next(&self.slots, self.head);
        if next == self.tail {
            // Acquire: pairs with the kernel's release of its consumer index, so that our writes into the slot come after
            // its last reads of it.
            self.tail = self.slots.word::<CONSUMER>().load(Ordering::Acquire) & self.slots.mask();
            if next == self.tail {
                return None;
            }
        }
        Some(self.head)
    }

    /// The memory.
    #[inline(always)]
    pub(super) fn slots(&mut self) -> &mut Slots<N> {
        &mut self.slots
    }

    /// The slot that [`Self::free_slot`] gave is filled.
    #[inline(always)]
    pub(super) fn fill(&mut self) {
        self.head = next(&self.slots, self.head);
    }

    /// Shows the kernel every slot filled so far.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        // Release: pairs with the kernel's acquire of the producer index, so that it sees the slots filled.
        self.slots.word::<PRODUCER>().store(self.head, Ordering::Release);
    }

    /// Slots that can be filled at once.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> u32 {
        self.slots.mask()
    }
}

/// The side that empties slots: completion queues.
pub(super) struct Consumer<const N: usize> {
    slots: Slots<N>,
    /// The next slot to read.
    tail: u32,
}

impl<const N: usize> Consumer<N> {
    /// A ring of which the kernel is the producer.
    pub(super) fn new(region: Region, what: &'static str, slot: usize) -> Result<Self> {
        let slots = checked(region, what, slot)?;
        let tail = slots.word::<CONSUMER>().load(Ordering::Relaxed) & slots.mask();
        Ok(Self { slots, tail })
    }

    /// How many filled slots there are to read.
    #[inline(always)]
    pub(super) fn filled(&self) -> usize {
        // Acquire: pairs with the kernel's release of the producer index, so that we see the slots it filled.
        let head = self.slots.word::<PRODUCER>().load(Ordering::Acquire);
        (head.wrapping_sub(self.tail) & self.slots.mask()) as usize
    }

    /// The oldest filled slot, where there is one.
    #[cfg(test)]
    pub(super) fn filled_slot(&mut self) -> Option<Entry<'_, N>> {
        (self.filled() > 0).then(|| self.oldest())
    }

    /// The oldest filled slot.
    #[inline(always)]
    pub(super) fn oldest(&self) -> Entry<'_, N> {
        self.slots.entry(self.tail)
    }

    /// The slot that [`Self::oldest`] gave has been read.
    #[inline(always)]
    pub(super) fn take(&mut self) {
        self.tail = next(&self.slots, self.tail);
    }

    /// Gives every slot read so far back to the kernel.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        // Release: pairs with the kernel's acquire of the consumer index, so that our reads of the slots come before
        // it fills them anew.
        self.slots.word::<CONSUMER>().store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
