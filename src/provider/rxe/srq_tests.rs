//! The shared receive queue against the mock of the driver, from which several queue pairs take.

use std::sync::Mutex;

use super::super::mock::{self, Queue, queue_buf, recv_wqe, times};
use super::*;
use crate::types::{Lkey, PostErrorKind, Sge};

const LIMITS: Limits = Limits::new(2, 0);

fn shared(elems: u32) -> (Srq, Queue) {
    let (region, kernel) = mock::queue(elems, 40 + 32);
    (Srq::new(region, "test", LIMITS).unwrap(), kernel)
}

fn recv(wr_id: u64) -> RecvWr<'static> {
    RecvWr::new(wr_id).sge(Sge { addr: 0x7000 + wr_id, length: 8, lkey: Lkey(5) })
}

#[test]
fn receives_show_at_once_and_a_full_queue_refuses() {
    let (mut srq, mut kernel) = shared(7);
    assert_eq!(srq.post(&[recv(1), recv(2)]), Ok(()));
    assert_eq!(kernel.waiting(), 2);
    let full = srq.post(&(3..20).map(recv).collect::<Vec<_>>()).unwrap_err();
    assert_eq!((full.posted, full.kind), (5, PostErrorKind::QueueFull));
    assert_eq!(srq.post(&[recv(99)]).unwrap_err().posted, 0);
    for wr_id in 1..=7 {
        let wqe = kernel.consume().unwrap();
        assert_eq!((wqe.u64(recv_wqe::WR_ID), wqe.u32(recv_wqe::NUM_SGE)), (wr_id, 1));
        assert_eq!(wqe.u64(recv_wqe::DATA), 0x7000 + wr_id);
    }
    assert_eq!(kernel.consume(), None);
    assert_eq!(srq.post(&[recv(8)]), Ok(()));
}

/// Each queue pair is a thread that takes under the driver's lock; every receive goes to exactly one of them.
#[test]
fn queue_pairs_on_their_own_threads_take_every_receive_once() {
    const PAIRS: usize = 3;
    let total = u64::from(times(6_000));
    let (mut srq, kernel) = shared(4);
    let kernel = Mutex::new((kernel, 0u64));
    let taken = std::thread::scope(|threads| {
        let pairs: Vec<_> = (0..PAIRS)
            .map(|_| {
                threads.spawn(|| {
                    let mut mine = 0;
                    loop {
                        let mut driver = kernel.lock().unwrap();
                        if driver.1 == total {
                            return mine;
                        }
                        if let Some(wqe) = driver.0.consume() {
                            assert_eq!(wqe.u64(recv_wqe::WR_ID), driver.1, "in the order of posting");
                            assert_eq!(wqe.u64(recv_wqe::DATA), 0x7000 + driver.1);
                            driver.1 += 1;
                            mine += 1;
                        }
                        drop(driver);
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        let mut posted = 0;
        while posted < total {
            posted += match srq.post(&(posted..total.min(posted + 3)).map(recv).collect::<Vec<_>>()) {
                Ok(()) => 3.min(total - posted),
                Err(refused) => refused.posted as u64,
            };
            std::thread::yield_now();
        }
        pairs.into_iter().map(|pair| pair.join().unwrap()).sum::<u64>()
    });
    assert_eq!(taken, total);
}

/// The driver resizes by making another queue with what was in the old one; the ring goes on from there.
#[test]
fn a_resized_queue_goes_on_behind_what_was_in_it() {
    let (mut srq, mut old) = shared(3);
    assert_eq!(srq.post(&[recv(1), recv(2)]), Ok(()));
    let (mut region, mut new) = mock::queue(15, 40 + 32);
    let mut moved = 0;
    while let Some(wqe) = old.consume() {
        region.write_bytes(queue_buf::DATA + moved as usize * 128, &wqe.0);
        moved += 1;
    }
    region.store_release(queue_buf::PRODUCER_INDEX, moved);
    srq = Srq::new(region, "test", srq.limits).unwrap();
    assert_eq!(srq.queue.queued(), 2);
    let full = (3..100).map(|id| srq.post(&[recv(id)])).find_map(Result::err);
    assert_eq!(full, Some(PostError { posted: 0, kind: PostErrorKind::QueueFull }));
    let ids: Vec<_> = std::iter::from_fn(|| new.consume()).map(|wqe| wqe.u64(recv_wqe::WR_ID)).collect();
    assert_eq!(ids, (1..=15).collect::<Vec<_>>());
    assert_eq!(srq.queue.queued(), 0);
}
