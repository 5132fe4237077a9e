//! Posting, against the mock of the driver.

use std::cell::Cell;
use std::sync::mpsc;

use super::super::cq::Cq;
use super::super::mock::{self, Loopback, Queue, Random, recv_wqe, send_wqe, times};
use super::*;
use crate::provider::CompletionQueue;
use crate::types::{Lkey, Remote, SendOp, Sge, Wc, WcOpcode};

const LIMITS: Limits = Limits::new(2, 64);

fn send_queue(elems: u32) -> (Sq, Queue) {
    let (region, kernel) = mock::queue(elems, 208 + 64);
    (Sq::new(region, LIMITS).unwrap(), kernel)
}

fn recv_queue(elems: u32) -> (Rq, Queue) {
    let (region, kernel) = mock::queue(elems, 40 + 32);
    (Rq::new(region, "test", Limits::new(2, 0)).unwrap(), kernel)
}

fn sge(length: u32) -> Sge {
    Sge { addr: 0x7000, length, lkey: Lkey(5) }
}

fn send(wr_id: u64) -> SendWr<'static> {
    SendWr::send(wr_id).sge(sge(8))
}

fn ids(kernel: &mut Queue, at: usize) -> Vec<u64> {
    std::iter::from_fn(|| kernel.consume()).map(|wqe| wqe.u64(at)).collect()
}

