//! The kernel's side of rxe's queues, played by a test on the very memory of the ring under test.
//!
//! What the driver does is taken from Linux 6.1, `drivers/infiniband/sw/rxe`: sizes and header from `rxe_queue_init`, who
//! owns which index and with which ordering from `rxe_queue.h`. Where a field lies is counted from the C declarations of
//! `rdma/rdma_user_rxe.h` and `rdma/ib_user_verbs.h` and written out as numbers: our own structures are what is
//! being tested and cannot vouch for themselves.
//!
//! All of it runs under Miri, which sees a slot that is read before it is published as the data race that it is:
//!
//! ```text
//! MIRIFLAGS=-Zmiri-permissive-provenance cargo +nightly miri test --lib provider::rxe
//! ```
//!
//! (The flag only quietens a warning: addresses are exposed for the kernel, and never turned back into pointers.)

use std::sync::mpsc::Receiver;

pub(super) use crate::sys::linux::testing::Random;
use crate::sys::region::Region;

/// `struct rxe_queue_buf`
pub(super) mod queue_buf {
    pub(in super::super) const LOG2_ELEM_SIZE: usize = 0;
    pub(in super::super) const INDEX_MASK: usize = 4;
    pub(in super::super) const PRODUCER_INDEX: usize = 128;
    pub(in super::super) const CONSUMER_INDEX: usize = 256;
    pub(in super::super) const DATA: usize = 384;
}

/// `struct rxe_send_wqe`, whose head is a `struct rxe_send_wr` of 144 bytes; elements or inline bytes follow it.
pub(super) mod send_wqe {
    pub(in super::super) const WR_ID: usize = 0;
    pub(in super::super) const OPCODE: usize = 12;
    pub(in super::super) const SEND_FLAGS: usize = 16;
    pub(in super::super) const EX: usize = 20;
    pub(in super::super) const REMOTE_ADDR: usize = 24;
    pub(in super::super) const RDMA_RKEY: usize = 32;
    pub(in super::super) const COMPARE_ADD: usize = 32;
    pub(in super::super) const SWAP: usize = 40;
    pub(in super::super) const ATOMIC_RKEY: usize = 48;
    pub(in super::super) const IOVA: usize = 152;
    pub(in super::super) const SSN: usize = 176;
    pub(in super::super) const LENGTH: usize = 184;
    pub(in super::super) const RESID: usize = 188;
    pub(in super::super) const NUM_SGE: usize = 196;
    pub(in super::super) const DATA: usize = 208;
}

/// `struct rxe_recv_wqe`
pub(super) mod recv_wqe {
    pub(in super::super) const WR_ID: usize = 0;
    pub(in super::super) const LENGTH: usize = 16;
    pub(in super::super) const RESID: usize = 20;
    pub(in super::super) const NUM_SGE: usize = 28;
    pub(in super::super) const DATA: usize = 40;
}

/// `struct ib_uverbs_wc`
pub(super) mod wc {
    pub(in super::super) const WR_ID: usize = 0;
    pub(in super::super) const STATUS: usize = 8;
    pub(in super::super) const OPCODE: usize = 12;
    pub(in super::super) const VENDOR_ERR: usize = 16;
    pub(in super::super) const BYTE_LEN: usize = 20;
    pub(in super::super) const EX: usize = 24;
    pub(in super::super) const QP_NUM: usize = 28;
    pub(in super::super) const SRC_QP: usize = 32;
    pub(in super::super) const WC_FLAGS: usize = 36;
    pub(in super::super) const SLID: usize = 42;
    pub(in super::super) const SL: usize = 44;
    pub(in super::super) const DLID_PATH_BITS: usize = 45;
    pub(in super::super) const SIZE: usize = 48;
}

/// `struct rxe_queue`: what the driver knows of a queue, and its own index.
pub(super) struct Queue {
    memory: Region,
    log2: u32,
    mask: u32,
    index: u32,
}

/// Makes a queue for `elems` entries of `size` bytes, as the driver rounds them: the user's mapping and the driver's end.
pub(super) fn queue(elems: u32, size: usize) -> (Region, Queue) {
    let elem = size.max(64).next_power_of_two();
    let slots = (elems + 1).next_power_of_two();
    let mut region = Region::heap(queue_buf::DATA + slots as usize * elem);
    region.write(queue_buf::LOG2_ELEM_SIZE, elem.trailing_zeros());
    region.write(queue_buf::INDEX_MASK, slots - 1);
    let memory = region.alias();
    (region, Queue { memory, log2: elem.trailing_zeros(), mask: slots - 1, index: 0 })
}

