//! A queue's memory as slots of one size, found by running number.
//!
//! The number of slots is a power of two and numbers wrap around it, so every number has a slot. The bounds are therefore checked
//! once, when a [`Slots`] is created, and not at each access.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use nix::errno::Errno;

use super::region::{Entry, Region, Slot};

/// Slots behind a header of `HEADER` bytes, `STRIDE` bytes from one to the next; a `STRIDE` of 0 stands for one that is only known
/// when the queue has been mapped. The first `N` bytes of each slot are accessible.
#[derive(Debug)]
pub(crate) struct Slots<const N: usize, const STRIDE: usize = N, const HEADER: usize = 0> {
    /// The first slot.
    base: NonNull<u8>,
    /// The number of slots, less one.
    mask: u32,
    /// Log2 of the bytes from one slot to the next.
    shift: u32,
    region: Region,
}

// SAFETY: it is a view of the region, which is both.
unsafe impl<const N: usize, const S: usize, const H: usize> Send for Slots<N, S, H> {}
// SAFETY: as above.
unsafe impl<const N: usize, const S: usize, const H: usize> Sync for Slots<N, S, H> {}

impl<const N: usize> Slots<N> {
    /// Splits the beginning of `region` into `count` slots; `None` if `count` is not a power of two or they do not fit.
    pub(crate) fn new(region: Region, count: u32) -> Option<Self> {
        Self::checked(region, count, N as u64, 0)
    }

    /// Zeroed slots in memory of their own.
    ///
    /// # Errors
    /// There is not enough memory, or `count` is not a power of two.
    pub(crate) fn zeroed(count: u32) -> Result<Self, Errno> {
        let region = Region::zeroed((count as usize).checked_mul(N).ok_or(Errno::ENOMEM)?)?;
        Self::new(region, count).ok_or(Errno::EINVAL)
    }
}

impl<const N: usize, const STRIDE: usize, const HEADER: usize> Slots<N, STRIDE, HEADER> {
    /// `count` slots of 2^`shift` bytes behind the header; `None` if `count` is not a power of two, they do not fit the region, or a
    /// slot is shorter than `N` bytes.
    pub(crate) fn behind_header(region: Region, count: u32, shift: u32) -> Option<Self> {
        Self::checked(region, count, 1u64.checked_shl(shift)?, shift)
    }

    /// `count` slots of `size` bytes. `shift` is its binary logarithm, unless the stride is constant.
    fn checked(region: Region, count: u32, size: u64, shift: u32) -> Option<Self> {
        const {
            assert!(HEADER.is_multiple_of(8) && N.is_multiple_of(8));
            assert!(STRIDE == 0 || STRIDE.is_multiple_of(8) && STRIDE >= N);
        }
        let end = u64::from(count).checked_mul(size)?.checked_add(HEADER as u64)?;
        if !count.is_power_of_two()
            || size < (N as u64).max(8)
            || STRIDE != 0 && size != STRIDE as u64
            || end > region.len() as u64
            || region.len() == 0
        {
            return None;
        }
        // All slots are inside the region and the first is aligned to 8 bytes, so each is.
        let base = NonNull::new(region.at(0, end as usize, 8))?;
        // SAFETY: the header is inside the region.
        let base = unsafe { base.add(HEADER) };
        Some(Self { base, mask: count - 1, shift, region })
    }

    /// The number of slots, less one.
    #[inline(always)]
    pub(crate) fn mask(&self) -> u32 {
        self.mask
    }

    /// The offset of a slot in the region.
    #[inline(always)]
    pub(crate) fn offset(&self, number: u32) -> usize {
        HEADER + offset::<STRIDE>(self.mask, self.shift, number)
    }

    #[inline(always)]
    fn at(&self, number: u32) -> NonNull<u8> {
        // SAFETY: all `mask` + 1 slots are inside the region.
        unsafe { self.base.add(offset::<STRIDE>(self.mask, self.shift, number)) }
    }

    /// A slot that the other side has handed over, for writing.
    #[inline(always)]
    pub(crate) fn slot(&mut self, number: u32) -> Slot<'_, N> {
        Slot { base: self.at(number).as_ptr(), _region: PhantomData }
    }

    /// A slot that the other side has handed over, for reading.
    #[inline(always)]
    pub(crate) fn entry(&self, number: u32) -> Entry<'_, N> {
        Entry { base: self.at(number).as_ptr(), _region: PhantomData }
    }

    /// All slots for reading, in registers: finding one takes no load from memory.
    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_, N, STRIDE> {
        View { base: self.base, mask: self.mask, shift: self.shift, _region: PhantomData }
    }

    /// The word `AT` bytes from the beginning of the header, which both sides access atomically.
    #[inline(always)]
    pub(crate) fn word<const AT: usize>(&self) -> &AtomicU32 {
        const { assert!(AT + 4 <= HEADER && AT.is_multiple_of(4)) };
        // SAFETY: inside the header, aligned, and everybody who shares the region accesses its index words atomically.
        unsafe { AtomicU32::from_ptr(self.base.sub(HEADER - AT).as_ptr().cast()) }
    }

    /// The memory, for what lies beyond the first `N` bytes of a slot.
    #[inline(always)]
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// As [`region`](Self::region), for writing.
    #[inline(always)]
    pub(crate) fn region_mut(&mut self) -> &mut Region {
        &mut self.region
    }
}

/// Makes `count` values; `make` gets the index of each.
///
/// # Errors
/// There is not enough memory.
pub(crate) fn boxed<T>(count: usize, make: impl FnMut(usize) -> T) -> Result<Box<[T]>, Errno> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    values.extend((0..count).map(make));
    Ok(values.into_boxed_slice())
}

