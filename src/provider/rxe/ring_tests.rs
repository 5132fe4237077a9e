//! The ring against the mock of its other end.

use super::super::mock::{Entry, Queue, Random, queue, queue_buf, times, wait_for};
use super::*;

type Producer = super::Producer<64>;
type Consumer = super::Consumer<64>;

/// A ring of small slots of which the mock is the consumer.
fn producer(elems: u32) -> (Producer, Queue) {
    let (region, kernel) = queue(elems, 64);
    (Producer::new(region, "test", 64).unwrap(), kernel)
}

/// A ring of which the mock is the producer.
fn consumer(elems: u32) -> (Consumer, Queue) {
    let (region, kernel) = queue(elems, 64);
    (Consumer::new(region, "test", 64).unwrap(), kernel)
}

/// The value, all over a slot, so that a slot that is half of one value and half of another shows.
fn pattern(value: u64) -> [u64; 8] {
    [value; 8]
}

fn fill(ring: &mut Producer, value: u64) -> bool {
    let Some(at) = ring.free_slot() else { return false };
    ring.slots().slot(at).put(0, pattern(value));
    ring.fill();
    true
}

fn take(ring: &mut Consumer) -> Option<u64> {
    let words: [u64; 8] = ring.filled_slot()?.get(0);
    assert_eq!(words, pattern(words[0]), "a slot is read whole");
    ring.take();
    Some(words[0])
}

fn entry(value: u64) -> Entry {
    (0..8).fold(Entry::zeroed(64), |entry, word| entry.with_u64(word * 8, value))
}

#[test]
fn a_full_ring_takes_no_more_and_an_empty_one_gives_none() {
    for elems in [1, 2, 3, 7, 8, 100] {
        let (mut ring, mut kernel) = producer(elems);
        assert!(ring.capacity() >= elems);
        for value in 0..ring.capacity() {
            assert!(fill(&mut ring, value.into()), "slot {value} of {elems}");
        }
        assert_eq!(ring.free_slot(), None);
        ring.publish();
        assert_eq!(ring.free_slot(), None);
        assert_eq!(kernel.consume(), Some(entry(0)));
        assert!(fill(&mut ring, 99), "one was consumed");
        assert_eq!(ring.free_slot(), None);

        let (mut ring, mut kernel) = consumer(elems);
        assert!(ring.filled_slot().is_none());
        let mut produced = 0;
        while kernel.produce(&entry(produced)) {
            produced += 1;
        }
        assert!(produced >= elems.into());
        assert_eq!(take(&mut ring), Some(0));
        assert!(!kernel.produce(&entry(produced)), "taken, but not given back yet");
        ring.publish();
        assert!(kernel.produce(&entry(produced)));
        for value in 1..=produced {
            assert_eq!(take(&mut ring), Some(value));
        }
        assert!(ring.filled_slot().is_none());
    }
}

#[test]
fn rings_wrap_around_in_batches_of_any_size() {
    for elems in [1, 2, 5, 16] {
        let mut random = Random(elems.into());
        // As many entries through each.
        let rounds = times(40_000) / (elems + 1);
        let (mut ring, mut kernel) = producer(elems);
        let (mut filled, mut seen) = (0u64, 0u64);
        for _ in 0..rounds {
            let batch = random.below(elems + 2);
            let before = kernel.waiting();
            let taken =
                (0..batch).take_while(|_| fill(&mut ring, filled).then(|| filled += 1).is_some()).count();
            assert_eq!(kernel.waiting(), before, "nothing shows before it is published");
            ring.publish();
            assert_eq!(kernel.waiting() as usize, before as usize + taken, "all of it shows after");
            for _ in 0..random.below(elems + 2) {
                let Some(found) = kernel.consume() else { break };
                assert_eq!(found, entry(seen));
                seen += 1;
            }
        }
        assert!(seen > u64::from(times(5_000)), "{seen} entries went through a ring of {elems}");

        let (mut ring, mut kernel) = consumer(elems);
        let (mut produced, mut seen) = (0u64, 0u64);
        for _ in 0..rounds {
            for _ in 0..random.below(elems + 2) {
                produced += u64::from(kernel.produce(&entry(produced)));
            }
            for _ in 0..random.below(elems + 2) {
                let Some(value) = take(&mut ring) else { break };
                assert_eq!(value, seen);
                seen += 1;
            }
            ring.publish();
        }
        assert!(seen > u64::from(times(5_000)), "{seen} entries went through a ring of {elems}");
    }
}

#[test]
fn a_ring_that_has_been_used_is_taken_up_where_it_is() {
    for index in [1, 3, 7, 8, 1000] {
        let (region, mut kernel) = queue(7, 64);
        kernel.start_at(index);
        let mut ring = Producer::new(region, "test", 64).unwrap();
        assert!(fill(&mut ring, 5));
        ring.publish();
        assert_eq!((kernel.waiting(), kernel.consume()), (1, Some(entry(5))));

        let (region, mut kernel) = queue(7, 64);
        kernel.start_at(index);
        let mut ring = Consumer::new(region, "test", 64).unwrap();
        assert!(ring.filled_slot().is_none());
        assert!(kernel.produce(&entry(6)));
        assert_eq!(take(&mut ring), Some(6));
    }
}

