//! Violations are reported, each of them once.

use super::{
    super::wqe::opcode,
    guest::{Qp, QpInit, Srq, UAR, Wqe},
    rc::Pair,
};
use crate::transport::Transition;

fn reported(pair: &Pair) {
    assert_eq!(pair.world.violations(), 1);
}

/// Checks for one violation with these words at this index of the send queue.
fn reported_as(pair: &Pair, index: u64, what: &str) {
    reported(pair);
    let last = pair.world.guests[0].card.violations.last().unwrap();
    assert_eq!((last.index, last.queue.ends_with(" SQ")), (Some(index), true), "{last}");
    assert!(last.what.contains(what), "{last}");
}

#[test]
fn doorbells_must_be_on_the_owners_page() {
    let mut pair = Pair::new(1, |_| {});
    let qpn = pair.qps[0].qpn;
    pair.world.guests[0].doorbell(UAR + 1, qpn);
    reported(&pair);
    let mut pair = Pair::new(1, |_| {});
    pair.world.guests[0].doorbell(UAR, qpn + 0x100);
    reported(&pair);
    // In INIT.
    let mut pair = Pair::new(1, |_| {});
    let init = QpInit::new(0, pair.cqs[0].cqn);
    let fresh = pair.world.guests[0].qp(init);
    pair.world.guests[0].doorbell(UAR, fresh.qpn);
    reported(&pair);
    // With nothing posted.
    let mut pair = Pair::new(1, |_| {});
    pair.world.guests[0].doorbell(UAR, qpn);
    pair.run();
    reported(&pair);
}

#[test]
fn the_owner_bit_must_match_the_round() {
    let mut pair = Pair::new(1, |_| {});
    let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1]);
    pair.world.guests[0].place(&mut pair.qps[0], &wqe);
    pair.qps[0].head -= 1;
    pair.world.guests[0].scribble(&pair.qps[0], 0, 0, &[0x80]);
    let qpn = pair.qps[0].qpn;
    pair.world.guests[0].doorbell(UAR, qpn);
    pair.run();
    assert_eq!(pair.outcomes(0), []);
    reported(&pair);
}

/// The violation of a send after bytes of the entry `ahead` of it were overwritten.
fn after_scribble(ahead: u16, at: u64, bytes: &[u8]) -> Pair {
    let mut pair = Pair::new(1, |_| {});
    pair.world.guests[0].scribble(&pair.qps[0], ahead, at, bytes);
    let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1]);
    pair.send(0, &wqe);
    pair.run();
    pair
}

#[test]
fn headroom_must_not_look_valid() {
    // 2 KiB and one entry of 128 bytes, without the next entry, which may be half written, and the last one, which is
    // stamped after the doorbell.
    for ahead in 2..=16 {
        for (at, bytes) in [(64, [0, 0, 0, 1]), (0, [0, 0, 0, 10])] {
            reported_as(&after_scribble(ahead, at, &bytes), ahead.into(), "stale headroom behind the last");
        }
    }
    after_scribble(17, 0, &[0, 0, 0, 10]).clean();
    // The next entry looks like a request, but its stamp shows that it was never written.
    reported_as(&after_scribble(1, 0, &[0, 0, 0, 10]), 1, "stale headroom that looks like a request");
}

#[test]
fn headroom_is_checked_in_every_round() {
    let mut pair = Pair::new(1, |_| {});
    let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1; 80]);
    let rounds = |pair: &mut Pair, count| {
        for _ in 0..count {
            pair.send(0, &wqe);
            pair.run();
            assert_eq!(pair.outcomes(0).len(), 1);
        }
    };
    // The headroom wraps at the end of the queue, and the owner bit has changed.
    rounds(&mut pair, 90);
    pair.clean();
    // A valid request of the previous round that was not stamped.
    pair.world.guests[0].scribble(&pair.qps[0], 7, 64, &[0, 0, 0, 1]);
    rounds(&mut pair, 1);
    reported(&pair);
    let mut pair = Pair::new(1, |_| {});
    rounds(&mut pair, 90);
    // Request 97 will be of the fourth round, whose owner bit is set.
    pair.world.guests[0].scribble(&pair.qps[0], 7, 0, &[0x80]);
    rounds(&mut pair, 1);
    reported(&pair);
}