/// Posts, and says what came of it, how often the doorbell rang and how many requests the driver saw at each ring.
fn post(sq: &mut Sq, kernel: &Queue, wrs: &[SendWr<'_>]) -> (Result<(), PostError>, Vec<u32>) {
    let rings = Cell::new(Vec::new());
    let done = sq.post(wrs, || {
        let mut seen = rings.take();
        seen.push(kernel.waiting());
        rings.set(seen);
        Ok(())
    });
    (done, rings.take())
}

#[test]
fn the_doorbell_rings_once_for_a_batch_and_after_all_of_it_shows() {
    let (mut sq, mut kernel) = send_queue(8);
    assert_eq!(post(&mut sq, &kernel, &[send(1)]), (Ok(()), vec![1]));
    assert_eq!(post(&mut sq, &kernel, &[send(2), send(3), send(4)]), (Ok(()), vec![4]));
    assert_eq!(post(&mut sq, &kernel, &[]), (Ok(()), vec![]));
    let seen: Vec<_> = std::iter::from_fn(|| kernel.consume()).collect();
    let numbered: Vec<_> = seen.iter().map(|w| (w.u64(send_wqe::WR_ID), w.u32(send_wqe::SSN))).collect();
    assert_eq!(numbered, [(1, 0), (2, 1), (3, 2), (4, 3)]);
}

#[test]
fn a_doorbell_that_fails_leaves_the_requests_in_the_queue_and_says_how_many() {
    let (mut sq, mut kernel) = send_queue(8);
    let done = sq.post(&[send(1), send(2)], || Err(Errno::EIO));
    assert_eq!(done, Err(PostError { posted: 2, kind: PostErrorKind::Doorbell(Errno::EIO as i32) }));
    assert_eq!(ids(&mut kernel, send_wqe::WR_ID), [1, 2]);
    // The next ring shows the driver whatever is there.
    assert_eq!(post(&mut sq, &kernel, &[send(3)]), (Ok(()), vec![1]));
}

#[test]
fn a_request_refused_in_a_batch_stops_it_and_those_before_are_posted() {
    let bad = SendWr::send(9).sges(&[Sge { addr: 0, length: 1, lkey: Lkey(0) }; 3]);
    let (mut sq, mut kernel) = send_queue(8);
    let error = PostError { posted: 2, kind: PostErrorKind::TooManySges { max: 2 } };
    assert_eq!(post(&mut sq, &kernel, &[send(1), send(2), bad, send(3)]), (Err(error), vec![2]));
    assert_eq!(ids(&mut kernel, send_wqe::WR_ID), [1, 2]);
    let error = PostError { posted: 0, ..error };
    assert_eq!(post(&mut sq, &kernel, &[bad, send(3)]), (Err(error), vec![]));
    // A refused request takes no number.
    assert_eq!(post(&mut sq, &kernel, &[send(4)]), (Ok(()), vec![1]));
    assert_eq!(kernel.consume().unwrap().u32(send_wqe::SSN), 2);

    let (mut rq, mut kernel) = recv_queue(8);
    let bad = RecvWr::new(9).sges(&[Sge { addr: 0, length: 1, lkey: Lkey(0) }; 3]);
    let done = rq.post(&[RecvWr::new(1), bad, RecvWr::new(2)]);
    assert_eq!(done, Err(PostError { posted: 1, kind: PostErrorKind::TooManySges { max: 2 } }));
    assert_eq!(ids(&mut kernel, recv_wqe::WR_ID), [1]);
}

#[test]
fn a_queue_that_fills_up_in_a_batch_says_so() {
    let (mut sq, mut kernel) = send_queue(3);
    let full = PostError { posted: 3, kind: PostErrorKind::QueueFull };
    let batch: Vec<_> = (0..5).map(send).collect();
    assert_eq!(post(&mut sq, &kernel, &batch), (Err(full), vec![3]));
    assert_eq!(post(&mut sq, &kernel, &batch), (Err(PostError { posted: 0, ..full }), vec![]));
    kernel.consume();
    assert_eq!(post(&mut sq, &kernel, &batch), (Err(PostError { posted: 1, ..full }), vec![3]));

    let (mut rq, mut kernel) = recv_queue(3);
    let batch: Vec<_> = (0..5).map(RecvWr::new).collect();
    assert_eq!(rq.post(&batch), Err(full));
    assert_eq!(ids(&mut kernel, recv_wqe::WR_ID), [0, 1, 2]);
}

#[test]
fn a_request_over_the_queue_s_sizes_is_refused() {
    let remote = |addr| Remote { addr, rkey: crate::types::Rkey(1) };
    let long = vec![0; 65];
    let halves = [sge(1 << 31), sge(1)];
    let exactly = [sge((1 << 31) - 1), sge(1)];
    let bytes = [0; 8];
    let table = [
        (SendWr::send(1).inline(&long), Err(PostErrorKind::InlineTooLong { max: 64 })),
        (SendWr::send(1).inline(&long[1..]), Ok(())),
        (SendWr::send(1).sges(&halves), Err(PostErrorKind::MessageTooLong)),
        (SendWr::send(1).sges(&exactly), Ok(())),
        (SendWr::rdma_read(1, remote(0)).inline(&bytes), Err(PostErrorKind::InlineNotAllowed)),
        (SendWr::fetch_add(1, remote(8), 1).inline(&bytes), Err(PostErrorKind::InlineNotAllowed)),
        (SendWr::compare_swap(1, remote(8), 1, 2).inline(&bytes), Err(PostErrorKind::InlineNotAllowed)),
        (SendWr::fetch_add(1, remote(4), 1).sge(sge(8)), Ok(())),
        (SendWr::fetch_add(1, remote(8), 1).sge(sge(4)), Err(PostErrorKind::AtomicLength)),
        (SendWr::fetch_add(1, remote(8), 1), Err(PostErrorKind::AtomicLength)),
        (SendWr::compare_swap(1, remote(u64::MAX), 1, 2).sge(sge(9)), Err(PostErrorKind::AtomicLength)),
        (SendWr::compare_swap(1, remote(8), 1, 2).sge(sge(8)), Ok(())),
    ];
    for (wr, want) in table {
        let (mut sq, _kernel) = send_queue(1);
        let done = sq.post(&[wr], || Ok(())).map_err(|error| error.kind);
        assert_eq!(done, want, "{wr:?}");
    }
}

#[test]
fn a_queue_whose_slots_are_too_short_for_its_limits_is_refused() {
    let limits = Limits::new(2, 1000);
    assert!(Sq::new(mock::queue(1, 512).0, limits).is_err());
    assert!(Sq::new(mock::queue(1, 2048).0, limits).is_ok());
    assert!(Rq::new(mock::queue(1, 64).0, "test", Limits::new(u32::MAX, 0)).is_err());
}

/// The whole of a loopback: the driver's thread takes sends when the doorbell rings, and receives, and completes both.
#[test]
fn requests_go_round_through_a_driver_on_its_own_thread() {
    let total = times(5_000);
    let ((mut sq, sends), (mut rq, recvs)) = (send_queue(4), recv_queue(7));
    let (region, completions) = mock::queue(5, mock::wc::SIZE);
    let mut cq = Cq::new(region, "test").unwrap();
    let (bell, rings) = mpsc::channel();
    let device = Loopback { sq: sends, rq: recvs, cq: completions };
    std::thread::scope(|threads| {
        let device = threads.spawn(move || device.run(&rings, total));
        // Posted receives, posted sends, completed receives, completed sends: each in order.
        let (mut recvs, mut sends, mut received, mut sent) = (0, 0, 0, 0);
        let mut wcs = [Wc::default(); 3];
        while received < total || sent < total {
            let wrs: Vec<_> =
                (recvs..total.min(recvs + 3)).map(|n| RecvWr::new(n.into()).sge(sge(8))).collect();
            recvs += rq.post(&wrs).map_or_else(|refused| refused.posted, |()| wrs.len()) as u32;
            let wrs: Vec<_> = (sends..recvs).map(|n| SendWr::send(n.into()).sge(sge(n))).collect();
            let done = sq.post(&wrs, || bell.send(()).map_err(|_| Errno::EIO));
            sends += done.map_or_else(|refused| refused.posted, |()| wrs.len()) as u32;
            let taken = cq.poll(&mut wcs);
            for wc in &wcs[..taken] {
                let count = if wc.opcode == WcOpcode::RECV { &mut received } else { &mut sent };
                assert_eq!((wc.wr_id, wc.byte_len), (u64::from(*count), *count));
                *count += 1;
            }
            if taken == 0 {
                std::thread::yield_now();
            }
        }
        assert!(device.join().unwrap() > 0);
    });
}

/// Random batches against a model that is a `VecDeque` with a bound.
#[test]
fn random_posts_agree_with_a_model() {
    for seed in 0..times(300).into() {
        let mut random = Random(seed);
        let elems = 1 + random.below(20);
        let (mut sq, mut kernel) = send_queue(elems);
        let capacity = (elems + 1).next_power_of_two() as usize - 1;
        let mut model = std::collections::VecDeque::new();
        let mut next = 0u64;
        for _ in 0..60 {
            let sges = [sge(random.edgy()), sge(random.edgy()), sge(1)];
            let inline = vec![7; random.below(80) as usize];
            let wrs: Vec<_> =
                (0..random.below(8)).map(|_| any(&mut random, &sges, &inline, &mut next)).collect();
            let mut want = Ok(());
            for (posted, wr) in wrs.iter().enumerate() {
                let kind = match () {
                    () if model.len() == capacity => PostErrorKind::QueueFull,
                    () => match fits(wr) {
                        Ok(()) => {
                            model.push_back(wr.wr_id);
                            continue;
                        }
                        Err(kind) => kind,
                    },
                };
                want = Err(PostError { posted, kind });
                break;
            }
            let (done, rings) = post(&mut sq, &kernel, &wrs);
            assert_eq!(done, want, "seed {seed}");
            let posted = done.map_or_else(|e| e.posted, |()| wrs.len());
            assert_eq!(rings.len(), usize::from(posted > 0), "seed {seed}");
            for _ in 0..random.below(8) {
                assert_eq!(
                    kernel.consume().map(|wqe| wqe.u64(send_wqe::WR_ID)),
                    model.pop_front(),
                    "seed {seed}"
                );
            }
        }
    }
}

fn any<'a>(random: &mut Random, sges: &'a [Sge; 3], inline: &'a [u8], next: &mut u64) -> SendWr<'a> {
    *next += 1;
    let remote = Remote { addr: random.edgy().into(), rkey: crate::types::Rkey(1) };
    let wr = match random.below(4) {
        0 => SendWr::send(*next),
        1 => SendWr::rdma_write(*next, remote),
        2 => SendWr::rdma_read(*next, remote),
        _ => SendWr::fetch_add(*next, remote, 1),
    };
    match random.below(6) {
        0 => wr,
        1 => wr.inline(inline),
        2 => wr.sge(sge(8)),
        _ => wr.sges(&sges[..random.below(4) as usize]),
    }
}

/// What the queue must say of a request, in the order in which it must look.
fn fits(wr: &SendWr<'_>) -> Result<(), PostErrorKind> {
    let inline = matches!(wr.data, crate::types::Data::Inline(_));
    let reads = wr.op.is_atomic() || matches!(wr.op, SendOp::Read(_));
    let total = wr.data.length();
    match () {
        () if inline && total > 64 => Err(PostErrorKind::InlineTooLong { max: 64 }),
        () if wr.data.sges().len() > 2 => Err(PostErrorKind::TooManySges { max: 2 }),
        () if total > 1 << 31 => Err(PostErrorKind::MessageTooLong),
        () if inline && reads => Err(PostErrorKind::InlineNotAllowed),
        () if wr.op.is_atomic() && total != 8 => Err(PostErrorKind::AtomicLength),
        () => Ok(()),
    }
}

#[test]
fn a_datagram_longer_than_the_mtu_is_refused() {
    let (region, kernel) = mock::queue(8, 208 + 64);
    let mut sq = Sq::new(region, LIMITS.datagrams(4096)).unwrap();
    let ah = crate::provider::rxe::wqe::device_ah(1);
    let to = crate::types::UdAddr { ah: &ah, qpn: Default::default(), qkey: Default::default() };
    let datagram = |wr: SendWr<'static>| {
        let mut wr: SendWr<'_> = wr;
        wr.dest = crate::types::Dest::Ud(to);
        wr
    };
    sq.set_mtu(32);
    let refused = Err(PostError { posted: 0, kind: PostErrorKind::DatagramTooLong { max: 32 } });
    const TWO: [Sge; 2] =
        [Sge { addr: 0, length: 16, lkey: Lkey(0) }, Sge { addr: 0, length: 17, lkey: Lkey(0) }];
    for wr in [
        SendWr::send(1).sge(sge(33)),
        SendWr::send(1).sge(sge(u32::MAX)),
        SendWr::send(1).sges(&TWO),
        SendWr::send(1).inline(&[0; 33]),
    ] {
        assert_eq!(post(&mut sq, &kernel, &[datagram(wr)]), (refused, vec![]));
    }
    for wr in
        [SendWr::send(1).sge(sge(32)), SendWr::send(1).sges(&TWO[..1]), SendWr::send(1).inline(&[0; 32])]
    {
        assert_eq!(post(&mut sq, &kernel, &[datagram(wr)]).0, Ok(()));
    }
}
