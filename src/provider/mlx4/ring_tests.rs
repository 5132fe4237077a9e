//! Names and numbers, as a device gives them back and as it would not.

use super::*;

fn posted(max: u32, slots: u32, wr_ids: impl IntoIterator<Item = u64>) -> (Arc<Ring>, Producer) {
    let ring = Ring::new(slots).unwrap();
    let mut producer = Producer::new(Arc::clone(&ring), max);
    for wr_id in wr_ids {
        producer.next().unwrap().announce(wr_id);
    }
    (ring, producer)
}

#[test]
fn names_come_back_in_order_or_by_number() {
    let (ring, _) = posted(8, 8, 100..106);
    assert_eq!(ring.complete_oldest(), Some(100));
    assert_eq!(ring.complete(3), Some(103), "unsignaled ones before it are over too");
    assert_eq!(ring.complete_oldest(), Some(104));
    assert_eq!(ring.complete(5), Some(105));
    assert_eq!(ring.complete_oldest(), None);
}

#[test]
fn a_number_that_is_not_outstanding_completes_nothing() {
    let (ring, mut producer) = posted(8, 8, 0..4);
    for low in [4, 5, 7, 8, 0x7fff, 0xffff] {
        assert_eq!(ring.complete(low), None, "{low}");
    }
    assert_eq!(ring.complete(2), Some(2));
    assert_eq!(ring.complete(1), None, "it is over");
    assert_eq!(ring.complete(4), None, "it is not posted");
    producer.next().unwrap().announce(4);
    assert_eq!(ring.complete(4), Some(4));
    assert_eq!(Ring::new(0).unwrap().complete(0), None);
}

#[test]
fn as_many_are_taken_as_may_be_outstanding() {
    let (ring, mut producer) = posted(3, 8, 0..3);
    assert!(producer.next().is_none());
    assert_eq!(ring.complete(1), Some(1));
    for wr_id in 3..5 {
        let place = producer.next().unwrap();
        assert_eq!(u64::from(place.number), wr_id);
        place.announce(wr_id);
    }
    assert!(producer.next().is_none());
    assert!(Producer::new(Ring::new(0).unwrap(), 0).next().is_none());
}

#[test]
fn numbers_wrap_at_both_their_widths() {
    for start in [0xfffe_u32, 0xffff_fffe] {
        let ring = Ring::new(4).unwrap();
        ring.head.store(start, Ordering::Relaxed);
        ring.tail.store(start, Ordering::Relaxed);
        let mut producer = Producer { ring: Arc::clone(&ring), tail: start, room: 4, max: 4 };
        for wr_id in 0..4 {
            let place = producer.next().unwrap();
            assert_eq!(place.number, start.wrapping_add(wr_id as u32));
            place.announce(wr_id);
        }
        assert_eq!(ring.complete(0xffff), Some(1), "{start:#x}");
        assert_eq!(ring.complete_oldest(), Some(2));
        assert_eq!(ring.complete(1), Some(3));
        assert_eq!(ring.complete_oldest(), None);
    }
}