/// Numbers that several threads read and write by running number.
#[derive(Debug)]
pub(crate) struct Numbers(Slots<8>);

impl Numbers {
    /// At least `count` of them, all 0.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn new(count: u32) -> Result<Self, Errno> {
        let count = count.max(1).checked_next_power_of_two().ok_or(Errno::ENOMEM)?;
        Slots::zeroed(count).map(Self)
    }

    /// The one with this number.
    #[inline(always)]
    pub(crate) fn at(&self, number: u32) -> &AtomicU64 {
        // SAFETY: a slot has 8 bytes and is aligned to them; nothing else gives access to this memory.
        unsafe { AtomicU64::from_ptr(self.0.at(number).as_ptr().cast()) }
    }
}

/// Slots for reading.
#[derive(Clone, Copy)]
pub(crate) struct View<'r, const N: usize, const STRIDE: usize = N> {
    base: NonNull<u8>,
    mask: u32,
    shift: u32,
    _region: PhantomData<&'r Region>,
}

impl<'r, const N: usize, const STRIDE: usize> View<'r, N, STRIDE> {
    /// A slot that the other side has handed over.
    #[inline(always)]
    pub(crate) fn entry(&self, number: u32) -> Entry<'r, N> {
        // SAFETY: all `mask` + 1 slots are inside the region.
        let base = unsafe { self.base.add(offset::<STRIDE>(self.mask, self.shift, number)) };
        Entry { base: base.as_ptr(), _region: PhantomData }
    }
}

/// Bytes from the first slot to the one with this number. Where the stride is known, `shift` is not looked at.
#[inline(always)]
fn offset<const STRIDE: usize>(mask: u32, shift: u32, number: u32) -> usize {
    let number = (number & mask) as usize;
    if STRIDE == 0 { number << shift } else { number * STRIDE }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn every_number_has_a_slot() {
        let mut slots = Slots::<24, 0, 16>::behind_header(Region::heap(16 + 4 * 32), 4, 5).unwrap();
        for number in [0, 5, 2, u32::MAX] {
            slots.slot(number).put(16, u64::from(number));
        }
        let found = |number| slots.entry(number).get::<u64>(16);
        assert_eq!([found(4), found(1), found(6), found(3)], [0, 5, 2, u64::from(u32::MAX)]);
        slots.word::<12>().store(7, Ordering::Relaxed);
        assert_eq!(slots.region().load_relaxed(12), 7);
        assert_eq!(slots.region().read::<u64>(slots.offset(3) + 16), u64::from(u32::MAX));
    }

    #[test]
    fn slots_of_a_constant_size_need_no_header() {
        let mut slots = Slots::<16>::new(Region::heap(7 * 16), 4).unwrap();
        for number in [0, 5, 2, u32::MAX] {
            slots.slot(number).put(8, u64::from(number));
        }
        let found = |number| slots.view().entry(number).get::<u64>(8);
        assert_eq!([found(4), found(1), found(6), found(3)], [0, 5, 2, u64::from(u32::MAX)]);
        assert_eq!(slots.region().read::<u64>(3 * 16 + 8), u64::from(u32::MAX));
    }

    /// siw's requests have 120 and 112 bytes.
    #[test]
    fn slots_of_a_constant_size_need_no_power_of_two() {
        let mut slots = Slots::<24>::new(Region::heap(4 * 24), 4).unwrap();
        for number in [0, 5, 2, u32::MAX] {
            slots.slot(number).put(16, u64::from(number));
        }
        let found = |number| slots.entry(number).get::<u64>(16);
        assert_eq!([found(4), found(1), found(6), found(3)], [0, 5, 2, u64::from(u32::MAX)]);
        assert_eq!((slots.offset(6), slots.region().read::<u64>(2 * 24 + 16)), (48, 2));
        assert!(Slots::<24>::new(Region::heap(4 * 24 - 1), 4).is_none());
    }

    #[test]
    fn slots_lie_in_the_region() {
        let made =
            |len, count, shift| Slots::<24, 0, 16>::behind_header(Region::heap(len), count, shift).is_some();
        assert!(made(16 + 4 * 32, 4, 5) && made(16 + 32, 1, 5));
        for (len, count, shift) in [
            (8 + 4 * 32, 4, 5),
            (4096, 0, 5),
            (4096, 3, 5),
            (4096, 4, 4),
            (4096, 1 << 31, 5),
            (4096, 4, 63),
            (4096, 4, 64),
        ] {
            assert!(!made(len, count, shift), "{len} {count} {shift}");
        }
        let made = |len, count| Slots::<16>::new(Region::heap(len), count).is_some();
        assert!(made(64, 4) && made(16, 1));
        for (len, count) in [(63, 4), (8, 1), (64, 3), (64, 0), (64, u32::MAX)] {
            assert!(!made(len, count), "{len} {count}");
        }
    }

    #[test]
    fn numbers_wrap_around() {
        let numbers = Numbers::new(3).unwrap();
        for n in 0..4 {
            numbers.at(n).store(u64::from(n) + 1, Ordering::Relaxed);
        }
        let found = [0, 1, 2, 3, 4, u32::MAX].map(|n| numbers.at(n).load(Ordering::Relaxed));
        assert_eq!(found, [1, 2, 3, 4, 1, 4]);
        assert_eq!(Numbers::new(0).unwrap().at(5).load(Ordering::Relaxed), 0);
        assert!(Numbers::new(u32::MAX).is_err());
    }

    #[test]
    fn threads_share_numbers() {
        let numbers = Numbers::new(2).unwrap();
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| numbers.at(5).fetch_add(1, Ordering::Relaxed));
            }
        });
        assert_eq!(numbers.at(1).load(Ordering::Relaxed), 2);
    }
}
