//! A page of device registers, which are only written: a doorbell is one store of a fixed width.
//!
//! All queues of a context share the doorbells. Each store is a single access, so two of them never mix. Callers order what must be
//! in memory before a store ([`super::barrier`]).

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::region::Region;
use super::slots::Slots;

/// A mapped page of registers.
#[derive(Debug)]
pub(crate) struct Mmio {
    page: Region,
}

impl Mmio {
    /// Maps the page at `offset` of a device file.
    pub(crate) fn map(fd: BorrowedFd<'_>, offset: u64) -> Result<Self, Errno> {
        Region::map(fd, offset, super::linux::page_size()).map(|page| Self { page })
    }

    /// Ordinary memory in place of registers, for tests that play the device.
    #[cfg(test)]
    pub(crate) fn of(page: Region) -> Self {
        Self { page }
    }

    /// Returns its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.page.len()
    }

    /// Stores 32 bits.
    #[inline(always)]
    pub(crate) fn store_u32(&self, offset: usize, value: u32) {
        let at: *mut u32 = self.page.at(offset, 4, 4).cast();
        // SAFETY: within the page, aligned; the program has nothing else there.
        unsafe { at.write_volatile(value) };
    }

    /// Stores 64 bits, in one access where the processor has such a store.
    #[inline(always)]
    pub(crate) fn store_u64(&self, offset: usize, value: u64) {
        let at: *mut u64 = self.page.at(offset, 8, 8).cast();
        // SAFETY: as in `store_u32`.
        unsafe { at.write_volatile(value) };
    }

    /// Copies `count` slots of a queue, from the one with this number on, eight bytes at a time and in order.
    #[inline(always)]
    pub(crate) fn copy(&self, offset: usize, from: &Slots<64>, number: u32, count: u32) {
        let mut to: *mut u64 = self.page.at(offset, count as usize * 64, 8).cast();
        for slot in 0..count {
            let words: [u64; 8] = from.view().entry(number.wrapping_add(slot)).get(0);
            for word in words {
                // SAFETY: within the page, as was checked above; else as in `store_u32`.
                unsafe { to.write_volatile(word) };
                // SAFETY: within the page, or at its end.
                to = unsafe { to.add(1) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_reach_their_registers() {
        let page = Region::heap(4096);
        let device = page.alias();
        let registers = Mmio::of(page);
        registers.store_u32(0x14, 0x1122_3344);
        registers.store_u64(0x20, 0x0102_0304_0506_0708);
        assert_eq!(device.read::<u32>(0x14), 0x1122_3344);
        assert_eq!(device.read::<u64>(0x20), 0x0102_0304_0506_0708);
        let mut queue = Slots::<64>::new(Region::heap(256), 4).unwrap();
        for number in 0..4 {
            queue.slot(number).put(56, u64::from(number) + 1);
        }
        // The last slot, and the first one after it.
        registers.copy(1024, &queue, 3, 2);
        assert_eq!([1016, 1080, 1144, 1208].map(|at| device.read::<u64>(at)), [0, 4, 1, 0]);
    }

    #[test]
    #[should_panic(expected = "not in the region")]
    fn a_page_ends() {
        Mmio::of(Region::heap(4096)).store_u64(4092, 1);
    }
}
