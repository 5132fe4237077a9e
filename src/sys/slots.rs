//! A ring in memory that the other side maps too: a header with index words, and slots behind it.
//!
//! There are as many slots as a power of two, each of as many bytes, and a number counts round and round: every number has a slot. Where
//! they lie is checked once, when this is made, and nothing when a slot or an index word is looked at.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use super::region::{Entry, Region, Slot};

/// Slots behind a header of `HEADER` bytes. The first `N` bytes of each are at hand.
#[derive(Debug)]
pub(crate) struct Slots<const HEADER: usize, const N: usize> {
    base: NonNull<u8>,
    /// How many slots there are, less one.
    mask: u32,
    /// Log2 of the bytes of a slot.
    shift: u32,
    region: Region,
}

// SAFETY: as of the region, which this is a view of.
unsafe impl<const HEADER: usize, const N: usize> Send for Slots<HEADER, N> {}
// SAFETY: as above.
unsafe impl<const HEADER: usize, const N: usize> Sync for Slots<HEADER, N> {}

impl<const HEADER: usize, const N: usize> Slots<HEADER, N> {
    /// `mask` plus 1 slots of 2^`shift` bytes; nothing where that is no power of two, or not in the region, or a slot has less
    /// than `N` bytes.
    pub(crate) fn new(region: Region, mask: u32, shift: u32) -> Option<Self> {
        const { assert!(HEADER.is_multiple_of(8)) };
        let slots = u64::from(mask) + 1;
        let size = 1u64.checked_shl(shift)?;
        let end = slots.checked_mul(size)?.checked_add(HEADER as u64)?;
        if !slots.is_power_of_two() || size < (N as u64).max(8) || end > region.len() as u64 {
            return None;
        }
        // All of it is inside, and the first slot is aligned: so is each.
        let base = NonNull::new(region.at(0, end as usize, 8))?;
        Some(Self { base, mask, shift, region })
    }

    /// How many slots there are, less one.
    #[inline(always)]
    pub(crate) fn mask(&self) -> u32 {
        self.mask
    }

    /// Where a slot begins in the region.
    #[inline(always)]
    pub(crate) fn offset(&self, number: u32) -> usize {
        HEADER + (((number & self.mask) as usize) << self.shift)
    }

    #[inline(always)]
    fn at(&self, number: u32) -> NonNull<u8> {
        // SAFETY: `mask` plus 1 slots are inside the region.
        unsafe { self.base.add(self.offset(number)) }
    }

    /// A slot that the other side has handed over, for writing.
    #[inline(always)]
    pub(crate) fn slot(&mut self, number: u32) -> Slot<'_, N> {
        Slot { base: self.at(number).as_ptr(), _region: PhantomData }
    }

    /// A slot for reading, once the other side has handed it over.
    #[inline(always)]
    pub(crate) fn entry(&self, number: u32) -> Entry<'_, N> {
        Entry { base: self.at(number).as_ptr(), _region: PhantomData }
    }

    /// The word `AT` bytes from the header's beginning, which both sides access atomically.
    #[inline(always)]
    pub(crate) fn word<const AT: usize>(&self) -> &AtomicU32 {
        const { assert!(AT + 4 <= HEADER && AT.is_multiple_of(4)) };
        // SAFETY: inside the header, aligned, and everybody who shares the region accesses its index words atomically.
        unsafe { AtomicU32::from_ptr(self.base.add(AT).as_ptr().cast()) }
    }

    /// The memory, for what does not lie in the first `N` bytes of a slot.
    #[inline(always)]
    pub(crate) fn region(&mut self) -> &mut Region {
        &mut self.region
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn every_number_has_a_slot() {
        let mut slots = Slots::<16, 24>::new(Region::heap(16 + 4 * 32), 3, 5).unwrap();
        for number in [0, 5, 2, u32::MAX] {
            slots.slot(number).put(16, u64::from(number));
        }
        let found = |number| slots.entry(number).get::<u64>(16);
        assert_eq!([found(4), found(1), found(6), found(3)], [0, 5, 2, u64::from(u32::MAX)]);
        slots.word::<12>().store(7, Ordering::Relaxed);
        assert_eq!(slots.region().load_relaxed(12), 7);
        let at = slots.offset(3) + 16;
        assert_eq!(slots.region().read::<u64>(at), u64::from(u32::MAX));
    }

    #[test]
    fn slots_lie_in_the_region() {
        let made = |len, mask, shift| Slots::<16, 24>::new(Region::heap(len), mask, shift).is_some();
        assert!(made(16 + 4 * 32, 3, 5) && made(16 + 32, 0, 5));
        for (len, mask, shift) in [
            (8 + 4 * 32, 3, 5),
            (4096, 2, 5),
            (4096, 3, 4),
            (4096, u32::MAX, 5),
            (4096, 3, 63),
            (4096, 3, 64),
        ] {
            assert!(!made(len, mask, shift), "{len} {mask} {shift}");
        }
    }
}
