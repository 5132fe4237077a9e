//! Requests as the kernel sends them: places of fields are those of `path_rec_table` and `mcmember_rec_table` in
//! drivers/infiniband/core/sa_query.c (four times `offset_words`), masks those of include/rdma/ib_sa.h.

use super::*;
use crate::be::{get16, get32, put32, put64};

const GUIDS: [u64; 2] = [0x10d2_c910_0000_6bd1, 0x10d2_c910_0000_6c61];
const LIDS: [u16; 2] = [1, 9];

const GET: u8 = 1;
const SET: u8 = 2;
const DELETE: u8 = 0x15;
const CLASS_PORT_INFO: u16 = 1;
const PATH: u16 = 0x35;
const MEMBER: u16 = 0x38;

/// The broadcast group of IP over InfiniBand.
const BROADCAST: [u8; 16] = [0xff, 0x12, 0x40, 0x1b, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
/// The components that the kernel sends to join it: MGID, port GID, P_Key, join state.
const JOIN: u64 = 1 | 1 << 1 | 1 << 7 | 1 << 16;
/// The components that it sends to create a group.
const MAKE: u64 = JOIN | 1 << 2 | 1 << 6 | 1 << 12 | 1 << 13;

fn port(number: usize) -> Port {
    let mut port = Port::new(GUIDS[number], LIDS[number], 1);
    port.enabled = true;
    port
}

fn agent() -> Agent {
    let mut agent = Agent::new(1, Trace::default());
    for number in 0..2 {
        agent.learn(number, &port(number));
    }
    agent
}

fn gid(number: usize) -> [u8; 16] {
    port(number).gid(0).unwrap()
}

/// A request from the port of card `number`, with some bytes of its attribute.
fn request(number: usize, method: u8, attribute: u16, mask: u64, parts: &[(usize, &[u8])]) -> Packet {
    let mut mad = vec![0; 256];
    mad[..4].copy_from_slice(&[1, 3, 2, method]);
    put64(&mut mad, 8, 0x1122_3344_5566_7788);
    put16(&mut mad, 16, attribute);
    mad[24..36].fill(0xa5);
    put64(&mut mad, 48, mask);
    for (at, bytes) in parts {
        mad[56 + at..56 + at + bytes.len()].copy_from_slice(bytes);
    }
    Packet {
        lrh: Lrh { sl: 0, slid: LIDS[number], dlid: 1, ..Lrh::default() },
        grh: None,
        bth: Bth {
            opcode: Opcode { service: Service::Ud, operation: Operation::SendOnly },
            solicited: false,
            pkey: 0xffff,
            dest_qpn: 1,
            ack_request: false,
            psn: Psn::default(),
        },
        extended: Extended { deth: Some(Deth { qkey: 0x8001_0000, src_qpn: 1 }), ..Extended::default() },
        payload: mad,
        bad_icrc: false,
    }
}

/// The status of the response, and its attribute.
fn ask(agent: &mut Agent, packet: &Packet) -> (u16, Vec<u8>) {
    assert!(Agent::takes(packet));
    let answer = agent.receive(packet).unwrap();
    assert_eq!((answer.lrh.slid, answer.lrh.dlid), (1, packet.lrh.slid));
    assert_eq!((answer.bth.dest_qpn, answer.bth.pkey), (1, 0xffff));
    assert_eq!(answer.extended.deth, Some(Deth { qkey: 0x8001_0000, src_qpn: 1 }));
    assert!(!Agent::takes(&answer), "an answer is for the port that asked");
    let mad = &answer.payload;
    assert_eq!(mad[..3], [1, 3, 2]);
    assert_eq!(mad[8..18], packet.payload[8..18], "transaction and attribute");
    assert_eq!(mad[24..36], [0; 12], "no segment");
    let expected = if packet.payload[3] == SET { 0x81 } else { packet.payload[3] | 0x80 };
    assert_eq!(mad[3], expected);
    (get16(mad, 4), mad[56..].to_vec())
}

fn path(agent: &mut Agent, mask: u64, more: &[(usize, &[u8])]) -> (u16, Vec<u8>) {
    let (source, target) = (gid(1), gid(0));
    let mut parts: Vec<(usize, &[u8])> = vec![(8, &target), (24, &source)];
    parts.extend(more);
    // DGID and SGID are always given.
    ask(agent, &request(1, GET, PATH, 1 << 2 | 1 << 3 | mask, &parts))
}

#[test]
fn a_path_has_the_lids_of_both_ends() {
    // As RDMA-CM asks: reversible, one path, this P_Key, a QoS class and a service.
    let mask = 1 | 1 << 1 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14;
    let (status, record) = path(&mut agent(), mask, &[(49, &[0x81]), (50, &[0xff, 0xff])]);
    assert_eq!(status, 0);
    assert_eq!((&record[8..24], &record[24..40]), (&gid(0)[..], &gid(1)[..]));
    assert_eq!((get16(&record, 40), get16(&record, 42)), (1, 9), "DLID and SLID");
    assert_eq!(get32(&record, 44), 0, "no raw traffic, and no global header is needed");
    assert_eq!(record[48..52], [0, 0x81, 0xff, 0xff], "traffic class, reversible, one path, P_Key");
    assert_eq!(
        record[52..57],
        [0, 0, 0x85, 0x87, 0x92],
        "SL; exactly: 4096 bytes, 40 Gbit/s, about a second"
    );
    assert!(record[57..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_path_matches_the_request_or_does_not_exist() {
    let mut agent = agent();
    // By LIDs; the source is the requester.
    let (status, record) = ask(&mut agent, &request(1, GET, PATH, 1 << 4, &[(40, &[0, 1])]));
    assert_eq!((status, &record[8..24], &record[24..40]), (0, &gid(0)[..], &gid(1)[..]));
    // Traffic class, flow label and hop limit are returned.
    let global = 1 << 8 | 1 << 9 | 1 << 10;
    let (status, record) = path(&mut agent, global, &[(44, &[0x01, 0x23, 0x45, 0x40]), (48, &[7])]);
    assert_eq!((status, &record[44..49]), (0, &[0x01, 0x23, 0x45, 0x40, 7][..]));
    // Less than 4096 bytes; a service level and a P_Key that do not exist; more than 4096 bytes.
    assert_eq!(path(&mut agent, 1 << 16 | 1 << 17, &[(54, &[1 << 6 | 5])]).1[54], 0x84);
    assert_eq!(path(&mut agent, 1 << 15, &[(53, &[3])]).0, 0x0300);
    assert_eq!(path(&mut agent, 1 << 13, &[(50, &[0x80, 0x01])]).0, 0x0300);
    assert_eq!(path(&mut agent, 1 << 16 | 1 << 17, &[(54, &[5])]).0, 0x0300);
    // An unknown GID, an unknown LID, no destination.
    assert_eq!(path(&mut agent, 0, &[(8, &[0xfe, 0x80])]).0, 0);
    assert_eq!(path(&mut agent, 0, &[(23, &[0x55])]).0, 0x0500);
    assert_eq!(path(&mut agent, 1 << 4, &[(40, &[0, 9])]).0, 0x0300);
    assert_eq!(ask(&mut agent, &request(1, GET, PATH, 0, &[])).0, 0x0600);
    // A port that is down.
    let mut down = port(0);
    down.cable = false;
    agent.learn(0, &down);
    assert_eq!(path(&mut agent, 0, &[]).0, 0x0500);
}

fn member(number: usize, method: u8, mask: u64, mgid: &[u8; 16], state: u8) -> Packet {
    let port = gid(number);
    let parts: [(usize, &[u8]); 5] =
        [(0, mgid), (16, &port), (32, &[0, 0, 0x0b, 0x1b]), (40, &[0xff, 0xff]), (48, &[state])];
    request(number, method, MEMBER, mask, &parts)
}

#[test]
fn the_broadcast_group_exists_from_the_start() {
    let mut agent = agent();
    for number in [0, 1] {
        let (status, record) = ask(&mut agent, &member(number, SET, JOIN, &BROADCAST, 1));
        assert_eq!(status, 0);
        assert_eq!((&record[..16], &record[16..32]), (&BROADCAST[..], &gid(number)[..]));
        assert_eq!((get32(&record, 32), get16(&record, 36)), (0x0b1b, 0xc000));
        assert_eq!(record[38..44], [0x84, 0, 0xff, 0xff, 0x83, 0x92], "2048 bytes, P_Key, 10 Gbit/s");
        assert_eq!(record[44..50], [0, 0, 0, 0, 0x21, 0], "local scope, full member");
    }
    for number in [0, 1] {
        assert_eq!(ask(&mut agent, &member(number, DELETE, JOIN, &BROADCAST, 1)).0, 0);
        assert_eq!(ask(&mut agent, &member(number, DELETE, JOIN, &BROADCAST, 1)).0, 0x0200, "is no member");
    }
    assert_eq!(ask(&mut agent, &member(0, GET, 1, &BROADCAST, 0)).0, 0, "it stays");
}

#[test]
fn groups_exist_from_their_first_to_their_last_member() {
    let mut agent = agent();
    let mgid = |last| [0xff, 0x12, 0x60, 0x1b, 0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, last];
    let mlid = |answer: (u16, Vec<u8>)| (answer.0, get16(&answer.1, 36));
    assert_eq!(ask(&mut agent, &member(0, SET, JOIN, &mgid(1), 1)).0, 0x0600, "says too little of it");
    assert_eq!(ask(&mut agent, &member(0, SET, MAKE, &mgid(1), 4)).0, 0x0200, "a sender alone makes none");
    assert_eq!(ask(&mut agent, &member(0, GET, 1, &mgid(1), 0)).0, 0x0300);
    assert_eq!(mlid(ask(&mut agent, &member(0, SET, MAKE, &mgid(1), 1))), (0, 0xc001));
    assert_eq!(mlid(ask(&mut agent, &member(1, SET, MAKE, &mgid(2), 8))), (0, 0xc002));
    assert_eq!(mlid(ask(&mut agent, &member(1, SET, JOIN, &mgid(1), 4))), (0, 0xc001));
    let mut other = member(1, SET, MAKE, &mgid(1), 1);
    put32(&mut other.payload, 56 + 32, 0x1234);
    assert_eq!(ask(&mut agent, &other).0, 0x0200, "another Q_Key");
    // Join states accumulate, and the group exists as long as it has a full member.
    assert_eq!(ask(&mut agent, &member(1, SET, JOIN, &mgid(1), 1)).1[48], 0x25);
    assert_eq!(ask(&mut agent, &member(0, DELETE, JOIN, &mgid(1), 1)).1[48], 0x20);
    assert_eq!(ask(&mut agent, &member(1, DELETE, JOIN, &mgid(1), 1)).1[48], 0x24);
    assert_eq!(ask(&mut agent, &member(0, GET, 1, &mgid(1), 0)).0, 0x0300, "it is gone");
    // Its MLID is free again. A port that goes down is no longer a member.
    assert_eq!(mlid(ask(&mut agent, &member(0, SET, MAKE, &mgid(3), 1))), (0, 0xc001));
    let mut down = port(1);
    down.cable = false;
    agent.learn(1, &down);
    assert_eq!(ask(&mut agent, &member(0, GET, 1, &mgid(2), 0)).0, 0x0300);
    assert_eq!(ask(&mut agent, &member(0, GET, 1, &mgid(3), 0)).0, 0);
}

#[test]
fn a_port_joins_for_itself_only() {
    let mut agent = agent();
    let mut proxy = member(0, SET, JOIN, &BROADCAST, 1);
    proxy.lrh.slid = 9;
    assert_eq!(ask(&mut agent, &proxy).0, 0x0200);
    let mut unknown = member(0, SET, JOIN, &BROADCAST, 1);
    unknown.payload[56 + 31] = 0x55;
    assert_eq!(ask(&mut agent, &unknown).0, 0x0500);
    assert_eq!(ask(&mut agent, &member(0, SET, JOIN & !(1 << 16), &BROADCAST, 1)).0, 0x0600);
    assert_eq!(ask(&mut agent, &member(0, SET, MAKE, &gid(0), 1)).0, 0x0200, "no multicast GID");
}

#[test]
fn unknown_requests_get_a_status() {
    let mut agent = agent();
    let (status, info) = ask(&mut agent, &request(0, GET, CLASS_PORT_INFO, 0, &[]));
    assert_eq!((status, &info[..2], info[7] & 0x1f), (0, &[1, 2][..], 18));
    assert_eq!(ask(&mut agent, &request(0, GET, 0x31, 0, &[])).0, 0x000c, "a service record");
    assert_eq!(ask(&mut agent, &request(0, 0x12, PATH, 0, &[])).0, 0x0008, "a table");
    assert_eq!(ask(&mut agent, &request(0, DELETE, PATH, 0, &[])).0, 0x0008);
    let mut old = request(0, GET, PATH, 0, &[]);
    old.payload[2] = 1;
    let answer = agent.receive(&old).unwrap();
    assert_eq!(get16(&answer.payload, 4), 0x0004);
}

#[test]
fn other_packets_are_not_for_the_agent() {
    let agent = agent();
    for (at, byte, what) in [(1, 7, "a connection manager's"), (3, 0x81, "an answer"), (3, 5, "a trap")] {
        let mut packet = request(0, GET, PATH, 0, &[]);
        packet.payload[at] = byte;
        assert!(!Agent::takes(&packet), "{what}");
    }
    let mut short = request(0, GET, PATH, 0, &[]);
    short.payload.pop();
    assert!(!Agent::takes(&short));
    let mut qp0 = request(0, GET, PATH, 0, &[]);
    qp0.bth.dest_qpn = 0;
    assert!(!Agent::takes(&qp0));
    assert_eq!(agent.lid(), Some(1));
}

#[test]
fn a_wrong_key_gets_no_response() {
    let mut agent = agent();
    let wrong: [fn(&mut Packet); 3] = [
        |packet| packet.bth.pkey = 0x8001,
        |packet| packet.extended.deth = Some(Deth { qkey: 0x1111_1111, src_qpn: 1 }),
        |packet| packet.bad_icrc = true,
    ];
    for wrong in wrong {
        let mut packet = request(0, GET, CLASS_PORT_INFO, 0, &[]);
        wrong(&mut packet);
        assert!(agent.receive(&packet).is_none());
    }
}

#[test]
fn a_manager_in_a_guest_takes_over() {
    let mut agent = agent();
    let mut managed = port(1);
    managed.capabilities = 1 << 1;
    agent.learn(1, &managed);
    assert_eq!(agent.lid(), None);
    agent.learn(1, &port(1));
    assert_eq!(agent.lid(), Some(1));
}

#[test]
fn random_requests_are_survived() {
    let mut agent = agent();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut answered = 0;
    for _ in 0..200_000 {
        let attribute = [PATH, MEMBER, CLASS_PORT_INFO][next() as usize % 3];
        let method = [GET, SET, DELETE, 0x12][next() as usize % 4];
        let mut packet = request(next() as usize % 2, method, attribute, next() & next(), &[]);
        for byte in &mut packet.payload[56..] {
            *byte = next() as u8;
        }
        // Some fields are valid, or nothing would get far.
        let good = next();
        packet.payload[56 + 24..56 + 40].copy_from_slice(&gid(good as usize & 1));
        for at in [8, 16] {
            if good & 1 << at != 0 {
                packet.payload[56 + at..56 + at + 16].copy_from_slice(&gid(good as usize >> 1 & 1));
            }
        }
        if good & 4 != 0 {
            packet.payload[56] = 0xff;
        }
        if let Some(answer) = agent.receive(&packet) {
            answered += usize::from(get16(&answer.payload, 4) == 0);
        }
    }
    assert!(answered > 1000, "only {answered} answers without an error");
}
