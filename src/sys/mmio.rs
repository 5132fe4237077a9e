//! A page of a device's registers. They are only written: a doorbell is a store of exactly one width.
//!
//! Registers are shared by all who ring: each store is one access of the processor's, so none tears another. What must be in
//! memory before a store is the caller's to order ([`super::barrier`]).

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;

use super::pieces::Pieces;
use super::region::Region;

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

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.page.len()
    }

    /// Stores 32 bits.
    #[inline(always)]
    pub(crate) fn store_u32(&self, offset: usize, value: u32) {
        let at: *mut u32 = self.page.at(offset, 4, 4).cast();
        if cfg!(test) {
            // SAFETY: within the page, aligned; a test's thread that plays the device reads it so.
            unsafe { AtomicU32::from_ptr(at) }.store(value, Ordering::Relaxed);
        } else {
            // SAFETY: within the page, aligned; nothing else of the program's lives there.
            unsafe { at.write_volatile(value) };
        }
    }

    /// Stores 64 bits, at once where the processor has such a store.
    #[inline(always)]
    pub(crate) fn store_u64(&self, offset: usize, value: u64) {
        let at: *mut u64 = self.page.at(offset, 8, 8).cast();
        if cfg!(test) {
            // SAFETY: as in `store_u32`.
            unsafe { AtomicU64::from_ptr(at) }.store(value, Ordering::Relaxed);
        } else {
            // SAFETY: as in `store_u32`.
            unsafe { at.write_volatile(value) };
        }
    }

    /// Copies `blocks` pieces of memory from the one with that number on, eight bytes at a time and in order.
    #[inline(always)]
    pub(crate) fn copy(&self, offset: usize, from: &Pieces<64>, number: u32, blocks: u32) {
        let mut to: *mut u64 = self.page.at(offset, blocks as usize * 64, 8).cast();
        for block in 0..blocks {
            let words: [u64; 8] = from.view().entry(number.wrapping_add(block)).get(0);
            for word in words {
                if cfg!(test) {
                    // SAFETY: within the page, as was checked above; else as in `store_u32`.
                    unsafe { AtomicU64::from_ptr(to) }.store(word, Ordering::Relaxed);
                } else {
                    // SAFETY: as above.
                    unsafe { to.write_volatile(word) };
                }
                // SAFETY: within the page, or where it ends.
                to = unsafe { to.add(1) };
            }
        }
    }
}
