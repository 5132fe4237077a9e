//! The bytes of requests beside libmlx4's, and posting to queues whose device is a test.

use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use super::super::mock::Device;
use super::*;
use crate::types::{
    Access, Dest, DeviceAh, Lkey, MwBind, MwType, Qkey, Qpn, Remote, Rkey, SendOp, Sge, Srqn, UdAddr,
};

const GOLDEN: &str = include_str!("../../../tests/golden/mlx4_wqe.txt");

const QPN: u32 = 0x241;
const CAP: QpCap =
    QpCap { max_send_wr: 4, max_recv_wr: 4, max_send_sge: 6, max_recv_sge: 3, max_inline_data: 200 };

const REMOTE: Remote = Remote { addr: 0x7f00_1122_3344_5568, rkey: Rkey(0xaabb_ccdd) };

const fn sge(addr: u64, length: u32, lkey: u32) -> Sge {
    Sge { addr, length, lkey: Lkey(lkey) }
}

const SGES: [Sge; 5] = [
    sge(0x1000_0000_0001, 8, 0x0101),
    sge(0x1000_0000_0002, 0, 0x0202),
    sge(0xffff_ffff_ffff_ff00, 0x300, 0xffff_fffe),
    sge(0x4444, 4, 4),
    sge(0x5555, 5, 5),
];

fn golden(kind: &str, name: &str) -> &'static str {
    static LINES: LazyLock<Vec<&str>> = LazyLock::new(|| GOLDEN.lines().collect());
    let beginning = format!("{kind} {name} = ");
    let line = LINES.iter().find_map(|line| line.strip_prefix(&*beginning));
    line.unwrap_or_else(|| panic!("{kind} {name}"))
}

/// Without the formatter, which takes Miri minutes.
fn hex(region: &Region, at: usize, length: usize) -> String {
    let mut bytes = vec![0; length];
    region.read_bytes(at, &mut bytes);
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn bind(mw_type: MwType, window: u32, access: Access) -> SendWr<'static> {
    let part = sge(0x7000, 0x800, 0x0303);
    let bind = MwBind { mw_type, window: Rkey(window), rkey: Rkey(window + 1), part, access };
    SendWr::new(0, SendOp::BindMw(bind))
}

fn datagram<'a>(wr: SendWr<'a>, to: UdAddr<'a>) -> SendWr<'a> {
    SendWr { dest: Dest::Ud(to), ..wr }
}

