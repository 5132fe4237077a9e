//! Request numbers as a device reports them, and as it never should.

use super::*;

fn posted(max: u32, wr_ids: impl IntoIterator<Item = u64>) -> (Arc<WorkQueue>, Poster) {
    let mut poster = Poster::new(max).unwrap();
    for wr_id in wr_ids {
        poster.reserve().unwrap().announce(wr_id);
    }
    (Arc::clone(poster.work_queue()), poster)
}

#[test]
fn requests_are_retired_in_order_or_by_number() {
    let (wq, _) = posted(8, 100..106);
    assert_eq!(wq.retire_oldest(), Some(100));
    assert_eq!(wq.retire(3), Some(103), "and the unsignaled ones before it");
    assert_eq!(wq.retire_oldest(), Some(104));
    assert_eq!(wq.retire(5), Some(105));
    assert_eq!(wq.retire_oldest(), None);
}

#[test]
fn a_number_that_is_not_outstanding_retires_nothing() {
    let (wq, mut poster) = posted(8, 0..4);
    for low in [4, 5, 7, 8, 0x7fff, 0xffff] {
        assert_eq!(wq.retire(low), None, "{low}");
    }
    assert_eq!(wq.retire(2), Some(2));
    assert_eq!(wq.retire(1), None, "it is over");
    assert_eq!(wq.retire(4), None, "it is not posted");
    poster.reserve().unwrap().announce(4);
    assert_eq!(wq.retire(4), Some(4));
    assert_eq!(WorkQueue::new(0).unwrap().retire(0), None);
}

#[test]
fn no_more_requests_are_outstanding_than_may_be() {
    let (wq, mut poster) = posted(3, 0..3);
    assert!(poster.reserve().is_none());
    assert_eq!(wq.retire(1), Some(1));
    for wr_id in 3..5 {
        let reserved = poster.reserve().unwrap();
        assert_eq!(u64::from(reserved.number), wr_id);
        reserved.announce(wr_id);
    }
    assert!(poster.reserve().is_none());
    assert!(Poster::new(0).unwrap().reserve().is_none());
}

#[test]
fn numbers_wrap_at_both_their_widths() {
    for start in [0xfffe_u32, 0xffff_fffe] {
        let wq = WorkQueue::new(4).unwrap();
        wq.head.store(start, Ordering::Relaxed);
        wq.tail.store(start, Ordering::Relaxed);
        let mut poster = Poster { wq: Arc::clone(&wq), tail: start, room: 4, max: 4 };
        for wr_id in 0..4 {
            let reserved = poster.reserve().unwrap();
            assert_eq!(reserved.number, start.wrapping_add(wr_id as u32));
            reserved.announce(wr_id);
        }
        assert_eq!(wq.retire(0xffff), Some(1), "{start:#x}");
        assert_eq!(wq.retire_oldest(), Some(2));
        assert_eq!(wq.retire(1), Some(3));
        assert_eq!(wq.retire_oldest(), None);
    }
}
