//! Datagrams and groups, shared receive queues, XRC, and requests that change keys.

use std::time::Duration;

use super::{
    super::{
        mpt::{RESERVED_LKEY, Rights},
        wqe::opcode,
    },
    guest::{Cq, Mr, PD, Qp, QpInit, World, Wqe, rights},
    rc::{LENGTH, Pair},
};
use crate::transport::QpEvent;
use crate::{
    be::{get32, put32, put64},
    mlx4::{
        commands::mcg,
        event::{Event, SrqEvent},
    },
};

const QKEY: u32 = 0x1111_1111;

/// Two datagram queue pairs on two cards, with 4 KiB each.
fn datagrams() -> (World, [Cq; 2], [Mr; 2], [Qp; 2]) {
    let mut world = World::new(2);
    let mut cqs = [0, 1].map(|side| world.guests[side].cq(5));
    let mrs = [0, 1].map(|side: usize| world.guests[side].mr(8192));
    let qps = [0, 1].map(|side: usize| {
        let mut qp = world.guests[side].qp(QpInit { mtu: 5, ..QpInit::new(3, cqs[side].cqn) });
        world.guests[side].ready(&mut qp, 0, 0);
        qp
    });
    cqs[0].consumer = 0;
    (world, cqs, mrs, qps)
}

/// A datagram segment: to a LID, and with a GRH if there is a GID. The Ethernet fields are garbage, as
/// libmlx4 leaves them.
fn to(lid: u16, gid: Option<[u8; 16]>, qpn: u32, qkey: u32) -> Wqe {
    let mut segment = [0; 48];
    put32(&mut segment, 0, 1 << 24 | PD);
    segment[6..8].copy_from_slice(&lid.to_be_bytes());
    if let Some(gid) = gid {
        segment[5] = 0x80;
        segment[11] = 64;
        segment[16..32].copy_from_slice(&gid);
    }
    put32(&mut segment, 12, 2 << 28);
    put32(&mut segment, 32, qpn);
    put32(&mut segment, 36, qkey);
    segment[40..].fill(0x5a);
    Wqe { segments: segment.to_vec(), ..Wqe::new(opcode::SEND) }
}

#[test]
fn datagrams_are_received_after_room_for_a_grh() {
    let (mut world, mut cqs, mrs, mut qps) = datagrams();
    let gid = world.guests[1].card.port.gid(0);
    let source: Vec<u8> = (0..200).collect();
    world.guests[0].fill(&mrs[0], 0, &source);
    for (grh, qkey) in [(None, QKEY), (gid, QKEY), (None, 0x8000_0000), (None, QKEY + 1)] {
        world.guests[1].fill(&mrs[1], 0, &[0xee; 300]);
        world.guests[1].recv(&mut qps[1], &[(mrs[1].key, mrs[1].address, 300)]);
        let wqe = to(9, grh, qps[1].qpn, qkey).sge(mrs[0].key, mrs[0].address, 200);
        world.guests[0].send(&mut qps[0], &wqe);
        world.run(Duration::from_millis(1));
        // An unreliable sender does not learn of it.
        assert!(world.guests[0].poll(&mut cqs[0]).is_some());
        let Some(got) = world.guests[1].poll(&mut cqs[1]) else {
            assert_eq!(qkey, QKEY + 1);
            assert_eq!(world.guests[1].card.port.qkey_violations, 1);
            continue;
        };
        assert_eq!(get32(&got, 0x14), 240);
        let flag = if grh.is_some() { 1 << 31 } else { 0 };
        assert_eq!(get32(&got, 8), flag | qps[0].qpn);
        assert_eq!(got[0x0c..0x10], [0x20, 0, 0, 1]);
        assert_eq!(world.guests[1].bytes(&mrs[1], 40, 200), source);
        let header = world.guests[1].bytes(&mrs[1], 0, 40);
        match gid.filter(|_| grh.is_some()) {
            Some(gid) => assert_eq!(header[24..], gid),
            None => assert_eq!(header, [0xee; 40]),
        }
    }
    assert_eq!(world.violations(), 0);
}

#[test]
fn a_datagram_longer_than_the_mtu_is_not_sent() {
    let (mut world, mut cqs, mrs, mut qps) = datagrams();
    let wqe = to(9, None, qps[1].qpn, QKEY).sge(mrs[0].key, mrs[0].address, 4097);
    world.guests[0].send(&mut qps[0], &wqe);
    world.run(Duration::from_millis(1));
    assert_eq!(world.guests[0].poll_all(&mut cqs[0]), [(qps[0].qpn, 0, Err(1))]);
    assert_eq!(world.guests[0].state(&qps[0]), 4);
}

