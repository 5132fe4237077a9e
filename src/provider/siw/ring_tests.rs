//! The ring against the mock of its other end.

use super::super::mock::{Entry, Random, cqe, queue, sqe, times};
use super::*;

#[test]
fn a_full_queue_takes_no_more_and_an_empty_one_has_none() {
    for count in [1, 2, 8, 64] {
        let (region, mut kernel) = queue(count, sqe::SIZE, 0);
        let mut ring = Producer::<{ sqe::SIZE }>::new(region, count, "test").unwrap();
        for round in 0..3 {
            for n in 0..count {
                let at = ring.free_slot().unwrap_or_else(|| panic!("entry {n} of {count}, round {round}"));
                ring.slot(at).put(sqe::ID, u64::from(n));
                ring.hand_over(request_word(SIW_WQE_VALID, 0, 3));
            }
            assert_eq!(ring.free_slot(), None);
            assert_eq!(kernel.consume().map(|wqe| wqe.u64(sqe::ID)), Some(0));
            assert!(ring.free_slot().is_some(), "one was consumed");
            for n in 1..count {
                assert_eq!(kernel.consume().map(|wqe| wqe.u64(sqe::ID)), Some(n.into()));
            }
            assert_eq!(kernel.consume(), None);
        }
    }
}

#[test]
fn entries_that_are_not_given_back_are_not_read_twice() {
    let (region, mut kernel) = queue(4, cqe::SIZE, 0);
    let mut ring = Consumer::<{ cqe::SIZE }>::new(region, 4, "test").unwrap();
    for id in 0..4 {
        assert!(kernel.produce(&Entry::completion(id, 3, 0)));
    }
    for id in 0..4 {
        assert_eq!(ring.oldest().map(|(_, entry)| entry.get::<u64>(cqe::ID)), Some(id));
        ring.take();
    }
    assert!(ring.oldest().is_none(), "the kernel's flags are still there");
    assert!(!kernel.produce(&Entry::completion(4, 3, 0)));
    ring.publish();
    assert!(kernel.produce(&Entry::completion(4, 3, 0)));
    assert_eq!(ring.oldest().map(|(_, entry)| entry.get::<u64>(cqe::ID)), Some(4));
}

#[test]
fn a_queue_that_does_not_fit_its_mapping_is_a_bad_answer() {
    let fits = |len, count| Producer::<{ sqe::SIZE }>::new(Region::heap(len), count, "test").is_ok();
    assert!(fits(4 * sqe::SIZE, 4) && fits(5 * sqe::SIZE, 4));
    for (len, count) in [(4 * sqe::SIZE - 1, 4), (4096, 0), (4096, 3), (4096, u32::MAX), (4096, 1 << 31)] {
        assert!(!fits(len, count), "{count} in {len}");
    }
    assert_eq!(size::<32>(32, 8, "test").unwrap(), 1032);
    assert!(size::<120>(1 << 31, 0, "test").is_err());
}

/// Memory that anybody changes at any time.
#[test]
fn any_memory_can_be_gone_round() {
    for seed in 0..times(500).into() {
        let mut random = Random(seed);
        let (region, mut kernel) = queue(8, cqe::SIZE, 0);
        let memory = kernel.memory();
        let mut ring = Consumer::<{ cqe::SIZE }>::new(region, 8, "test").unwrap();
        for _ in 0..4 {
            for word in 0..memory.len() / 4 {
                memory.write(word * 4, random.edgy());
            }
            let mut taken = 0;
            while ring.oldest().is_some() {
                ring.take();
                taken += 1;
            }
            assert!(taken <= 8, "seed {seed}: {taken}");
            ring.publish();
        }
    }
}
