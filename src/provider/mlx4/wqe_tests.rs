//! Sizes of slots beside libmlx4's, and what is refused. The bytes themselves are compared in `qp_tests.rs`.

use super::*;
use crate::sys::region::Region;
use crate::types::{DeviceAh, Lkey, Qkey, QpType, Qpn, RecvWr, Rkey};

const GOLDEN: &str = include_str!("../../../tests/golden/mlx4_wqe.txt");

const LIMITS: Limits = Limits { kind: Kind::Connected, log2_size: 7, max_sge: 6, max_inline: 88 };
const SGE: Sge = Sge { addr: 0x1000, length: 8, lkey: Lkey(1) };
const REMOTE: Remote = Remote { addr: 0x2000, rkey: Rkey(2) };

#[test]
fn slots_are_as_large_as_libmlx4_makes_them() {
    let mut compared = 0;
    for line in GOLDEN.lines().filter_map(|line| line.strip_prefix("layout ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let (qp_type, kind) = match words[0] {
            "rc" => (QpType::RC, Kind::Connected),
            "uc" => (QpType::UC, Kind::Connected),
            "ud" => (QpType::UD, Kind::Datagrams { mtu: 4096 }),
            _ => (QpType::XRC_SEND, Kind::Xrc),
        };
        let number = |n: usize| words[n].parse::<u32>().unwrap();
        // libmlx4 counts on a 64th segment, whose request would say that it has none; the kernel takes no slots over 1 KiB.
        let lost = if number(5) == 10 { 1 } else { 0 };
        let (max_sge, max_inline) = (number(8) - lost, number(9) - 16 * lost);
        let want = Limits { kind, log2_size: number(5), max_sge, max_inline };
        let want = Some(want).filter(|want| want.log2_size <= 10);
        assert_eq!(Limits::new(qp_type, number(2), number(3)), want, "{line}");
        compared += 1;
    }
    assert_eq!(compared, 32);
    assert_eq!((Limits::new(QpType::RC, u32::MAX, 0), Limits::new(QpType::RC, 0, u32::MAX)), (None, None));
    assert!(Limits::new(QpType::UD, 0, 0).is_some_and(|limits| limits.max_sge > 0));
}

#[test]
fn the_longest_requests_say_how_long_they_are() {
    let bytes = [7; 1024];
    let sges = [SGE; 64];
    for (qp_type, dest) in [(QpType::RC, false), (QpType::UD, true)] {
        let limits = Limits::new(qp_type, 32, 0).unwrap();
        let ah = DeviceAh::default();
        let dest = match dest {
            true => Dest::Ud(UdAddr { ah: &ah, qpn: Qpn::truncate(1), qkey: Qkey(1) }),
            false => Dest::Connected,
        };
        let op = if qp_type == QpType::RC { SendOp::Write(REMOTE) } else { SendOp::Send };
        let wr = SendWr { dest, ..SendWr::new(1, op) };
        let mut chunks = Chunks::new(Region::heap(1024), 16).unwrap();
        let mut segments = |wr| segments(&mut chunks, &wr, &limits);
        let (max_sge, max_inline) = (limits.max_sge as usize, limits.max_inline as usize);
        assert_eq!(segments(wr.sges(&sges[..max_sge])), Ok(63));
        assert_eq!(segments(wr.inline(&bytes[..max_inline])), Ok(63));
        assert_eq!(
            segments(wr.sges(&sges[..=max_sge])),
            Err(PostErrorKind::TooManySges { max: max_sge as u32 })
        );
        let too_long = PostErrorKind::InlineTooLong { max: max_inline as u32 };
        assert_eq!(segments(wr.inline(&bytes[..=max_inline])), Err(too_long));
    }
    // An atomic has a segment more than a write.
    let limits = Limits::new(QpType::RC, 32, 0).unwrap();
    let none = Sge { length: 0, ..SGE };
    let sges: Vec<Sge> = std::iter::once(SGE).chain([none; 60]).collect();
    let add = SendWr::fetch_add(1, REMOTE, 1);
    let mut chunks = Chunks::new(Region::heap(1024), 16).unwrap();
    let mut segments = |wr| segments(&mut chunks, &wr, &limits);
    assert_eq!(segments(add.sges(&sges)), Err(PostErrorKind::TooManySges { max: 60 }));
    assert_eq!(segments(add.sges(&sges[..60])), Ok(63));
}

