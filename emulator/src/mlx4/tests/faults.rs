//! Packets that are lost, duplicated, delayed or damaged: the transport recovers from all of it.

use super::{super::wqe::opcode, guest::Wqe, rc::Pair};

/// Runs every operation under faults and compares bytes. Returns the number of packets.
fn all_operations(mut pair: Pair) -> usize {
    let source = pair.fill(0, 1);
    let target = pair.fill(1, 2);
    pair.world.guests[1].fill(&pair.mrs[1], 60_000, &7_u64.to_le_bytes());
    for _ in 0..2 {
        pair.recv(1, 30_000, 6000);
    }
    let send = pair.sge(0, Wqe::new(opcode::SEND), 0, 5000);
    let write = pair.raddr(1, Wqe::new(opcode::WRITE_IMMEDIATE), 10_000);
    let write = pair.sge(0, write, 5000, 5000);
    let read = pair.raddr(1, Wqe::new(opcode::READ), 40_000);
    let read = pair.sge(0, read, 20_000, 5000);
    let add = pair.raddr(1, Wqe::new(opcode::FETCH_ADD), 60_000).words(&[1, 0]);
    let add = pair.sge(0, add, 50_000, 8);
    for wqe in [&send, &read, &add, &write, &add] {
        pair.send(0, wqe);
    }
    pair.run();
    let done = [opcode::SEND, opcode::READ, opcode::FETCH_ADD, opcode::WRITE_IMMEDIATE, opcode::FETCH_ADD];
    let done: Vec<_> = (0..).zip(done.map(Ok)).collect();
    assert_eq!(pair.outcomes(0), done);
    assert_eq!(pair.outcomes(1), [(0, Ok(1)), (1, Ok(0))]);
    assert_eq!(pair.bytes(1, 30_000, 5000), source[..5000]);
    assert_eq!(pair.bytes(1, 10_000, 5000), source[5000..10_000]);
    assert_eq!(pair.bytes(0, 20_000, 5000), target[40_000..45_000]);
    assert_eq!(pair.bytes(0, 50_000, 8), 8_u64.to_le_bytes());
    assert_eq!(pair.bytes(1, 60_000, 8), 9_u64.to_le_bytes());
    pair.clean();
    pair.world.log.len()
}

#[test]
fn each_packet_may_be_lost_duplicated_damaged_or_delayed() {
    let packets = all_operations(Pair::new(2, |_| {}));
    for fault in ["drop", "duplicate", "corrupt", "delay 3", "delay 100"] {
        for skip in 0..packets {
            let mut pair = Pair::new(2, |_| {});
            pair.world.switch.inject(format!("{fault} skip {skip}").parse().unwrap());
            all_operations(pair);
        }
    }
}

#[test]
fn many_packets_may_be_lost() {
    for kind in ["send", "read-response", "ack", "atomic", "atomic-response", "read"] {
        for count in [2, 5] {
            let mut pair = Pair::new(2, |_| {});
            pair.world.switch.inject(format!("drop {kind} count {count}").parse().unwrap());
            all_operations(pair);
        }
    }
}

#[test]
fn damage_with_a_valid_crc_reaches_memory() {
    let mut pair = Pair::new(2, |_| {});
    let source = pair.fill(0, 1);
    pair.world.switch.inject("flip write".parse().unwrap());
    let write = pair.raddr(1, Wqe::new(opcode::WRITE), 0);
    let write = pair.sge(0, write, 0, 100);
    pair.send(0, &write);
    pair.run();
    assert_ne!(pair.bytes(1, 0, 100), source[..100]);
}

#[test]
fn an_unreliable_connection_drops_a_message_and_accepts_the_next() {
    let mut pair = Pair::of_kind(1, 2, |_| {});
    let source = pair.fill(0, 1);
    for _ in 0..3 {
        pair.recv(1, 0, 6000);
    }
    pair.world.switch.inject("drop skip 2".parse().unwrap());
    for at in 0..3 {
        let wqe = pair.sge(0, Wqe::new(opcode::SEND), at * 5000, 5000);
        pair.send(0, &wqe);
    }
    pair.run();
    assert_eq!(pair.outcomes(0).len(), 3);
    assert_eq!(pair.outcomes(1), [(0, Ok(1)), (1, Ok(1))]);
    assert_eq!(pair.bytes(1, 0, 5000), source[10_000..15_000]);
    pair.clean();
}