#[test]
fn a_queue_that_is_not_prefetched_needs_no_headroom() {
    let mut pair = Pair::new(1, |init| init.no_prefetch = true);
    pair.world.guests[0].scribble(&pair.qps[0], 2, 64, &[0, 0, 0, 1]);
    let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1]);
    pair.send(0, &wqe);
    pair.run();
    pair.clean();
}

/// Two queue pairs that are not connected, the second with a shared receive queue of 8 requests.
fn with_srq(pair: &mut Pair) -> (Qp, Qp, Srq) {
    let guest = &mut pair.world.guests[0];
    let srq = guest.srq(3, None);
    let source = guest.qp(QpInit::new(0, pair.cqs[0].cqn));
    let target = guest.qp(QpInit { srqn: Some(srq.srqn), ..QpInit::new(0, pair.cqs[1].cqn) });
    (source, target, srq)
}

#[test]
fn the_next_segment_of_a_shared_receive_has_reserved_fields() {
    for at in [0, 1, 4, 15] {
        shared_receive("reserved fields of the next segment are set", |pair, srq| {
            pair.world.guests[0].scribble_srq(srq, 0, at, &[1]);
        });
    }
}

#[test]
fn requests_have_to_fit_and_their_reserved_fields_to_be_0() {
    // (bytes from, what) of a request to write.
    let mistakes: [(u64, &[u8]); 6] = [
        (7, &[9]),           // longer than the entry
        (7, &[2]),           // ends before its data
        (1, &[0, 5]),        // the counter of another
        (7, &[0x83]),        // a reserved bit beside the size
        (8, &[1]),           // a source, which only XRC has
        (28, &[0, 0, 0, 1]), // after the remote key
    ];
    for (at, bytes) in mistakes {
        let mut pair = Pair::new(1, |_| {});
        let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1]);
        pair.world.guests[0].place(&mut pair.qps[0], &wqe);
        pair.qps[0].head -= 1;
        pair.world.guests[0].scribble(&pair.qps[0], 0, at, bytes);
        let qpn = pair.qps[0].qpn;
        pair.world.guests[0].doorbell(UAR, qpn);
        pair.run();
        if at == 7 && bytes == [2] {
            // This is a complete request without data.
            pair.clean();
        } else {
            reported(&pair);
        }
    }
}

#[test]
fn a_length_of_0_means_2_gib() {
    let mut pair = Pair::new(1, |_| {});
    let mut wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0);
    wqe.segments.extend([0; 16]);
    pair.send(0, &wqe);
    pair.run();
    reported(&pair);
}

#[test]
fn receive_doorbell_records_advance_within_the_queue() {
    for wrong in [9_u32, 0x1_0001] {
        let mut pair = Pair::new(1, |_| {});
        let record = pair.qps[1].record;
        pair.world.guests[0].card.memory.store32(record, wrong).unwrap();
        let wqe = pair.sge(0, Wqe::new(opcode::SEND), 0, 8);
        pair.send(0, &wqe);
        pair.world.run(std::time::Duration::from_millis(10));
        reported(&pair);
    }
}

/// The record is also read while the queue has requests left.
#[test]
fn receive_doorbell_records_that_go_back_are_violations() {
    let mut pair = Pair::new(1, |_| {});
    for _ in 0..6 {
        pair.recv(1, 0, 100);
    }
    let wqe = pair.sge(0, Wqe::new(opcode::SEND), 0, 8);
    pair.send(0, &wqe);
    pair.run();
    pair.clean();
    let record = pair.qps[1].record;
    pair.world.guests[0].card.memory.store32(record, 5).unwrap();
    pair.send(0, &wqe);
    pair.run();
    // Posted requests stay posted.
    assert_eq!(pair.outcomes(1), [(0, Ok(1)), (1, Ok(1))]);
    reported(&pair);
    // Reported once, then valid again.
    pair.world.guests[0].card.memory.store32(record, 6).unwrap();
    pair.send(0, &wqe);
    pair.run();
    reported(&pair);
}