fn segments(chunks: &mut Chunks, wr: &SendWr<'_>, limits: &Limits) -> Result<u32, PostErrorKind> {
    write_send(chunks, 0, wr, limits, 0).map(|draft| draft.written.segments)
}

fn refused(wr: SendWr<'_>) -> PostErrorKind {
    segments(&mut Chunks::new(Region::heap(128), 2).unwrap(), &wr, &LIMITS).unwrap_err()
}

#[test]
fn what_does_not_fit_or_makes_no_sense_is_refused() {
    let send = SendWr::send(1);
    assert_eq!(refused(send.sges(&[SGE; 7])), PostErrorKind::TooManySges { max: 6 });
    assert_eq!(refused(send.inline(&[0; 89])), PostErrorKind::InlineTooLong { max: 88 });
    let long = Sge { length: 1 << 31, ..SGE };
    assert_eq!(refused(send.sge(long)), PostErrorKind::MessageTooLong);
    let half = Sge { length: 1 << 30, ..SGE };
    assert_eq!(refused(send.sges(&[half, half])), PostErrorKind::MessageTooLong);
    assert_eq!(refused(SendWr::rdma_read(1, REMOTE).inline(b"read")), PostErrorKind::InlineNotAllowed);
    let add = SendWr::fetch_add(1, REMOTE, 1);
    assert_eq!(refused(add.inline(&[0; 8])), PostErrorKind::InlineNotAllowed);
    assert_eq!(refused(add), PostErrorKind::AtomicLength);
    assert_eq!(refused(add.sge(Sge { length: 4, ..SGE })), PostErrorKind::AtomicLength);
    assert_eq!(refused(SendWr::compare_swap(1, REMOTE, 0, 0)), PostErrorKind::AtomicLength);
    assert_eq!(refused(SendWr::local_inv(1, Rkey(1)).sge(SGE)), PostErrorKind::DataNotAllowed);
    // The atomic's own segments leave room for five elements of 16 bytes.
    let none = Sge { length: 0, ..SGE };
    assert_eq!(
        refused(add.sges(&[SGE, none, none, none, none, none])),
        PostErrorKind::TooManySges { max: 5 }
    );
}

#[test]
fn a_receive_that_does_not_fit_is_refused() {
    let mut elements = Elements::new(Region::heap(64), 4).unwrap();
    let mut refused = |wr: RecvWr<'_>, max_sge| write_recv(&mut elements, 0, &wr, max_sge).unwrap_err();
    assert_eq!(refused(RecvWr::new(1).sges(&[SGE; 5]), 4), PostErrorKind::TooManySges { max: 4 });
    assert_eq!(refused(RecvWr::new(1).sge(SGE), 0), PostErrorKind::TooManySges { max: 0 });
    assert_eq!(refused(RecvWr::new(1).sge(Sge { length: 1 << 31, ..SGE }), 2), PostErrorKind::MessageTooLong);
}

#[test]
fn elements_of_no_bytes_do_not_end_a_receives_list() {
    let mut elements = Elements::new(Region::heap(64), 4).unwrap();
    let none = Sge { length: 0, ..SGE };
    write_recv(&mut elements, 0, &RecvWr::new(1).sges(&[none, SGE, none, SGE]), 4).unwrap();
    let mut bytes = [0; 48];
    elements.region().read_bytes(0, &mut bytes);
    let element = [0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x10, 0];
    assert_eq!(bytes[..32], [element, element].concat());
    assert_eq!(bytes[32..], [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // The same for the one element of a slot that has room for one.
    for max_sge in [1, 4] {
        write_recv(&mut elements, 0, &RecvWr::new(1).sge(none), max_sge).unwrap();
        elements.region().read_bytes(0, &mut bytes);
        assert_eq!(bytes[..16], [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