#[test]
fn requests_are_those_of_libmlx4_byte_for_byte() {
    let inline: Vec<u8> = (1..=200).collect();
    let send = SendWr::send(0);
    let table = [
        ("send", send.sge(SGES[0])),
        ("send-none", send),
        ("send-5", send.sges(&SGES).signaled().fence().solicited()),
        ("send-imm", SendWr::send_with_imm(0, 0xfefd_fcfb).sges(&SGES[..3])),
        ("send-inv", SendWr::send_with_inv(0, Rkey(0x0a0b_0c0d)).sge(SGES[0])),
        ("write", SendWr::rdma_write(0, REMOTE).sges(&SGES[..3])),
        ("write-none", SendWr::rdma_write(0, REMOTE)),
        ("write-imm", SendWr::rdma_write_with_imm(0, REMOTE, 0x0102_0304).sge(SGES[0])),
        ("read", SendWr::rdma_read(0, REMOTE).sges(&SGES[..2])),
        ("compare-swap", SendWr::compare_swap(0, REMOTE, 0x1111, u64::MAX - 1).sge(SGES[0])),
        ("fetch-add", SendWr::fetch_add(0, REMOTE, 0x8000_0000_0000_0001).sges(&SGES[..2])),
        ("local-inv", SendWr::local_inv(0, Rkey(0x0a0b_0c0d))),
        ("bind-1", bind(MwType::One, 0x1000, Access::REMOTE_READ | Access::REMOTE_WRITE)),
        ("bind-2", bind(MwType::Two, 0x2000, Access::REMOTE_ATOMIC | Access::ZERO_BASED)),
        ("inline-1", send.inline(&inline[..1])),
        ("inline-44", send.inline(&inline[..44])),
        ("inline-45", send.inline(&inline[..45])),
        ("inline-64", send.inline(&inline[..64]).signaled()),
        ("inline-200", send.inline(&inline)),
        ("inline-write-100", SendWr::rdma_write(0, REMOTE).inline(&inline[..100])),
    ];
    for (name, wr) in table {
        let (mut device, mut sq, _rq, _) = Device::qp(&CAP, QPN, false);
        post(&mut sq, &[wr]).unwrap();
        if cfg!(miri) {
            // It judges how the queue is written. Comparing the text of the bytes would take it minutes.
            continue;
        }
        assert_eq!(hex(&device.sq, 0, 256), golden("send", name), "{name}");
        let flame = golden("blueflame", name);
        assert_eq!(hex(&device.blueflame, 0, 256), flame, "{name}");
        let rang = device.doorbell();
        assert_eq!(rang == Some(QPN), flame.bytes().all(|digit| digit == b'0'), "{name}: one or the other");
    }
    let av: [u8; 40] = std::array::from_fn(|n| if n < 32 { 0xa0 + n as u8 } else { 0 });
    let ah = DeviceAh(zerocopy::transmute!(av));
    let to = UdAddr { ah: &ah, qpn: Qpn::truncate(0x11_2233), qkey: Qkey(0x8122_3344) };
    let others = [
        ("datagram", QpType::UD, datagram(send.sge(SGES[0]), to)),
        ("datagram-imm-3", QpType::UD, datagram(SendWr::send_with_imm(0, 7).sges(&SGES[..3]), to)),
        ("datagram-inline", QpType::UD, datagram(send.inline(&inline[..100]), to)),
        ("xrc", QpType::XRC_SEND, send.sge(SGES[0]).signaled().xrc_srqn(Srqn::truncate(0x44_5566))),
    ];
    for (name, qp_type, wr) in others {
        let (device, mut sq, _rq, _) = Device::qp_of(qp_type, &CAP, QPN, false);
        let other = if qp_type == QpType::UD { send } else { datagram(send, to) };
        assert_eq!(post(&mut sq, &[other]).map_err(|e| e.posted), Err(0), "{name}: the other kind");
        post(&mut sq, &[wr]).unwrap();
        if cfg!(miri) {
            continue;
        }
        let length = golden("send", name).len() / 2;
        assert_eq!(hex(&device.sq, 0, length), golden("send", name), "{name}");
        assert_eq!(hex(&device.blueflame, 0, 256), golden("blueflame", name), "{name}");
    }
    if !cfg!(miri) {
        let lines = GOLDEN.lines().filter(|line| line.starts_with("send ")).count();
        assert_eq!(lines, table.len() + others.len());
    }
}

#[test]
fn datagrams_have_an_address_and_fit_a_packet() {
    let (mut device, mut sq, _rq, _) = Device::qp_of(QpType::UD, &CAP, QPN, false);
    let ah = DeviceAh::default();
    let to = UdAddr { ah: &ah, qpn: Qpn::truncate(1), qkey: Qkey(2) };
    let refused = |sq: &mut Sq, wr: SendWr<'_>| post(sq, &[wr]).unwrap_err().kind;
    assert_eq!(refused(&mut sq, SendWr::send(1)), PostErrorKind::AddressMissing);
    let write = SendWr { dest: Dest::Ud(to), ..SendWr::rdma_write(1, REMOTE) };
    assert_eq!(refused(&mut sq, write), PostErrorKind::AddressNotAllowed);
    let long = SendWr { dest: Dest::Ud(to), ..SendWr::send(1).sge(sge(0, 2049, 0)) };
    post(&mut sq, &[long]).unwrap();
    sq.set_mtu(2048);
    assert_eq!(refused(&mut sq, long), PostErrorKind::DatagramTooLong { max: 2048 });
    assert!(device.fetch().is_some() && device.fetch().is_none());
    let (_, mut sq, _rq, _) = Device::qp(&CAP, QPN, false);
    assert_eq!(refused(&mut sq, long), PostErrorKind::AddressNotAllowed);
    let (_, mut sq, _rq, _) = Device::qp_of(QpType::XRC_SEND, &CAP, QPN, false);
    assert_eq!(refused(&mut sq, SendWr::send(1)), PostErrorKind::AddressMissing);
    post(&mut sq, &[SendWr::rdma_write(1, REMOTE)]).unwrap();
}

#[test]
fn receives_are_those_of_libmlx4_byte_for_byte() {
    let sges = [SGES[0], sge(0x1000_0000_0002, 0x20, 0x0202), SGES[2]];
    let wr = RecvWr::new(0);
    for (name, wr) in [("recv", wr.sge(sges[0])), ("recv-none", wr), ("recv-3", wr.sges(&sges))] {
        let (device, _sq, mut rq, _) = Device::qp(&CAP, QPN, false);
        rq.post(&[wr]).unwrap();
        assert_eq!(hex(&device.rq, 0, 64), golden("recv", name), "{name}");
        assert_eq!(hex(&device.record, 0, 4), golden("record", name), "{name}");
    }
}

