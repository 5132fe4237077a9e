//! Failures, and what both sides report.

use super::{
    super::wqe::opcode,
    guest::{PD, QpInit, Wqe},
    rc::{LENGTH, Pair},
};
use crate::mlx4::event::Event;
use crate::transport::QpEvent;
use crate::transport::Transition;

const LOCAL_LENGTH: u8 = 0x01;
const LOCAL_QP_OPERATION: u8 = 0x02;
const LOCAL_PROTECTION: u8 = 0x04;
const FLUSHED: u8 = 0x05;
const REMOTE_INVALID_REQUEST: u8 = 0x12;
const REMOTE_ACCESS: u8 = 0x13;
const REMOTE_OPERATION: u8 = 0x14;
const RETRIES: u8 = 0x15;
const RNR_RETRIES: u8 = 0x16;
const ERROR: u8 = 6;

fn states(pair: &Pair) -> [u8; 2] {
    [0, 1].map(|side| pair.world.guests[pair.sides[side]].state(&pair.qps[side]))
}

fn qp_events(pair: &Pair, side: usize) -> Vec<QpEvent> {
    let events = pair.world.guests[pair.sides[side]].card.events.iter();
    let own = events.filter_map(|event| match event {
        Event::Qp { kind, qpn } if *qpn == pair.qps[side].qpn => Some(*kind),
        _ => None,
    });
    own.filter(|kind| *kind != QpEvent::CommunicationEstablished).collect()
}

/// Checks that a request fails between one that succeeds and one that is flushed.
fn fails(mut pair: Pair, bad: &Wqe, error: u8) -> Pair {
    let good = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1]);
    pair.send(0, &good);
    pair.send(0, bad);
    pair.send(0, &good);
    pair.run();
    assert_eq!(pair.outcomes(0), [(0, Ok(opcode::WRITE)), (1, Err(error)), (2, Err(FLUSHED))]);
    assert_eq!(states(&pair)[0], ERROR);
    pair.clean();
    pair
}

#[test]
fn a_local_key_without_permission_is_a_protection_error() {
    let wqe = |pair: &Pair, key: u32, address: u64, length| {
        pair.raddr(1, Wqe::new(opcode::WRITE), 0).sge(key, address, length)
    };
    let pair = Pair::new(2, |_| {});
    let (key, address) = (pair.mrs[0].key, pair.mrs[0].address);
    let bad = wqe(&pair, key ^ 1, address, 8);
    fails(pair, &bad, LOCAL_PROTECTION);
    let pair = Pair::new(2, |_| {});
    let bad = wqe(&pair, key, address + LENGTH - 7, 8);
    fails(pair, &bad, LOCAL_PROTECTION);
    let mut pair = Pair::new(2, |_| {});
    let other = pair.world.guests[0].mr_with(64, 0xfc00, PD + 1);
    let bad = wqe(&pair, other.key, other.address, 8);
    let pair = fails(pair, &bad, LOCAL_PROTECTION);
    assert_eq!(states(&pair)[1], 3);
    let mut pair = Pair::new(2, |_| {});
    let read_only = pair.world.guests[0].mr_with(64, 1 << 10, PD);
    let bad = pair.raddr(1, Wqe::new(opcode::READ), 0).sge(read_only.key, read_only.address, 8);
    fails(pair, &bad, LOCAL_PROTECTION);
}

#[test]
fn a_remote_key_without_permission_is_an_access_error_on_both_sides() {
    for (offset, flip) in [(0, 1), (LENGTH - 3, 0)] {
        let pair = Pair::new(2, |_| {});
        let bad = Wqe::new(opcode::WRITE).raddr(pair.mrs[1].key ^ flip, pair.mrs[1].address + offset);
        let pair = fails(pair, &bad.inline(&[9; 4]), REMOTE_ACCESS);
        assert_eq!(states(&pair), [ERROR, ERROR]);
        assert_eq!(qp_events(&pair, 1), [QpEvent::AccessError]);
        assert_eq!(qp_events(&pair, 0), []);
    }
}

