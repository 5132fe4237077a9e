//! A queue as siw shares it: an array of entries, each with a word that says whose turn it is.
//!
//! There are no shared indices. Each side goes round the array with an index of its own and stops at the first entry that is not its
//! turn. The word is read with acquire and written with release ordering, so whoever sees the turn change sees the entry as it was
//! left. The kernel's side is `drivers/infiniband/sw/siw/siw_qp.c`.

use std::sync::atomic::{Ordering, fence};

use crate::error::{Error, Result};
use crate::sys::region::{Entry, Region, Slot};
use crate::sys::slots::Slots;
use crate::uapi::siw::SIW_WQE_VALID;

/// Offset of the word in requests and in completions. Its first bytes are the flags.
pub(super) const TURN: usize = 8;

fn slots<const N: usize>(region: Region, count: u32, what: &'static str) -> Result<Slots<N>> {
    let len = region.len();
    Slots::new(region, count).ok_or_else(|| {
        let why = format!("{count} entries of {N} bytes do not make a queue of {len} bytes");
        Error::bad_answer(what, "siw queue", why)
    })
}

/// Bytes of a queue of `count` entries of `N` bytes and `more` bytes, if the kernel could map as many.
pub(super) fn size<const N: usize>(count: u32, more: usize, what: &'static str) -> Result<u32> {
    let bytes = u64::from(count) * N as u64 + more as u64;
    u32::try_from(bytes).map_err(|_| {
        Error::bad_answer(what, "siw queue", format!("a queue of {count} entries has {bytes} bytes"))
    })
}

/// The side that fills entries: send and receive queues.
pub(super) struct Producer<const N: usize> {
    slots: Slots<N>,
    /// The next entry to fill.
    head: u32,
}

impl<const N: usize> Producer<N> {
    /// An empty queue of `count` entries. `what` is the verb that it comes from.
    pub(super) fn new(region: Region, count: u32, what: &'static str) -> Result<Self> {
        Ok(Self { slots: slots(region, count, what)?, head: 0 })
    }

    /// The number of the entry to fill next; `None` while the queue is full.
    #[inline(always)]
    pub(super) fn free_slot(&self) -> Option<u32> {
        if self.slots.entry(self.head).owner(TURN) & valid() != 0 {
            return None;
        }
        // Our writes into the entry come after the kernel's last reads of it.
        fence(Ordering::Acquire);
        Some(self.head)
    }

    /// The entry with this number.
    #[inline(always)]
    pub(super) fn slot(&mut self, number: u32) -> Slot<'_, N> {
        self.slots.slot(number)
    }

    /// Copies bytes into the entry with this number.
    #[inline]
    pub(super) fn fill_bytes(&mut self, number: u32, offset: usize, bytes: &[u8]) {
        let at = self.slots.offset(number) + offset;
        self.slots.region_mut().fill(at, bytes);
    }

    /// Hands the entry that [`free_slot`](Self::free_slot) returned over to the kernel, which may look at once. `turn` has
    /// `SIW_WQE_VALID`.
    #[inline(always)]
    pub(super) fn hand_over(&mut self, turn: u32) {
        // The kernel sees the entry filled.
        fence(Ordering::Release);
        self.slots.slot(self.head).hand_over(TURN, turn);
        self.head = self.head.wrapping_add(1);
    }
}

/// The side that empties entries: completion queues.
pub(super) struct Consumer<const N: usize> {
    slots: Slots<N>,
    /// The next entry to read.
    tail: u32,
    /// The next entry to give back: those from there to `tail` have been read.
    given: u32,
}

impl<const N: usize> Consumer<N> {
    /// An empty queue of `count` entries.
    pub(super) fn new(region: Region, count: u32, what: &'static str) -> Result<Self> {
        Ok(Self { slots: slots(region, count, what)?, tail: 0, given: 0 })
    }

    /// The oldest filled entry and its word.
    #[inline(always)]
    pub(super) fn oldest(&self) -> Option<(u32, Entry<'_, N>)> {
        let entry = self.slots.entry(self.tail);
        let turn = entry.owner(TURN);
        // A queue of which every entry has been read and none given back has nothing new.
        if turn & valid_byte() == 0 || self.tail.wrapping_sub(self.given) > self.slots.mask() {
            return None;
        }
        // We see the entry as the kernel filled it.
        fence(Ordering::Acquire);
        Some((turn, entry))
    }

    /// The entry that [`oldest`](Self::oldest) returned has been read.
    #[inline(always)]
    pub(super) fn take(&mut self) {
        self.tail = self.tail.wrapping_add(1);
    }

    /// Gives every entry read so far back to the kernel.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        // Our reads of the entries come before the kernel fills them again.
        fence(Ordering::Release);
        while self.given != self.tail {
            self.slots.slot(self.given).hand_over(TURN, 0);
            self.given = self.given.wrapping_add(1);
        }
    }
}

/// `SIW_WQE_VALID` in a request's word, whose flags are 16 bits.
#[inline(always)]
fn valid() -> u32 {
    request_word(SIW_WQE_VALID, 0, 0)
}

/// The same in a completion's word, whose flags are 8 bits.
#[inline(always)]
fn valid_byte() -> u32 {
    u32::from_ne_bytes([SIW_WQE_VALID as u8, 0, 0, 0])
}

/// The word of a request, as its three fields lie in memory.
#[inline(always)]
pub(super) fn request_word(flags: u16, num_sge: u8, opcode: u8) -> u32 {
    let [first, second] = flags.to_ne_bytes();
    u32::from_ne_bytes([first, second, num_sge, opcode])
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
