//! The registers of a context: a page of doorbells (UAR) and a page of BlueFlame registers, into which a whole request can be
//! written, so that the device need not fetch it.
//!
//! Every queue rings the same doorbells: each is one store. A BlueFlame register takes several stores, so it has one owner, a
//! send queue; there are a few, and queues that get none ring the doorbell. That is how no lock is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::wqe::CHUNK;
use crate::sys::barrier;
use crate::sys::mmio::Mmio;
use crate::sys::slots::Slots;

/// Where the doorbell of send queues and that of completion queues lie in the page.
const SEND_DOORBELL: usize = 0x14;
const CQ_DOORBELL: usize = 0x20;

/// The registers.
#[derive(Debug)]
pub(super) struct Uar {
    doorbells: Mmio,
    blueflame: Option<BlueFlame>,
}

#[derive(Debug)]
struct BlueFlame {
    page: Mmio,
    /// Bytes of a register, which is two buffers that are used in turn.
    size: usize,
    /// A bit for each register that has no owner.
    free: AtomicU64,
}

/// A BlueFlame register, given back when dropped.
#[derive(Debug)]
pub(super) struct Register {
    uar: Arc<Uar>,
    index: u32,
    /// Where the buffer to use next begins in the page; the other one differs in one bit.
    at: usize,
    /// Bytes of a buffer.
    half: usize,
}

impl Uar {
    /// `blueflame` has the page, the bytes of a register and how many there are, as the caller has checked them.
    pub(super) fn new(doorbells: Mmio, blueflame: Option<(Mmio, usize, usize)>) -> Self {
        let blueflame = blueflame.map(|(page, size, count)| {
            let count = count.min(page.len() / size).min(64);
            let free = AtomicU64::new(u64::MAX.checked_shr(64 - count as u32).unwrap_or(0));
            BlueFlame { page, size, free }
        });
        Self { doorbells, blueflame }
    }

    /// Rings for a send queue; `qpn` is its number as the device wants it. What it announces must be in memory before
    /// ([`barrier::before_doorbell`]).
    #[inline(always)]
    pub(super) fn ring_send(&self, qpn: u32) {
        self.doorbells.store_u32(SEND_DOORBELL, qpn);
    }

    /// Rings the doorbell of completion queues with an arm command, as the device wants it.
    pub(super) fn arm_cq(&self, command: u64) {
        self.doorbells.store_u64(CQ_DOORBELL, command);
    }

    /// A BlueFlame register that nobody has.
    pub(super) fn register(self: &Arc<Self>) -> Option<Register> {
        let BlueFlame { size, free, .. } = self.blueflame.as_ref()?;
        let before = free.fetch_update(Ordering::Acquire, Ordering::Relaxed, |free| {
            (free != 0).then(|| free & free.wrapping_sub(1))
        });
        let index = before.ok()?.trailing_zeros();
        let half = size / 2;
        Some(Register { uar: Arc::clone(self), index, at: index as usize * size, half })
    }
}

impl Register {
    /// Bytes of the longest request that it takes.
    #[inline(always)]
    pub(super) fn capacity(&self) -> usize {
        self.half
    }

    /// Writes the request of so many chunks of `queue`, the first of which is `chunk`.
    #[inline(always)]
    pub(super) fn write(&mut self, queue: &Slots<CHUNK>, chunk: u32, chunks: u32) {
        let Some(BlueFlame { page, .. }) = &self.uar.blueflame else { return };
        // The request is in memory before any of it arrives: the device may fetch what it thinks it has not got.
        barrier::before_write_combining();
        page.copy(self.at, queue, chunk, chunks);
        // Out with it now, and unmixed with what goes to the other buffer next.
        barrier::flush_write_combining();
        self.at ^= self.half;
    }
}

impl Drop for Register {
    fn drop(&mut self) {
        if let Some(BlueFlame { free, .. }) = &self.uar.blueflame {
            free.fetch_or(1 << self.index, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::region::Region;

    #[test]
    fn registers_have_one_owner_each() {
        let page = || Mmio::of(Region::heap(4096));
        let uar = Arc::new(Uar::new(page(), Some((page(), 512, 8))));
        let mut registers: Vec<_> = (0..8).map(|_| uar.register().unwrap()).collect();
        assert!(uar.register().is_none());
        assert_eq!(
            registers.iter().map(|r| r.at).collect::<Vec<_>>(),
            [0, 512, 1024, 1536, 2048, 2560, 3072, 3584]
        );
        registers.remove(3);
        assert_eq!(uar.register().map(|r| r.at), Some(1536));
        assert!(Arc::new(Uar::new(page(), None)).register().is_none());
        // More than fit the page.
        let uar = Arc::new(Uar::new(page(), Some((page(), 1024, 64))));
        let registers: Vec<_> = (0..9).map_while(|_| uar.register()).collect();
        assert_eq!(registers.len(), 4);
    }
}
