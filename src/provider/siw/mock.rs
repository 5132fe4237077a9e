//! The kernel's side of siw's queues, played by a test on the very memory of the ring under test.
//!
//! What the driver does is taken from Linux 6.1, `drivers/infiniband/sw/siw`: `siw_activate_tx` and `siw_rqe_get` empty entries,
//! `siw_sqe_complete` and `siw_rqe_complete` fill them, `siw_cq_notify_now` reads the word behind a completion queue. Where a field
//! lies is counted from the C declarations of `rdma/siw-abi.h` and written out as numbers: our own structures are under test.
//!
//! All of it runs under Miri, which reports an entry that is read before it has been handed over as a data race:
//!
//! ```text
//! MIRIFLAGS=-Zmiri-permissive-provenance cargo +nightly miri test --lib provider::siw
//! ```

use std::sync::atomic::{Ordering, fence};

pub(super) use crate::sys::linux::testing::Random;
use crate::sys::region::Region;

/// `struct siw_sqe`; its flags have 16 bits.
pub(super) mod sqe {
    pub(in super::super) const ID: usize = 0;
    pub(in super::super) const FLAGS: usize = 8;
    pub(in super::super) const NUM_SGE: usize = 10;
    pub(in super::super) const OPCODE: usize = 11;
    pub(in super::super) const RKEY: usize = 12;
    pub(in super::super) const RADDR: usize = 16;
    pub(in super::super) const SGE: usize = 24;
    pub(in super::super) const INLINE: usize = 40;
    pub(in super::super) const SIZE: usize = 120;
}

/// `struct siw_rqe`
pub(super) mod rqe {
    pub(in super::super) const SGE: usize = 16;
    pub(in super::super) const SIZE: usize = 112;
}

/// `struct siw_cqe`; its flags have 8 bits.
pub(super) mod cqe {
    pub(in super::super) const ID: usize = 0;
    pub(in super::super) const OPCODE: usize = 9;
    pub(in super::super) const STATUS: usize = 10;
    pub(in super::super) const BYTES: usize = 12;
    pub(in super::super) const QP_ID: usize = 24;
    pub(in super::super) const SIZE: usize = 32;
    /// `struct siw_cq_ctrl`
    pub(in super::super) const CONTROL: usize = 8;
}

/// The word with the flags of each kind of entry.
const TURN: usize = 8;
/// `SIW_WQE_VALID`
const VALID: u32 = 1;

/// What the driver knows of a queue, and its own index.
pub(super) struct Queue {
    memory: Region,
    size: usize,
    count: u32,
    index: u32,
}

/// An empty queue of `count` entries of `size` bytes and `more` bytes: the user's mapping and the driver's end.
pub(super) fn queue(count: u32, size: usize, more: usize) -> (Region, Queue) {
    let region = Region::heap(count as usize * size + more);
    let memory = region.alias();
    (region, Queue { memory, size, count, index: 0 })
}

impl Queue {
    /// The memory, for tests that tamper with it.
    pub(super) fn memory(&mut self) -> &mut Region {
        &mut self.memory
    }

    fn at(&self) -> usize {
        (self.index % self.count) as usize * self.size
    }

    /// The oldest request, whose entry is given back after it has been copied.
    pub(super) fn consume(&mut self) -> Option<Entry> {
        let at = self.at();
        let turn = self.memory.load_acquire(at + TURN);
        if turn & VALID == 0 {
            return None;
        }
        // All but the word, whose store is ordered behind the rest and not before this.
        let mut bytes = vec![0; self.size];
        self.memory.read_bytes(at, &mut bytes[..TURN]);
        bytes[TURN..TURN + 4].copy_from_slice(&turn.to_ne_bytes());
        self.memory.read_bytes(at + TURN + 4, &mut bytes[TURN + 4..]);
        // Only the flags, which are 16 bits.
        self.memory.store_release(at + TURN, turn & !0xffff);
        self.index = self.index.wrapping_add(1);
        Some(Entry(bytes))
    }

    /// Writes a completion; false where the queue is full, which is an overflow.
    pub(super) fn produce(&mut self, entry: &Entry) -> bool {
        let at = self.at();
        if self.memory.load_acquire(at + TURN) & 0xff != 0 {
            return false;
        }
        self.memory.write_bytes(at, &entry.0[..TURN]);
        self.memory.write_bytes(at + TURN + 4, &entry.0[TURN + 4..]);
        self.memory.store_release(at + TURN, entry.u32(TURN) | VALID);
        self.index = self.index.wrapping_add(1);
        true
    }

    /// Whether the driver reports the completion that it has just written. That disarms the queue.
    pub(super) fn notifies(&mut self, solicited: bool) -> bool {
        const SOLICITED: u32 = 1;
        const NEXT: u32 = 2;
        let control = self.count as usize * self.size;
        // The kernel's `smp_store_mb` of the request's flags.
        fence(Ordering::SeqCst);
        let armed = self.memory.load_acquire(control);
        let wakes = armed & NEXT != 0 || armed & SOLICITED != 0 && solicited;
        if wakes {
            self.memory.store_release(control, 0);
        }
        wakes
    }
}

/// The bytes of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry(pub(super) Vec<u8>);

impl Entry {
    /// A zeroed entry of `size` bytes.
    pub(super) fn zeroed(size: usize) -> Self {
        Self(vec![0; size])
    }

    /// A successful completion.
    pub(super) fn completion(id: u64, opcode: u8, bytes: u32) -> Self {
        Self::zeroed(cqe::SIZE)
            .with(cqe::ID, &id.to_ne_bytes())
            .with(cqe::OPCODE, &[opcode])
            .with(cqe::BYTES, &bytes.to_ne_bytes())
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    pub(super) fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
}

/// Tries again and again, giving way (Miri has only one processor).
pub(super) fn wait_for<T>(mut try_it: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(done) = try_it() {
            return done;
        }
        std::thread::yield_now();
    }
}

/// How often to do something: less under Miri, which is a thousand times slower.
pub(super) const fn times(n: u32) -> u32 {
    if cfg!(miri) { n.div_ceil(200) } else { n }
}