/// No channel and no lock between the two: the orderings of the ring are all that keeps the slots apart.
#[test]
fn a_kernel_on_its_own_thread_sees_every_slot_filled() {
    let total = u64::from(times(20_000));
    let (mut ring, mut kernel) = producer(3);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for value in 0..total {
                assert_eq!(wait_for(|| kernel.consume()), entry(value));
            }
        });
        let mut value = 0;
        while value < total {
            let before = value;
            while value < total && value - before < 2 && fill(&mut ring, value) {
                value += 1;
            }
            ring.publish();
            if value == before {
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn slots_that_a_kernel_fills_on_its_own_thread_are_read_whole() {
    let total = u64::from(times(20_000));
    let (mut ring, mut kernel) = consumer(3);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for value in 0..total {
                wait_for(|| kernel.produce(&entry(value)).then_some(()));
            }
        });
        let mut value = 0;
        while value < total {
            let mut batch = 0;
            while batch < 2
                && let Some(seen) = take(&mut ring)
            {
                assert_eq!(seen, value);
                value += 1;
                batch += 1;
            }
            ring.publish();
            if batch == 0 {
                std::thread::yield_now();
            }
        }
    });
}

fn refused(len: usize, log2: u32, mask: u32, slot: usize) -> String {
    let mut region = Region::heap(len);
    if len >= 8 {
        region.write(queue_buf::LOG2_ELEM_SIZE, log2);
        region.write(queue_buf::INDEX_MASK, mask);
    }
    match checked::<8>(region, "map", slot) {
        Ok(_) => "taken".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let page = 4096;
    assert_eq!(refused(384 + 64, 6, 0, 64), "taken");
    assert_eq!(refused(383, 6, 0, 64), "map on rxe queue: it has 383 bytes, less than its header");
    assert!(refused(0, 0, 0, 1).ends_with("less than its header"));
    assert!(refused(384 + 127, 6, 1, 64).ends_with("2 slots of 2^6 bytes exceed its 511 bytes"));
    assert!(refused(page, 6, 2, 64).ends_with("its header claims 3 slots of 2^6 bytes"));
    assert!(refused(page, 21, 1, 64).ends_with("its header claims 2 slots of 2^21 bytes"));
    assert!(refused(page, u32::MAX, u32::MAX, 64).contains("claims"));
    assert!(refused(page, 6, u32::MAX, 64).contains("4294967296 slots of 2^6 bytes exceed"));
    assert!(refused(page, 20, u32::MAX, 64).contains("exceed"));
    assert!(refused(page, 5, 1, 64).ends_with("its slots have 2^5 bytes where 64 are needed"));
    assert!(refused(page, 6, 1, usize::MAX).contains("are needed"));
}

/// Whatever a header says: either it is refused, or every slot that any index leads to lies within the mapping.
#[test]
fn no_header_leads_out_of_the_mapping() {
    let mut taken = 0;
    for seed in 0..times(20_000).into() {
        let mut random = Random(seed);
        let len = random.below(8192) as usize;
        let mut region = Region::heap(len);
        let mut rest = [0; 8];
        rest.fill_with(|| random.edgy());
        if len >= queue_buf::DATA {
            // Often a header that could be: mere noise would be refused for always the same reason.
            let could_be = random.below(2) == 0;
            let log2 = if could_be { random.below(12) } else { rest[0] };
            let mask = if could_be { (1 << random.below(8)) - 1 } else { rest[1] };
            region.write(queue_buf::LOG2_ELEM_SIZE, log2);
            region.write(queue_buf::INDEX_MASK, mask);
        }
        let slot = 1 + random.below(300) as usize;
        let Ok(slots) = checked::<8>(region, "test", slot) else { continue };
        taken += 1;
        for index in [0, 1, u32::MAX, rest[2], rest[3], rest[4]] {
            let end = slots.offset(index) + slot;
            assert!(slots.offset(index) >= queue_buf::DATA && end <= len, "seed {seed}: {end} of {len}");
            assert!(next(&slots, index) <= slots.mask());
        }
    }
    assert!(taken > times(500), "only {taken} headers could be");
}

/// A kernel that writes anything into both index words at any time: slots stay within the mapping, and whoever fills or
/// empties a ring until it says stop gets that.
#[test]
fn no_index_leads_out_of_the_mapping() {
    for seed in 0..times(2_000).into() {
        let mut random = Random(seed);
        let elems = 1 + random.below(20);
        let (mut sends, mut kernel_of_sends) = producer(elems);
        let (mut completions, mut kernel_of_completions) = consumer(elems);
        let len = sends.slots().region().len();
        let within = |at: usize| assert!(at >= queue_buf::DATA && at + 64 <= len, "seed {seed}: {at}");
        let enough = 2 * sends.capacity();
        for _ in 0..10 {
            for kernel in [&mut kernel_of_sends, &mut kernel_of_completions] {
                let word = [queue_buf::PRODUCER_INDEX, queue_buf::CONSUMER_INDEX][random.below(2) as usize];
                kernel.memory().store_release(word, random.edgy());
            }
            let mut filled = 0;
            while let Some(at) = sends.free_slot() {
                within(sends.slots().offset(at));
                fill(&mut sends, seed);
                filled += 1;
                assert!(filled <= enough, "seed {seed}: never full");
            }
            let mut taken = 0;
            while completions.filled_slot().is_some() {
                within(completions.slots.offset(completions.tail));
                take(&mut completions);
                taken += 1;
                assert!(taken <= enough, "seed {seed}: never empty");
            }
            sends.publish();
            completions.publish();
        }
    }
}
