//! A queue's memory as pieces of one size, by running number.
//!
//! There are as many as a power of two, and a number counts round and round: every number has a piece, so where the memory lies
//! is checked once, when this is made, and nothing when a piece is looked at.

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::region::{Entry, Region, Slot};

/// A region as pieces of `N` bytes.
#[derive(Debug)]
pub(crate) struct Pieces<const N: usize> {
    base: NonNull<u8>,
    /// How many there are, less one.
    mask: u32,
    memory: Region,
}

// SAFETY: as of the region, which this is a view of.
unsafe impl<const N: usize> Send for Pieces<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for Pieces<N> {}

impl<const N: usize> Pieces<N> {
    /// All of a region that is of pieces, and of one at least.
    pub(crate) fn of(memory: Region) -> Self {
        const { assert!(N.is_multiple_of(8)) };
        let count = (memory.len() / N).checked_ilog2().unwrap_or(0).min(u32::BITS - 1);
        let mask = (1u32 << count) - 1;
        // All of them are inside, and the first is aligned: so is each.
        let base = memory.at(0, (mask as usize + 1) * N, 8);
        Self { base: NonNull::new(base).unwrap_or(NonNull::dangling()), mask, memory }
    }

    /// The memory.
    pub(crate) fn memory(&self) -> &Region {
        &self.memory
    }

    /// A piece that the other side has handed over, for writing.
    #[inline(always)]
    pub(crate) fn slot(&mut self, number: u32) -> Slot<'_, N> {
        Slot { base: piece::<N>(self.base, self.mask, number).as_ptr(), _region: PhantomData }
    }

    /// All of them for reading.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_, N> {
        View { base: self.base, mask: self.mask, _region: PhantomData }
    }
}

/// Pieces for reading, at hand: no memory is looked at to find one.
#[derive(Clone, Copy)]
pub(crate) struct View<'r, const N: usize> {
    base: NonNull<u8>,
    mask: u32,
    _region: PhantomData<&'r Region>,
}

impl<'r, const N: usize> View<'r, N> {
    /// A piece, once the other side has handed it over.
    #[inline(always)]
    pub(crate) fn entry(&self, number: u32) -> Entry<'r, N> {
        Entry { base: piece::<N>(self.base, self.mask, number).as_ptr(), _region: PhantomData }
    }
}

/// Where the piece with this number begins, of pieces that begin at `base` and are `mask` plus 1.
#[inline(always)]
fn piece<const N: usize>(base: NonNull<u8>, mask: u32, number: u32) -> NonNull<u8> {
    // SAFETY: they are inside one region.
    unsafe { base.add((number & mask) as usize * N) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_piece() {
        // Seven make four.
        let mut pieces = Pieces::<16>::of(Region::heap(7 * 16));
        assert_eq!(pieces.mask + 1, 4);
        for number in [0, 5, 2, u32::MAX] {
            pieces.slot(number).put(8, u64::from(number));
        }
        let found = |number| pieces.view().entry(number).get::<u64>(8);
        assert_eq!([found(4), found(1), found(6), found(3)], [0, 5, 2, u64::from(u32::MAX)]);
        assert_eq!(pieces.memory().read::<u64>(3 * 16 + 8), u64::from(u32::MAX));
    }

    #[test]
    #[should_panic(expected = "not in the region")]
    fn there_is_one_at_least() {
        Pieces::<16>::of(Region::heap(8));
    }
}