#[test]
fn members_receive_multicast_datagrams() {
    let (mut world, mut cqs, mrs, mut qps) = datagrams();
    let mgid = [0xff, 0x12, 0x40, 0x1b, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let index = u64::from(mcg::hash(&mgid, 4));
    world.guests[0].write_mcg(index, &mgid, &[qps[0].qpn]);
    // On the other card the group is chained behind another one.
    world.guests[1].write_mcg(index, &[0xff; 16], &[]);
    let mut members = vec![qps[1].qpn];
    for side in [0, 1] {
        for _ in 0..2 {
            world.guests[side].recv(&mut qps[side], &[(mrs[side].key, mrs[side].address, 300)]);
        }
    }
    let wqe = to(0xc003, Some(mgid), 0xff_ffff, QKEY).sge(mrs[0].key, mrs[0].address, 100);
    world.guests[0].send(&mut qps[0], &wqe);
    world.run(Duration::from_millis(1));
    assert_eq!(world.guests[0].poll_all(&mut cqs[0]).len(), 2);
    assert_eq!(world.guests[1].poll_all(&mut cqs[1]), []);
    // Now it is in the first entry, and the sender blocks loopback.
    world.guests[1].write_mcg(index, &mgid, &members);
    members[0] = qps[0].qpn | 1 << 30;
    world.guests[0].write_mcg(index, &mgid, &members);
    world.guests[0].send(&mut qps[0], &wqe);
    world.run(Duration::from_millis(1));
    assert_eq!(world.guests[0].poll_all(&mut cqs[0]).len(), 1);
    assert_eq!(world.guests[1].poll_all(&mut cqs[1]), [(qps[1].qpn, 0, Ok(1))]);
    assert_eq!(world.violations(), 0);
}

#[test]
fn a_shared_queue_serves_several_queue_pairs_and_reports_its_limit() {
    let mut world = World::new(2);
    let mut cqs = [0, 1].map(|side| world.guests[side].cq(6));
    let mrs = [0, 1].map(|side: usize| world.guests[side].mr(LENGTH));
    let mut srq = world.guests[1].srq(3, None);
    let mut senders = [0; 2].map(|_| world.guests[0].qp(QpInit::new(0, cqs[0].cqn)));
    let mut receivers = [0; 2].map(|_| {
        let init = QpInit { srqn: Some(srq.srqn), ..QpInit::new(0, cqs[1].cqn) };
        world.guests[1].qp(init)
    });
    for (one, other) in senders.iter_mut().zip(&mut receivers) {
        world.connect((0, one), (1, other));
    }
    let guest = &mut world.guests[1];
    guest.data.srqs.arm(&mut guest.card, srq.srqn, 0).unwrap();
    for _ in 0..7 {
        guest.post_srq(&mut srq, &[(mrs[1].key, mrs[1].address, 100)]);
    }
    guest.data.srqs.arm(&mut guest.card, srq.srqn, 5).unwrap();
    let limit = Event::Srq { kind: SrqEvent::LimitReached, srqn: srq.srqn };
    for round in 0..30_usize {
        let wqe = Wqe::new(opcode::SEND).inline(&[1; 8]);
        world.guests[0].send(&mut senders[round % 2], &wqe);
        world.run(Duration::from_millis(1));
        world.guests[0].poll_all(&mut cqs[0]);
        let got = world.guests[1].poll_all(&mut cqs[1]);
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].0, got[0].2), (receivers[round % 2].qpn, Ok(1)));
        assert_eq!(world.guests[1].card.events.contains(&limit), round >= 2, "round {round}");
        world.guests[1].free_srq(&mut srq, got[0].1);
        if round >= 3 {
            world.guests[1].post_srq(&mut srq, &[(mrs[1].key, mrs[1].address, 100)]);
        }
    }
    world.guests[1].modify(&mut receivers[0], crate::transport::Transition::ToErr).unwrap();
    let last = Event::Qp { kind: QpEvent::LastWqeReached, qpn: receivers[0].qpn };
    assert!(world.guests[1].card.events.contains(&last));
    assert_eq!(world.violations(), 0);
}

