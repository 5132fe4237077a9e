//! Completion queues: notification, moderation, resizing, overrun, entries of 64 bytes.

use std::time::Duration;

use super::{
    super::{cq::CONTEXT as CQ_CONTEXT, wqe::opcode},
    guest::{QpInit, World, Wqe},
    rc::Pair,
};
use crate::transport::QpEvent;
use crate::{be::put16, mlx4::event::Event};

fn write_one(pair: &mut Pair) {
    let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1]);
    pair.send(0, &wqe);
    pair.world.settle();
}

#[test]
fn a_queue_notifies_once_each_time_it_is_armed() {
    let mut pair = Pair::new(1, |_| {});
    write_one(&mut pair);
    assert_eq!(pair.world.guests[0].notified(&mut pair.cqs[0]), 0);
    // Completions that have not been polled count.
    pair.world.guests[0].arm(&pair.cqs[0], false);
    assert_eq!(pair.world.guests[0].notified(&mut pair.cqs[0]), 1);
    write_one(&mut pair);
    assert_eq!(pair.world.guests[0].notified(&mut pair.cqs[0]), 0);
    assert_eq!(pair.outcomes(0).len(), 2);
    pair.world.guests[0].arm(&pair.cqs[0], false);
    assert_eq!(pair.world.guests[0].notified(&mut pair.cqs[0]), 0);
    write_one(&mut pair);
    assert_eq!(pair.world.guests[0].notified(&mut pair.cqs[0]), 1);
    pair.clean();
}

#[test]
fn arming_that_crosses_a_notification_is_ignored() {
    let mut pair = Pair::new(1, |_| {});
    pair.world.guests[0].arm(&pair.cqs[0], false);
    write_one(&mut pair);
    // The driver has not seen the notification yet and arms with the old number.
    pair.world.guests[0].arm(&pair.cqs[0], false);
    assert_eq!(pair.world.guests[0].notified(&mut pair.cqs[0]), 1);
    write_one(&mut pair);
    assert_eq!(pair.world.guests[0].notified(&mut pair.cqs[0]), 0);
    pair.clean();
}

#[test]
fn moderation_waits_for_a_count_or_a_time() {
    let mut pair = Pair::new(1, |_| {});
    let mut context = [0; CQ_CONTEXT];
    put16(&mut context, 0x10, 500);
    put16(&mut context, 0x12, 3);
    let guest = &mut pair.world.guests[0];
    guest.data.cqs.modify(&mut guest.card, guest.now, pair.cqs[0].cqn, 1, &context).unwrap();
    guest.arm(&pair.cqs[0], false);
    for expected in [0, 0, 1] {
        write_one(&mut pair);
        assert_eq!(pair.world.guests[0].notified(&mut pair.cqs[0]), expected);
    }
    pair.outcomes(0);
    pair.world.guests[0].arm(&pair.cqs[0], false);
    write_one(&mut pair);
    assert_eq!(pair.world.guests[0].notified(&mut pair.cqs[0]), 0);
    pair.world.run(Duration::from_micros(600));
    assert_eq!(pair.world.guests[0].notified(&mut pair.cqs[0]), 1);
    pair.clean();
}

#[test]
fn a_queue_is_resized_with_completions_in_it() {
    for log_size in [3, 8] {
        let mut pair = Pair::new(1, |_| {});
        for round in 0..6 {
            for _ in 0..3 {
                write_one(&mut pair);
            }
            if round % 2 == 0 {
                pair.world.guests[0].resize(&mut pair.cqs[0], if round == 2 { 6 } else { log_size });
            }
            write_one(&mut pair);
            assert_eq!(pair.outcomes(0).len(), 4, "round {round}");
        }
        pair.clean();
    }
}

#[test]
fn an_overrun_fails_the_queue_and_its_queue_pairs() {
    let mut world = World::new(1);
    let guest = &mut world.guests[0];
    let cq = guest.cq(2);
    let mr = guest.mr(4096);
    let mut qps = [0; 2].map(|_| guest.qp(QpInit::new(0, cq.cqn)));
    let [one, other] = &mut qps;
    world.connect((0, one), (0, other));
    for _ in 0..5 {
        let wqe = Wqe::new(opcode::WRITE).raddr(mr.key, mr.address).inline(&[1]);
        world.guests[0].send(one, &wqe);
        world.settle();
    }
    let events = &world.guests[0].card.events;
    assert!(events.contains(&Event::CqError { cqn: cq.cqn, syndrome: 1 }));
    assert!(events.contains(&Event::Qp { kind: QpEvent::WorkQueueCatastrophicError, qpn: one.qpn }));
    assert_eq!(world.violations(), 0);
}

#[test]
fn entries_of_64_bytes_have_theirs_in_the_second_half() {
    let mut world = World::new(1);
    world.guests[0].card.tables.cqe64 = true;
    let guest = &mut world.guests[0];
    let mut cq = guest.cq(2);
    let mr = guest.mr(4096);
    let mut qps = [0; 2].map(|_| guest.qp(QpInit::new(0, cq.cqn)));
    let [one, other] = &mut qps;
    world.connect((0, one), (0, other));
    for index in 0..20_u16 {
        let wqe = Wqe::new(opcode::WRITE).raddr(mr.key, mr.address).inline(&[1]);
        world.guests[0].send(one, &wqe);
        world.settle();
        assert_eq!(world.guests[0].poll_all(&mut cq), [(one.qpn, index, Ok(opcode::WRITE))]);
    }
    assert_eq!(world.violations(), 0);
}
