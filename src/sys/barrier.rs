//! Order between this processor's accesses to memory and a device's, by purpose.
//!
//! The processor and the compiler may reorder accesses that no thread could tell apart; a device can. Each function here orders one
//! kind of access, and its callers say what for. x86-64 keeps stores in order among themselves, and loads too, in ordinary
//! memory and in uncached registers, so there only the compiler must be held back, and the processor where write-combining memory is
//! written. aarch64 promises none of that.
//!
//! The fence of the language that stands in each of them holds the compiler back, and is what Miri goes by when a test's thread
//! plays the device.

use super::sync::{Ordering, fence};

/// Whether the orders are known for this architecture: a fence between threads says nothing of devices elsewhere.
pub(crate) const KNOWN: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// What was stored before is in memory before what is stored after it: a device that sees the latter (an owner bit, a
/// doorbell record) sees the former.
#[inline(always)]
pub(crate) fn to_device() {
    fence(Ordering::Release);
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a barrier has no operands and changes no state of the program's.
    unsafe {
        std::arch::asm!("dmb oshst", options(nostack, preserves_flags));
    }
}

/// What was loaded and stored before comes before what is stored after it: a device that sees the latter may overwrite what was
/// read.
#[inline(always)]
pub(crate) fn back_to_device() {
    fence(Ordering::Release);
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as in `to_device`.
    unsafe {
        std::arch::asm!("dmb osh", options(nostack, preserves_flags));
    }
}

/// What was stored to memory before is there before the next store to an uncached register arrives: a device that a
/// doorbell wakes finds everything.
#[inline(always)]
pub(crate) fn before_doorbell() {
    fence(Ordering::Release);
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as in `to_device`.
    unsafe {
        std::arch::asm!("dsb st", options(nostack, preserves_flags));
    }
}

/// The same for a store to write-combining registers, which x86-64 does not order with other stores by itself.
#[inline(always)]
pub(crate) fn before_write_combining() {
    flush_write_combining();
}

/// Write-combining buffers are emptied: what was written to registers goes out now, and is not merged with what is
/// written to them next.
#[inline(always)]
pub(crate) fn flush_write_combining() {
    fence(Ordering::Release);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: as in `to_device`.
    unsafe {
        std::arch::asm!("sfence", options(nostack, preserves_flags));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as in `to_device`.
    unsafe {
        std::arch::asm!("dsb st", options(nostack, preserves_flags));
    }
}

/// What is loaded after was stored by the device no later than what was loaded before (an owner bit): an entry that is seen
/// to be ours is read as the device left it.
#[inline(always)]
pub(crate) fn from_device() {
    fence(Ordering::Acquire);
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as in `to_device`.
    unsafe {
        std::arch::asm!("dmb oshld", options(nostack, preserves_flags));
    }
}
