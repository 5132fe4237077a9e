//! The device's side of a queue pair, played by a test on the very memory of the queues under test.
//!
//! Where a field lies is counted from the C declarations of rdma-core's `providers/mlx4/mlx4dv.h` and written out as numbers;
//! what the device may do is what that provider guards against. It fetches a request once its owner bit is of the lap,
//! without waiting for a doorbell. All of it runs under Miri:
//!
//! ```text
//! MIRIFLAGS=-Zmiri-permissive-provenance cargo +nightly miri test --lib provider::mlx4
//! ```

use std::sync::Arc;

use super::uar::Uar;
use crate::sys::mmio::Mmio;
use crate::sys::region::Region;

/// A device that has one queue pair.
pub(super) struct Device {
    registers: Region,
    pub(super) blueflame: Region,
    pub(super) record: Region,
    pub(super) sq: Region,
    pub(super) rq: Region,
    /// Log2 of the bytes of a slot of the send queue.
    shift: u32,
    /// Slots that are to be invalid behind the last request.
    spare: u32,
    /// The number of the request to fetch next.
    next: u32,
}

/// What the device reads of a control segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) owner_opcode: u32,
    pub(super) segments: u32,
    pub(super) flags: u32,
    pub(super) imm: u32,
}

/// Reads a big-endian word.
pub(super) fn word(region: &Region, at: usize) -> u32 {
    u32::from_be(region.load_acquire(at))
}

impl Device {
    pub(super) fn new(
        registers: Region,
        blueflame: Region,
        record: Region,
        sq: Region,
        rq: Region,
        shift: u32,
        spare: u32,
    ) -> Self {
        Self { registers, blueflame, record, sq, rq, shift, spare, next: 0 }
    }

    /// A page of doorbells and one of BlueFlame registers: as the program has them, and as the device.
    pub(super) fn uar() -> (Arc<Uar>, Region, Region) {
        let (doorbells, blueflame) = (Region::heap(4096), Region::heap(4096));
        let (registers, flames) = (doorbells.alias(), blueflame.alias());
        (Arc::new(Uar::new(Mmio::of(doorbells), Some((Mmio::of(blueflame), 512, 8)))), registers, flames)
    }

    /// The queue that was rung for since the last look.
    pub(super) fn doorbell(&mut self) -> Option<u32> {
        let rung = word(&self.registers, 0x14);
        self.registers.store_release(0x14, 0);
        (rung != 0).then_some(rung >> 8)
    }

    fn slots(&self) -> u32 {
        (self.sq.len() >> self.shift) as u32
    }

    fn slot(&self, number: u32) -> usize {
        ((number & (self.slots() - 1)) as usize) << self.shift
    }

    fn valid(&self, number: u32) -> bool {
        word(&self.sq, self.slot(number)) >> 31 == u32::from(number & self.slots() != 0)
    }

    /// The next request, where it is valid.
    pub(super) fn fetch(&mut self) -> Option<Request> {
        if !self.valid(self.next) {
            return None;
        }
        let at = self.slot(self.next);
        self.next += 1;
        let field = |offset: usize| u32::from_be(self.sq.read(at + offset));
        Some(Request {
            owner_opcode: word(&self.sq, at),
            segments: field(4) & 0x3f,
            flags: field(8),
            imm: field(12),
        })
    }

    /// Every slot that the device may fetch too early is invalid, each chunk of it.
    pub(super) fn headroom_is_stamped(&self) {
        for number in self.next..self.next + self.spare {
            assert!(!self.valid(number), "request {number}");
            let at = self.slot(number);
            let used = ((word(&self.sq, at + 4) & 0x3f) as usize * 16).min(1 << self.shift);
            for chunk in (64..used).step_by(64) {
                assert_eq!(
                    word(&self.sq, at + chunk),
                    u32::MAX,
                    "request {number}, {chunk} bytes from its beginning"
                );
            }
        }
    }

    /// The queue pair is reset.
    pub(super) fn reset(&mut self) {
        self.next = 0;
    }
}