#[test]
fn operations_that_the_queue_pair_does_not_permit_are_invalid_requests() {
    let pair = Pair::new(2, |init| init.access = 0b110 << 13);
    let bad = pair.raddr(1, Wqe::new(opcode::FETCH_ADD), 0).words(&[1, 0]);
    let bad = pair.sge(0, bad, 0, 8);
    let pair = fails(pair, &bad, REMOTE_INVALID_REQUEST);
    assert_eq!(qp_events(&pair, 1), [QpEvent::InvalidRequestError]);
    // Not aligned.
    let pair = Pair::new(2, |_| {});
    let bad = pair.raddr(1, Wqe::new(opcode::FETCH_ADD), 4).words(&[1, 0]);
    let bad = pair.sge(0, bad, 0, 8);
    fails(pair, &bad, REMOTE_INVALID_REQUEST);
}

#[test]
fn a_message_that_is_too_long_fails_both_requests() {
    let mut pair = Pair::new(2, |_| {});
    pair.recv(1, 0, 1999);
    pair.recv(1, 0, 1999);
    let bad = pair.sge(0, Wqe::new(opcode::SEND), 0, 2000);
    let mut pair = fails(pair, &bad, REMOTE_INVALID_REQUEST);
    assert_eq!(pair.outcomes(1), [(0, Err(LOCAL_LENGTH)), (1, Err(FLUSHED))]);
    assert_eq!(qp_events(&pair, 1), []);
}

#[test]
fn a_receive_with_a_bad_key_is_an_operational_error() {
    let mut pair = Pair::new(2, |_| {});
    let (key, address) = (pair.mrs[1].key, pair.mrs[1].address);
    pair.world.guests[1].recv(&mut pair.qps[1], &[(key ^ 1, address, 100)]);
    let bad = pair.sge(0, Wqe::new(opcode::SEND), 0, 20);
    let mut pair = fails(pair, &bad, REMOTE_OPERATION);
    assert_eq!(pair.outcomes(1), [(0, Err(LOCAL_PROTECTION))]);
}

#[test]
fn rnr_retries_are_counted() {
    // Without limit.
    let mut pair = Pair::new(2, |_| {});
    let wqe = pair.sge(0, Wqe::new(opcode::SEND), 0, 20);
    pair.send(0, &wqe);
    let next = pair.world.settle().unwrap();
    // Code 12 is 0.64 ms.
    assert_eq!((next - pair.world.now).as_micros(), 640);
    pair.world.run(std::time::Duration::from_secs(1));
    assert_eq!(pair.outcomes(0), []);
    pair.recv(1, 0, 20);
    pair.world.run(std::time::Duration::from_millis(1));
    assert_eq!(pair.outcomes(0), [(0, Ok(opcode::SEND))]);
    // Twice.
    let pair = Pair::new(2, |init| init.rnr_retries = 2);
    let bad = pair.sge(0, Wqe::new(opcode::SEND), 0, 20);
    let pair = fails(pair, &bad, RNR_RETRIES);
    let naks = pair.world.log.iter().filter(|name| *name == "SendOnly").count();
    assert_eq!(naks, 3);
}

#[test]
fn timeouts_are_retried_up_to_the_retry_count() {
    let mut pair = Pair::new(2, |init| init.retries = 3);
    pair.world.guests[1].card.port.cable = false;
    pair.world.learn();
    let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1]);
    let began = pair.world.now;
    pair.send(0, &wqe);
    pair.send(0, &wqe);
    while let Some(next) = pair.world.settle() {
        if states(&pair)[0] == ERROR {
            break;
        }
        pair.world.now = next;
    }
    let took = pair.world.now - began;
    assert_eq!(pair.outcomes(0), [(0, Err(RETRIES)), (1, Err(FLUSHED))]);
    // 4.096 µs << 14, four times.
    assert_eq!(took.as_millis(), 268);
    pair.clean();
}

#[test]
fn receives_posted_in_error_are_flushed_without_a_doorbell() {
    let mut pair = Pair::new(2, |_| {});
    pair.world.guests[1].modify(&mut pair.qps[1], Transition::ToErr).unwrap();
    pair.world.run(std::time::Duration::from_secs(1));
    pair.recv(1, 0, 20);
    pair.world.run(std::time::Duration::from_millis(100));
    assert_eq!(pair.outcomes(1), [(0, Err(FLUSHED))]);
    pair.clean();
}