#[test]
fn the_larger_slots_come_first_in_memory() {
    let at = |layout: &Layout| {
        let memory = Region::heap(layout.send_bytes() + layout.recv_bytes());
        let base = memory.address();
        let (send, recv) = layout.split(memory);
        (send.address() - base, send.len(), recv.address() - base, recv.len())
    };
    let layout = Layout::new(QpType::RC, &CAP, true).unwrap();
    assert_eq!(at(&layout), (0, 16 * 256, 16 * 256, 4 * 64));
    let wide = QpCap { max_recv_sge: 32, max_send_sge: 1, max_inline_data: 0, ..CAP };
    let layout = Layout::new(QpType::RC, &wide, true).unwrap();
    assert_eq!(at(&layout), (4 * 512, 64 * 64, 0, 4 * 512));
    let even = QpCap { max_recv_sge: 4, ..wide };
    let layout = Layout::new(QpType::RC, &even, true).unwrap();
    assert_eq!(at(&layout), (0, 64 * 64, 64 * 64, 4 * 64));
    assert_eq!(Layout::new(QpType::RC, &QpCap { max_send_wr: u32::MAX, ..CAP }, true), None);
    assert_eq!(Layout::new(QpType::RC, &QpCap { max_recv_sge: u32::MAX, ..CAP }, true), None);
    let none = Layout::new(QpType::XRC_RECV, &CAP, false).unwrap();
    assert_eq!(at(&none), (0, 0, 0, 0));
}

#[test]
fn several_requests_ring_once_and_go_round() {
    let (mut device, mut sq, _rq, wq) = Device::qp(&CAP, QPN, true);
    // 16 slots of 256 bytes, 9 of them spare: 7 at a time.
    let wr = |wr_id| SendWr { wr_id, ..SendWr::send(0).sges(&SGES) };
    let mut number = 0;
    for round in 0..12 {
        let wrs: Vec<_> = (0..8).map(|n| wr(round * 8 + n)).collect();
        let error = post(&mut sq, &wrs).unwrap_err();
        assert_eq!(error, PostError { posted: 7, kind: PostErrorKind::QueueFull });
        assert_eq!(device.doorbell(), Some(QPN));
        assert_eq!(device.doorbell(), None, "once");
        for n in 0..7 {
            let request = device.fetch().expect("a valid request");
            assert_eq!(request.owner_opcode & 0x1f, 0x0a);
            assert_eq!(request.flags, 0xc, "every request is signaled");
            assert_eq!(request.segments, 6);
            assert_eq!(wq.retire(number), Some(round * 8 + n));
            number += 1;
        }
        assert_eq!(device.fetch(), None);
        device.headroom_is_stamped();
    }
}

/// The device needs no doorbell while it is at work, and whoever polls may be another thread.
#[test]
fn a_request_that_the_device_sees_is_known_to_who_polls() {
    let total = if cfg!(miri) { 30 } else { 20_000 };
    let (mut device, mut sq, _rq, wq) = Device::qp(&CAP, QPN, true);
    let lost = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut posted = 0;
            while posted < total && !lost.load(Ordering::Relaxed) {
                let wrs = [0, 1, 2].map(|n| SendWr { wr_id: posted + n, ..SendWr::send(0).sges(&SGES) });
                let wrs = &wrs[..1 + posted as usize % 3];
                posted += match post(&mut sq, wrs) {
                    Ok(()) => wrs.len() as u64,
                    Err(full) => {
                        std::thread::yield_now();
                        full.posted as u64
                    }
                };
            }
        });
        for number in 0..total {
            while device.fetch().is_none() {
                std::thread::yield_now();
            }
            if wq.retire(number as u16) != Some(number) {
                return lost.store(true, Ordering::Relaxed);
            }
        }
    });
    assert!(!lost.into_inner());
}

#[test]
fn a_request_that_is_refused_leaves_its_slot_invalid() {
    let (mut device, mut sq, _rq, _) = Device::qp(&CAP, QPN, false);
    let long = vec![0; 209];
    let error = post(&mut sq, &[SendWr::send(1).inline(&long)]).unwrap_err();
    assert_eq!(error, PostError { posted: 0, kind: PostErrorKind::InlineTooLong { max: 208 } });
    assert_eq!((device.fetch(), device.doorbell()), (None, None));
    let wrs = [SendWr::send(1), SendWr::send(2).sges(&[SGES[0]; 15]), SendWr::send(3)];
    let error = post(&mut sq, &wrs).unwrap_err();
    assert_eq!(error, PostError { posted: 1, kind: PostErrorKind::TooManySges { max: 14 } });
    assert!(device.fetch().is_some());
    assert_eq!((device.fetch(), device.doorbell()), (None, Some(QPN)));
}

