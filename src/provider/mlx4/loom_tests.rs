//! Every interleaving, within bounds, of the threads that share lock-free state. The device is an atomic word that plays the
//! owner bit of an entry.
//!
//! ```text
//! RUSTFLAGS="--cfg bareverbs_loom" cargo test --package bareverbs --lib --target x86_64-unknown-linux-gnu loom_tests
//! ```

use std::sync::Arc;

use loom::thread;

use super::buffer::Buffer;
use super::cqe::Key;
use super::dbrec::Record;
use super::lookup::Table;
use super::registry::{Received, Registration, Shared};
use super::srq::Srq;
use super::wq::{Poster, WorkQueue};
use crate::provider::driver::RecvQueue;
use crate::sys::barrier;
use crate::sys::region::Region;
use crate::sys::sync::{AtomicU32, Ordering};
use crate::types::RecvWr;

/// Explores the interleavings with at most three preemptions.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// The device: how many requests it has completed.
#[derive(Clone)]
struct Device(Arc<AtomicU32>);

impl Device {
    fn new() -> Self {
        Self(Arc::new(AtomicU32::new(0)))
    }

    /// Hands requests over as the owner bit does; the device completes them at once.
    fn complete(&self, count: u32) {
        barrier::to_device();
        self.0.store(count, Ordering::Relaxed);
    }

    /// Waits for a completion as the poller does.
    fn await_completion(&self, count: u32) {
        while self.0.load(Ordering::Relaxed) < count {
            thread::yield_now();
        }
        barrier::from_device();
    }
}

#[test]
fn a_completed_request_has_its_wr_id() {
    explore(|| {
        let mut poster = Poster::new(2).unwrap();
        let wq = Arc::clone(poster.work_queue());
        let device = Device::new();
        let theirs = device.clone();
        let posting = thread::spawn(move || {
            for n in 0..3 {
                // The third has the slot of the first.
                let reserved = loop {
                    match poster.reserve() {
                        Some(reserved) => break reserved,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(reserved.number, n);
                reserved.announce(100 + u64::from(n));
                theirs.complete(n + 1);
            }
        });
        for n in 0..3u16 {
            device.await_completion(u32::from(n) + 1);
            assert_eq!(wq.retire(n), Some(100 + u64::from(n)));
        }
        posting.join().unwrap();
        assert_eq!(wq.retire_oldest(), None);
    });
}

#[test]
fn free_slots_of_a_shared_receive_queue_are_neither_lost_nor_doubled() {
    explore(|| {
        let (record, _words) = Record::heap();
        // Four slots, of which three can be posted.
        let mut srq = Srq::new(Region::heap(4 * 32), 4, 5, 1, record.word(0)).unwrap();
        for wr_id in 0..3 {
            srq.post(&[RecvWr::new(wr_id)]).unwrap();
        }
        let pollers: Vec<_> = [0u16, 1]
            .map(|slot| {
                let receives = Arc::clone(srq.receives());
                thread::spawn(move || {
                    assert_eq!(receives.retire(slot), Some(slot.into()));
                })
            })
            .into();
        // Collects none, one or both of the slots that become free meanwhile.
        let mut posted = 0;
        for wr_id in [10, 11] {
            posted += u32::from(srq.post(&[RecvWr::new(wr_id)]).is_ok());
        }
        pollers.into_iter().for_each(|poller| poller.join().unwrap());
        for wr_id in [12, 13] {
            posted += u32::from(srq.post(&[RecvWr::new(wr_id)]).is_ok());
        }
        assert_eq!(posted, 2);
        // Slot 2 is the only one whose receive was not replaced.
        assert_eq!(srq.receives().retire(2), Some(2));
        let mut left: Vec<_> = [0, 1, 3].into_iter().filter_map(|slot| srq.receives().retire(slot)).collect();
        left.sort_unstable();
        assert!(left.len() == 2 && left[0] >= 10, "{left:?}");
    });
}

fn register(shared: &Arc<Shared>, qpn: u32, sent: &Arc<WorkQueue>) -> Registration {
    shared.register(Key::qp(qpn), Some(Arc::clone(sent)), Received::Nowhere)
}

#[test]
fn a_registration_is_known_before_its_first_entry() {
    explore(|| {
        let shared = Shared::new(Buffer::new(Region::heap(4 * 32), 4, 5, 0).unwrap());
        let device = Device::new();
        let (theirs, their_device) = (Arc::clone(&shared), device.clone());
        let creating = thread::spawn(move || {
            let mut poster = Poster::new(1).unwrap();
            let registration = register(&theirs, 0x40, poster.work_queue());
            poster.reserve().unwrap().announce(7);
            their_device.complete(1);
            registration
        });
        // Another thread's queue pair comes and goes.
        let other = Arc::clone(&shared);
        let passing = thread::spawn(move || drop(register(&other, 0x41, &WorkQueue::new(1).unwrap())));
        let mut table = Table::with_capacity(0);
        device.await_completion(1);
        if shared.has_changed() {
            shared.take_changes(&mut table, 0);
        }
        let (_, found) = table.find(Key::qp(0x40), 0).expect("registered");
        assert_eq!(found.sent.as_ref().and_then(|sent| sent.retire(0)), Some(7));
        drop(creating.join().unwrap());
        passing.join().unwrap();
        assert!(shared.has_changed());
        shared.take_changes(&mut table, 1);
        assert_eq!(table.len(), 0);
        assert_eq!(shared.waiting(), 0);
    });
}