#[test]
fn shared_receive_doorbell_records_that_go_back_are_violations() {
    let mut pair = Pair::new(1, |_| {});
    let (mut source, mut target, mut srq) = with_srq(&mut pair);
    let sge = (pair.mrs[1].key, pair.mrs[1].address, 100);
    for _ in 0..3 {
        pair.world.guests[0].post_srq(&mut srq, &[sge]);
    }
    pair.world.connect((0, &mut source), (0, &mut target));
    let wqe = pair.sge(0, Wqe::new(opcode::SEND), 0, 8);
    pair.world.guests[0].send(&mut source, &wqe);
    pair.run();
    pair.clean();
    pair.world.guests[0].card.memory.store32(srq.record, 2).unwrap();
    pair.world.guests[0].send(&mut source, &wqe);
    pair.run();
    reported(&pair);
}

#[test]
fn blueflame_must_match_the_queue() {
    let mut pair = Pair::new(1, |_| {});
    let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1; 40]);
    pair.world.guests[0].send_blueflame(&mut pair.qps[0], &wqe, Some(50));
    pair.run();
    reported(&pair);
    // Past the end of the request it does not matter.
    let mut pair = Pair::new(1, |_| {});
    pair.world.guests[0].send_blueflame(&mut pair.qps[0], &wqe, Some(100));
    pair.run();
    pair.clean();
}

#[test]
fn new_queues_have_the_drivers_owner_bits() {
    let mut pair = Pair::new(1, |_| {});
    pair.world.guests[0].modify(&mut pair.qps[0], Transition::ToRst).unwrap();
    pair.world.guests[0].scribble(&pair.qps[0], 3, 0, &[0]);
    pair.world.guests[0].modify(&mut pair.qps[0], Transition::RstToInit).unwrap();
    reported(&pair);
}

#[test]
fn completion_queues_are_armed_in_sequence_and_after_their_record() {
    let mut pair = Pair::new(1, |_| {});
    pair.cqs[0].arm_sn += 1;
    pair.world.guests[0].arm(&pair.cqs[0], false);
    reported(&pair);
    let mut pair = Pair::new(1, |_| {});
    pair.cqs[0].consumer = 5;
    pair.world.guests[0].arm(&pair.cqs[0], false);
    reported(&pair);
}

/// A queue whose memory cannot be read is reported at the next access.
#[test]
fn queues_must_be_in_memory() {
    let mut pair = Pair::new(1, |_| {});
    pair.world.guests[0].lose_queues(&pair.qps[0]);
    let qpn = pair.qps[0].qpn;
    pair.world.guests[0].doorbell(UAR, qpn);
    pair.run();
    reported_as(&pair, 0, "the queue's memory cannot be read");
    assert_eq!(pair.outcomes(0), []);
    shared_receive("the queue's memory cannot be read", |pair, srq| pair.world.guests[0].lose_srq(srq));
}

/// The violation of a message to a shared receive queue with one request, after `act` has changed it.
fn shared_receive(what: &str, spoil: impl FnOnce(&mut Pair, &Srq)) {
    let mut pair = Pair::new(1, |_| {});
    let (mut source, mut target, mut srq) = with_srq(&mut pair);
    let sge = (pair.mrs[1].key, pair.mrs[1].address, 100);
    pair.world.guests[0].post_srq(&mut srq, &[sge]);
    spoil(&mut pair, &srq);
    pair.world.connect((0, &mut source), (0, &mut target));
    let wqe = pair.sge(0, Wqe::new(opcode::SEND), 0, 8);
    pair.world.guests[0].send(&mut source, &wqe);
    pair.world.run(std::time::Duration::from_millis(10));
    reported(&pair);
    let last = pair.world.guests[0].card.violations.last().unwrap();
    assert!(last.queue.starts_with("SRQ ") && last.index == Some(0) && last.what.contains(what), "{last}");
}

#[test]
fn shared_receives_are_a_chain_within_the_queue() {
    // The last of eight entries is 7.
    shared_receive("the next index is outside the queue", |pair, srq| {
        pair.world.guests[0].scribble_srq(srq, 0, 2, &[0, 8]);
    });
}

#[test]
fn receives_are_shorter_than_2_gib() {
    shared_receive("a receive element with a length of 2 GiB", |pair, srq| {
        pair.world.guests[0].scribble_srq(srq, 0, 16, &[0x80]);
    });
}