impl Queue {
    /// The memory, for whoever wants to tamper with it.
    pub(super) fn memory(&mut self) -> &mut Region {
        &mut self.memory
    }

    /// Moves the driver's index, and both shared ones, as after `index` entries: a queue that has been used for long.
    pub(super) fn start_at(&mut self, index: u32) {
        self.index = index & self.mask;
        self.memory.store_release(queue_buf::PRODUCER_INDEX, self.index);
        self.memory.store_release(queue_buf::CONSUMER_INDEX, self.index);
    }

    fn slot(&self) -> usize {
        queue_buf::DATA + ((self.index as usize) << self.log2)
    }

    /// How many entries the user has published and the driver has not consumed (`QUEUE_TYPE_FROM_CLIENT`).
    pub(super) fn waiting(&self) -> u32 {
        self.memory.load_acquire(queue_buf::PRODUCER_INDEX).wrapping_sub(self.index) & self.mask
    }

    /// The oldest of them, and its slot is given back. The slot is read before the index moves on, as the driver does.
    pub(super) fn consume(&mut self) -> Option<Entry> {
        if self.waiting() == 0 {
            return None;
        }
        let mut bytes = vec![0; 1 << self.log2];
        self.memory.read_bytes(self.slot(), &mut bytes);
        self.index = (self.index + 1) & self.mask;
        self.memory.store_release(queue_buf::CONSUMER_INDEX, self.index);
        Some(Entry(bytes))
    }

    /// Writes an entry and publishes it (`QUEUE_TYPE_TO_CLIENT`); false where the queue is full.
    pub(super) fn produce(&mut self, entry: &Entry) -> bool {
        let consumer = self.memory.load_acquire(queue_buf::CONSUMER_INDEX);
        if (self.index + 1).wrapping_sub(consumer) & self.mask == 0 {
            return false;
        }
        let at = self.slot();
        self.memory.write_bytes(at, &entry.0);
        self.index = (self.index + 1) & self.mask;
        self.memory.store_release(queue_buf::PRODUCER_INDEX, self.index);
        true
    }
}

/// The bytes of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry(pub(super) Vec<u8>);

impl Entry {
    /// A zeroed entry of `size` bytes.
    pub(super) fn zeroed(size: usize) -> Self {
        Self(vec![0; size])
    }

    /// A completion, everything else in it zero.
    pub(super) fn completion(wr_id: u64, opcode: u32, byte_len: u32) -> Self {
        Self::zeroed(wc::SIZE)
            .with_u64(wc::WR_ID, wr_id)
            .with(wc::OPCODE, opcode)
            .with(wc::BYTE_LEN, byte_len)
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().unwrap())
    }

    pub(super) fn with(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    pub(super) fn with_u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    pub(super) fn with_bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
}

/// `IB_WC_SEND` and `IB_WC_RECV`
const SEND: u32 = 0;
const RECV: u32 = 128;

/// A queue pair that is connected to itself.
pub(super) struct Loopback {
    pub(super) sq: Queue,
    pub(super) rq: Queue,
    pub(super) cq: Queue,
}

impl Loopback {
    /// Serves `sends` requests, looking at the send queue only when the doorbell rings; each takes a receive and leaves
    /// two completions, whose `byte_len` is the send's. Returns how often it found something.
    pub(super) fn run(mut self, doorbell: &Receiver<()>, sends: u32) -> u32 {
        let mut served = 0;
        let mut found = 0;
        while served < sends {
            doorbell.recv().unwrap();
            found += u32::from(self.sq.waiting() > 0);
            while let Some(send) = self.sq.consume() {
                assert_eq!(send.u32(send_wqe::SSN), served, "sends are numbered");
                let recv = wait_for(|| self.rq.consume());
                let len = send.u32(send_wqe::LENGTH);
                let received = Entry::completion(recv.u64(recv_wqe::WR_ID), RECV, len);
                let sent = Entry::completion(send.u64(send_wqe::WR_ID), SEND, len);
                wait_for(|| self.cq.produce(&received).then_some(()));
                wait_for(|| self.cq.produce(&sent).then_some(()));
                served += 1;
            }
        }
        found
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
    if cfg!(miri) { n.div_ceil(500) } else { n }
}