#[test]
fn blueflame_alternates_and_gives_way_to_the_doorbell() {
    let (mut device, mut sq, _rq, wq) = Device::qp(&CAP, QPN, false);
    for (number, at) in [(0, 0), (1, 256), (2, 0)] {
        post(&mut sq, &[SendWr::send(0).inline(b"x")]).unwrap();
        let first = hex(&device.blueflame, at, 4);
        assert_eq!(first, format!("0000{number:02x}0a"));
        assert_eq!(device.doorbell(), None);
        assert_eq!(wq.retire(number), Some(0));
    }
    // Two at once, and one that is longer than a buffer.
    post(&mut sq, &[SendWr::send(0).inline(b"x"), SendWr::send(0).inline(b"y")]).unwrap();
    assert_eq!(device.doorbell(), Some(QPN));
    assert_eq!(hex(&device.blueflame, 256, 4), "0000010a", "as it was");
}

#[test]
fn after_a_reset_both_queues_start_again() {
    let (mut device, mut sq, mut rq, wq) = Device::qp(&CAP, QPN, false);
    post(&mut sq, &[SendWr::send(1), SendWr::send(2)]).unwrap();
    rq.post(&[RecvWr::new(3), RecvWr::new(4), RecvWr::new(5)]).unwrap();
    assert!(device.fetch().is_some() && device.fetch().is_some());
    assert_eq!(hex(&device.record, 0, 4), "00000003");
    let (sent, received) = (sq.poster.renewed().unwrap(), rq.poster.renewed().unwrap());
    sq.restart(Some(Arc::clone(&sent)));
    rq.restart(Some(Arc::clone(&received)));
    device.reset();
    assert_eq!(hex(&device.record, 0, 4), "00000000");
    assert_eq!(device.fetch(), None);
    device.headroom_is_stamped();
    post(&mut sq, &[SendWr::send(6)]).unwrap();
    rq.post(&[RecvWr::new(7)]).unwrap();
    assert!(device.fetch().is_some());
    assert_eq!((sent.retire(0), received.retire_oldest()), (Some(6), Some(7)));
    assert_eq!(wq.retire(0), Some(1), "the old work queue keeps what was posted to it");
    sq.restart(None);
    rq.restart(None);
    let refused = Err(PostError { posted: 0, kind: PostErrorKind::QueueFull });
    assert_eq!((post(&mut sq, &[SendWr::send(8)]), rq.post(&[RecvWr::new(9)])), (refused, refused));
}

/// The device has registers: it needs no other doorbell.
fn post(sq: &mut Sq, wrs: &[SendWr<'_>]) -> Result<(), PostError> {
    sq.post(wrs, || panic!("no system call"))
}

impl Device {
    /// A queue pair with these sizes on a device of its own, and what is shared of its send queue.
    fn qp(cap: &QpCap, qpn: u32, sq_sig_all: bool) -> (Self, Sq, Rq, Arc<WorkQueue>) {
        Self::qp_of(QpType::RC, cap, qpn, sq_sig_all)
    }

    fn qp_of(qp_type: QpType, cap: &QpCap, qpn: u32, sq_sig_all: bool) -> (Self, Sq, Rq, Arc<WorkQueue>) {
        let layout = Layout::new(qp_type, cap, true).unwrap();
        let memory = Region::heap(layout.send_bytes() + layout.recv_bytes());
        let alias = memory.alias();
        let (send, recv) = layout.split(memory);
        let (uar, registers, blueflame) = Self::uar();
        let (record, words) = dbrec::Record::heap();
        let sq = Sq::new(&uar, send, &layout, qpn, sq_sig_all).unwrap();
        let rq = Rq::new(recv, &layout, cap.max_recv_wr, record.word(0)).unwrap();
        let wq = Arc::clone(sq.poster.work_queue());
        let (sq_alias, rq_alias) = layout.split(alias);
        let device =
            Self::new(registers, blueflame, words, sq_alias, rq_alias, layout.send.log2_size, layout.spare);
        (device, sq, rq, wq)
    }
}
