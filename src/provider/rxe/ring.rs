//! The ring that a queue is: slots between a producer index and a consumer index, one of which is ours and the other the
//! kernel's. One slot always stays empty, so that full and empty differ.
//!
//! Each side owns one index word and only reads the other's. Ours is cached and published once for a batch. The kernel's
//! side is `drivers/infiniband/sw/rxe/rxe_queue.h`, which uses the mirror image of each ordering named here.

use std::mem::offset_of;

use crate::error::{Error, Result};
use crate::sys::region::Region;
use crate::uapi::rxe::QueueBuf;

const PRODUCER: usize = offset_of!(QueueBuf, producer_index);
const CONSUMER: usize = offset_of!(QueueBuf, consumer_index);

/// The memory of a ring, whose size has been checked against what its header claims.
struct Slots {
    region: Region,
    mask: u32,
    shift: u32,
}

impl Slots {
    /// Checks that slots of `slot` bytes at least, as the header describes them, lie within the mapping.
    fn new(region: Region, what: &'static str, slot: usize) -> Result<Self> {
        let wrong = |why: String| Error::bad_answer(what, "rxe queue", why);
        let header = size_of::<QueueBuf>();
        if region.len() < header {
            return Err(wrong(format!("it has {} bytes, less than its header", region.len())));
        }
        let shift = region.load_relaxed(offset_of!(QueueBuf, log2_elem_size));
        let mask = region.load_relaxed(offset_of!(QueueBuf, index_mask));
        let slots = u64::from(mask) + 1;
        if shift > 20 || !slots.is_power_of_two() {
            return Err(wrong(format!("its header claims {slots} slots of 2^{shift} bytes")));
        }
        if (1usize << shift) < slot {
            return Err(wrong(format!("its slots have 2^{shift} bytes where {slot} are needed")));
        }
        if header as u64 + (slots << shift) > region.len() as u64 {
            return Err(wrong(format!("{slots} slots of 2^{shift} bytes exceed its {} bytes", region.len())));
        }
        Ok(Self { region, mask, shift })
    }

    fn next(&self, index: u32) -> u32 {
        index.wrapping_add(1) & self.mask
    }

    /// Where a slot begins. `index` may come from the kernel: it is masked.
    fn offset(&self, index: u32) -> usize {
        size_of::<QueueBuf>() + (((index & self.mask) as usize) << self.shift)
    }
}

/// The side that fills slots: send and receive queues.
pub(super) struct Producer {
    slots: Slots,
    /// The next slot to fill; the kernel knows all before the last `publish`.
    head: u32,
    /// The kernel's index when last looked at: it has taken every slot before it.
    tail: u32,
}

impl Producer {
    /// A ring of which the kernel is the consumer.
    pub(super) fn new(region: Region, what: &'static str, slot: usize) -> Result<Self> {
        let slots = Slots::new(region, what, slot)?;
        let head = slots.region.load_relaxed(PRODUCER) & slots.mask;
        Ok(Self { slots, head, tail: head })
    }

    /// The slot to fill next, as an offset for [`Self::region`]; `None` while the ring is full.
    #[inline]
    pub(super) fn free_slot(&mut self) -> Option<usize> {
        let next = self.slots.next(self.head);
        if next == self.tail {
            // Acquire: pairs with the kernel's release of its consumer index, so that our writes into the slot come after
            // its last reads of it.
            self.tail = self.slots.region.load_acquire(CONSUMER) & self.slots.mask;
            if next == self.tail {
                return None;
            }
        }
        Some(self.slots.offset(self.head))
    }

    /// The memory that offsets count in.
    #[inline]
    pub(super) fn region(&mut self) -> &mut Region {
        &mut self.slots.region
    }

    /// The slot that [`Self::free_slot`] gave is filled.
    #[inline]
    pub(super) fn fill(&mut self) {
        self.head = self.slots.next(self.head);
    }

    /// Shows the kernel every slot filled so far.
    #[inline]
    pub(super) fn publish(&mut self) {
        // Release: pairs with the kernel's acquire of the producer index, so that it sees the slots filled.
        self.slots.region.store_release(PRODUCER, self.head);
    }

    /// Slots that can be filled at once.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> u32 {
        self.slots.mask
    }
}

/// The side that empties slots: completion queues.
pub(super) struct Consumer {
    slots: Slots,
    /// The next slot to read.
    tail: u32,
}

impl Consumer {
    /// A ring of which the kernel is the producer.
    pub(super) fn new(region: Region, what: &'static str, slot: usize) -> Result<Self> {
        let slots = Slots::new(region, what, slot)?;
        let tail = slots.region.load_relaxed(CONSUMER) & slots.mask;
        Ok(Self { slots, tail })
    }

    /// How many filled slots there are to read.
    #[inline]
    pub(super) fn filled(&self) -> usize {
        // Acquire: pairs with the kernel's release of the producer index, so that we see the slots it filled.
        let head = self.slots.region.load_acquire(PRODUCER);
        (head.wrapping_sub(self.tail) & self.slots.mask) as usize
    }

    /// The oldest filled slot, where there is one.
    #[cfg(test)]
    pub(super) fn filled_slot(&mut self) -> Option<usize> {
        (self.filled() > 0).then(|| self.oldest())
    }

    /// The oldest filled slot, as an offset for [`Self::region`].
    #[inline]
    pub(super) fn oldest(&self) -> usize {
        self.slots.offset(self.tail)
    }

    /// The memory that offsets count in.
    #[inline]
    pub(super) fn region(&self) -> &Region {
        &self.slots.region
    }

    /// The slot that [`Self::oldest`] gave has been read.
    #[inline]
    pub(super) fn take(&mut self) {
        self.tail = self.slots.next(self.tail);
    }

    /// Gives every slot read so far back to the kernel.
    #[inline]
    pub(super) fn publish(&mut self) {
        // Release: pairs with the kernel's acquire of the consumer index, so that our reads of the slots come before
        // it fills them anew.
        self.slots.region.store_release(CONSUMER, self.tail);
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