#[test]
fn xrc_requests_select_a_shared_queue() {
    let mut world = World::new(2);
    let mut cqs = [0, 1].map(|side| world.guests[side].cq(5));
    let mrs = [0, 1].map(|side: usize| world.guests[side].mr(LENGTH));
    let mut srq = world.guests[1].srq(3, Some((7, cqs[1].cqn)));
    let foreign = world.guests[1].srq(3, Some((8, cqs[1].cqn)));
    let mut initiator = world.guests[0].qp(QpInit::new(6, cqs[0].cqn));
    let mut target = world.guests[1].qp(QpInit { xrcd: 7, ..QpInit::new(6, 0) });
    world.connect((0, &mut initiator), (1, &mut target));
    let index = world.guests[1].post_srq(&mut srq, &[(mrs[1].key, mrs[1].address, 5000)]);
    world.guests[0].fill(&mrs[0], 0, &[3; 3000]);
    let mut send = Wqe::new(opcode::SEND).sge(mrs[0].key, mrs[0].address, 3000);
    send.flags |= srq.srqn << 8;
    let mut write = Wqe::new(opcode::WRITE).raddr(mrs[1].key, mrs[1].address + 9000).inline(&[4; 8]);
    write.flags |= srq.srqn << 8;
    for wqe in [&send, &write] {
        world.guests[0].send(&mut initiator, wqe);
    }
    world.run(Duration::from_millis(1));
    assert_eq!(world.guests[0].poll_all(&mut cqs[0]).len(), 2);
    let got = world.guests[1].poll(&mut cqs[1]).unwrap();
    assert_eq!(super::guest::outcome(&got), (target.qpn, index, Ok(1)));
    assert_eq!(get32(&got, 8) & 0xff_ffff, srq.srqn);
    assert_eq!(world.guests[1].bytes(&mrs[1], 0, 3000), [3; 3000]);
    assert_eq!(world.guests[1].bytes(&mrs[1], 9000, 8), [4; 8]);
    // A queue of another domain.
    send.flags = send.flags & 0xff | foreign.srqn << 8;
    world.guests[0].send(&mut initiator, &send);
    world.run(Duration::from_millis(1));
    assert_eq!(world.guests[0].poll_all(&mut cqs[0])[0].2, Err(0x12));
    assert_eq!(world.violations(), 0);
}

const BIND_READ_WRITE: u64 = 0b011 << 29;

/// A bind request's segment.
fn bind(rkey: u32, mr: &Mr, offset: u64, length: u64, flags2: u64) -> Wqe {
    let words = [
        BIND_READ_WRITE << 32 | flags2,
        u64::from(rkey) << 32 | u64::from(mr.key),
        mr.address + offset,
        length,
    ];
    let mut wqe = Wqe::new(opcode::BIND).words(&words);
    wqe.flags |= 1 << 7;
    wqe
}

fn try_write(pair: &mut Pair, rkey: u32, address: u64) -> Option<Result<u8, u8>> {
    let wqe = Wqe::new(opcode::WRITE).raddr(rkey, address).inline(&[7; 8]);
    pair.send(0, &wqe);
    pair.run();
    pair.outcomes(0).last().map(|(_, outcome)| *outcome)
}

#[test]
fn windows_give_access_to_part_of_a_region() {
    for (type_2, zero_based) in [(false, false), (true, false), (true, true)] {
        let flags2 = u64::from(type_2) << 31 | u64::from(zero_based) << 30;
        let mut pair = Pair::new(2, |_| {});
        let window = pair.world.guests[1].window(type_2);
        let rkey = window | 0x5a;
        let base = if zero_based { 0 } else { pair.mrs[1].address + 100 };
        let region = pair.mrs[1].key;
        let windows = |pair: &Pair| get32(&pair.world.guests[1].mpt(region), 0x24);
        let wqe = bind(rkey, &pair.mrs[1], 100, 1000, flags2);
        pair.send(1, &wqe);
        pair.run();
        assert_eq!(pair.outcomes(1), [(0, Ok(opcode::BIND))]);
        assert_eq!(windows(&pair), 1);
        assert_eq!(try_write(&mut pair, rkey, base + 8), Some(Ok(opcode::WRITE)));
        assert_eq!(pair.bytes(1, 108, 8), [7; 8]);
        if type_2 {
            // Bound already.
            let wqe = Wqe::new(opcode::INVALIDATE).words(&[0, u64::from(rkey) << 32, 0, 0]);
            pair.send(1, &wqe);
        } else {
            pair.send(1, &bind(rkey, &pair.mrs[1], 0, 0, flags2));
        }
        pair.run();
        assert!(pair.outcomes(1)[0].1.is_ok());
        assert_eq!(windows(&pair), 0);
        assert_eq!(try_write(&mut pair, rkey, base + 8), Some(Err(0x13)));
        pair.clean();
        // Past its end.
        let mut pair = Pair::new(2, |_| {});
        let window = pair.world.guests[1].window(type_2);
        pair.send(1, &bind(window, &pair.mrs[1], 100, 1000, flags2));
        assert_eq!(try_write(&mut pair, window, base + 993), Some(Err(0x13)));
        // A region that does not permit windows.
        let mut pair = Pair::new(2, |_| {});
        let closed = pair.world.guests[1].mr_with(4096, 0xfc00 & !Rights::BIND.0, PD);
        let window = pair.world.guests[1].window(type_2);
        pair.send(1, &bind(window, &closed, 0, 100, flags2));
        pair.run();
        assert_eq!(pair.outcomes(1), [(0, Err(6))]);
    }
}