#[test]
fn unreliable_senders_keep_receiving_after_a_local_error() {
    let mut pair = Pair::of_kind(1, 2, |_| {});
    let bad = Wqe::new(opcode::SEND).sge(pair.mrs[0].key ^ 1, pair.mrs[0].address, 4);
    pair.send(0, &bad);
    pair.run();
    assert_eq!(pair.outcomes(0), [(0, Err(LOCAL_PROTECTION))]);
    assert_eq!(states(&pair)[0], 4);
    pair.recv(0, 0, 4);
    let good = pair.sge(1, Wqe::new(opcode::SEND), 0, 4);
    pair.send(1, &good);
    pair.run();
    assert_eq!(pair.outcomes(0), [(0, Ok(1))]);
    pair.world.guests[0].modify(&mut pair.qps[0], Transition::SqErrToRts).unwrap();
    pair.recv(1, 0, 4);
    let good = pair.sge(0, Wqe::new(opcode::SEND), 0, 4);
    pair.send(0, &good);
    pair.run();
    assert_eq!(pair.outcomes(0), [(1, Ok(opcode::SEND))]);
}

#[test]
fn a_send_queue_is_drained_and_continues() {
    let mut pair = Pair::new(2, |_| {});
    let read = pair.raddr(1, Wqe::new(opcode::READ), 0);
    let read = pair.sge(0, read, 0, 3000);
    pair.send(0, &read);
    let qpn = pair.qps[0].qpn;
    let mailbox = [0; super::super::qpc::MAILBOX];
    // The request has begun.
    let mut out = Vec::new();
    let now = pair.world.now;
    let guest = &mut pair.world.guests[0];
    guest.data.run(&mut guest.card, now, &mut out);
    guest.modify_qp(Transition::RtsToSqd, qpn | 1 << 31, &mailbox).unwrap();
    assert_eq!(guest.state(&pair.qps[0]), 7);
    // The first packet is lost; it is sent again while draining.
    pair.send(0, &read);
    pair.run();
    assert_eq!(pair.outcomes(0), [(0, Ok(opcode::READ))]);
    assert_eq!(states(&pair)[0], 5);
    assert_eq!(qp_events(&pair, 0), [QpEvent::SqDrained]);
    let guest = &mut pair.world.guests[0];
    guest.modify_qp(Transition::SqdToRts, qpn, &mailbox).unwrap();
    pair.run();
    assert_eq!(pair.outcomes(0), [(1, Ok(opcode::READ))]);
    pair.clean();
}

#[test]
fn an_unreadable_request_ends_the_queue_pair() {
    let pair = Pair::new(2, |_| {});
    // An unknown opcode.
    let mut pair2 = pair;
    pair2.send(0, &Wqe::new(0x1d));
    pair2.run();
    assert_eq!(pair2.outcomes(0), [(0, Err(LOCAL_QP_OPERATION))]);
    assert_eq!(pair2.world.violations(), 1);
}

#[test]
fn transitions_depend_on_the_state() {
    let mut pair = Pair::new(1, |_| {});
    let guest = &mut pair.world.guests[0];
    let init = QpInit::new(0, pair.cqs[0].cqn);
    let mut fresh = guest.qp(init);
    for command in [Transition::RtrToRts, Transition::RtsToSqd, Transition::SqdToRts, Transition::RstToInit] {
        assert_eq!(
            guest.modify(&mut fresh, command),
            Err(crate::mlx4::status::Status::BadQpState),
            "{command:?}"
        );
    }
    guest.modify(&mut fresh, Transition::ToErr).unwrap();
    assert_eq!(guest.state(&fresh), ERROR);
    guest.modify(&mut fresh, Transition::ToRst).unwrap();
    assert!(guest.data.qps.query(fresh.qpn).is_err());
}

#[test]
fn a_receive_request_of_a_write_that_fails_is_flushed_once() {
    let mut pair = Pair::new(2, |_| {});
    pair.recv(1, 0, 8);
    pair.recv(1, 0, 8);
    pair.world.guests[1].lose_pages(&pair.mrs[1]);
    let mut write = pair.raddr(1, Wqe::new(opcode::WRITE_IMMEDIATE), 0).inline(&[1; 8]);
    write.immediate = 7;
    pair.send(0, &write);
    pair.run();
    assert_eq!(pair.outcomes(0), [(0, Err(REMOTE_ACCESS))]);
    assert_eq!(pair.outcomes(1), [(0, Err(FLUSHED)), (1, Err(FLUSHED))]);
    assert_eq!(qp_events(&pair, 1), [QpEvent::AccessError]);
    pair.clean();
}