#[test]
fn a_window_of_type_2_is_for_one_queue_pair_and_a_send_invalidates_it() {
    let flags2 = 1 << 31;
    let mut pair = Pair::new(2, |_| {});
    let window = pair.world.guests[1].window(true);
    pair.send(1, &bind(window, &pair.mrs[1], 0, 100, flags2));
    pair.run();
    let (cqs, mut others) = (&pair.cqs, Vec::new());
    for (side, cq) in cqs.iter().enumerate() {
        others.push(pair.world.guests[side].qp(QpInit::new(0, cq.cqn)));
    }
    let mut other = others.pop().unwrap();
    let mut one = others.pop().unwrap();
    pair.world.connect((0, &mut one), (1, &mut other));
    let wqe = Wqe::new(opcode::WRITE).raddr(window, pair.mrs[1].address).inline(&[1]);
    pair.world.guests[0].send(&mut one, &wqe);
    pair.run();
    assert_eq!(pair.outcomes(0), [(0, Err(0x13))]);
    pair.outcomes(1);
    pair.recv(1, 0, 10);
    pair.send(0, &Wqe::new(opcode::SEND_INVALIDATE).immediate(window).inline(&[1]));
    pair.run();
    let got = pair.poll(1).unwrap();
    assert_eq!((got[31] & 0x7f, get32(&got, 4)), (3, window));
    pair.outcomes(0);
    let address = pair.mrs[1].address;
    assert_eq!(try_write(&mut pair, window, address), Some(Err(0x13)));
    pair.clean();
}

#[test]
fn requests_register_memory() {
    let mut pair = Pair::new(2, |init| init.kernel = true);
    let guest = &mut pair.world.guests[1];
    let mr = guest.mr(3 * 4096);
    let mut entry = guest.mpt(mr.key);
    put32(&mut entry, 0, 3 << 28 | 1 << 17 | 1 << 8);
    put32(&mut entry, 0x0c, PD | 3 << 24 | 1 << 27);
    put64(&mut entry, 0x10, 0);
    put64(&mut entry, 0x18, 0);
    put32(&mut entry, 0x34, 3);
    put32(&mut entry, 0x38, 0);
    guest.set_mpt(mr.key >> 8, &entry);
    // The list of pages is in one page, which the first region covers.
    let list = guest.mr(4096);
    let target = guest.mr(3 * 4096);
    let pages = guest.translation(&target);
    let bytes: Vec<u8> = pages.iter().flat_map(|page| (page | 1).to_be_bytes()).collect();
    guest.fill(&list, 0, &bytes);
    let list = guest.translation(&list)[0];
    let key = mr.key | 9;
    let start = 0x1234_5000_0100_u64;
    let access = u64::from(rights(&[Rights::LOCAL_READ])) >> 10 << 27 | 1 << 28 | 1 << 30;
    let words = [access << 32 | u64::from(key), list, start, 8192, 12, 0];
    pair.send(1, &Wqe::new(opcode::FAST_REGISTER).words(&words));
    pair.run();
    assert_eq!(pair.outcomes(1), [(0, Ok(opcode::FAST_REGISTER))]);
    assert_eq!(try_write(&mut pair, key, start + 8000), Some(Ok(opcode::WRITE)));
    assert_eq!(pair.world.guests[1].bytes(&target, 0x100 + 8000, 8), [7; 8]);
    // All of memory, by the key of kernel queue pairs.
    pair.recv(1, 0, 10);
    pair.send(0, &Wqe::new(opcode::SEND).sge(RESERVED_LKEY, 0x1000_0000, 10));
    pair.run();
    assert_eq!(pair.outcomes(0), [(1, Ok(opcode::SEND))]);
    pair.clean();
    let mut pair = Pair::new(2, |_| {});
    pair.send(0, &Wqe::new(opcode::SEND).sge(RESERVED_LKEY, 0x1000_0000, 10));
    pair.run();
    assert_eq!(pair.outcomes(0), [(0, Err(4))]);
}
