//! Posting, against the mock of the driver.

use std::sync::mpsc;

use super::super::mock::{Entry, Queue, queue, rqe, sqe, times, wait_for};
use super::*;
use crate::types::{Lkey, Sge};

fn send_queue(count: u32) -> (Sq, Queue) {
    let (region, kernel) = queue(count, sqe::SIZE, 0);
    (Sq::new(region, count, Limits::new(2, 64, false)).unwrap(), kernel)
}

fn recv_queue(count: u32) -> (Rq, Queue) {
    let (region, kernel) = queue(count, rqe::SIZE, 0);
    (Rq::new(region, count, "test", 2).unwrap(), kernel)
}

fn sge(addr: u64) -> Sge {
    Sge { addr, length: 8, lkey: Lkey(5) }
}

fn send(wr_id: u64) -> SendWr<'static> {
    SendWr::send(wr_id).sge(sge(wr_id))
}

fn ids(kernel: &mut Queue) -> Vec<u64> {
    std::iter::from_fn(|| kernel.consume()).map(|wqe| wqe.u64(sqe::ID)).collect()
}

#[test]
fn the_doorbell_rings_once_for_a_batch_after_all_of_it_is_there() {
    let (mut sq, mut kernel) = send_queue(8);
    for batch in [&[send(1)][..], &[send(2), send(3), send(4)]] {
        let mut rings = Vec::new();
        sq.post(batch, || {
            rings.push(ids(&mut kernel));
            Ok(())
        })
        .unwrap();
        assert_eq!(rings, [batch.iter().map(|wr| wr.wr_id).collect::<Vec<_>>()]);
    }
    sq.post(&[], || panic!("nothing to announce")).unwrap();
}

#[test]
fn a_doorbell_that_fails_leaves_the_requests_in_the_queue() {
    let (mut sq, mut kernel) = send_queue(4);
    let done = sq.post(&[send(1), send(2)], || Err(Errno::ENOTCONN));
    assert_eq!(done, Err(PostError { posted: 2, kind: PostErrorKind::Doorbell(Errno::ENOTCONN as i32) }));
    assert_eq!(ids(&mut kernel), [1, 2]);
}

#[test]
fn a_refused_request_ends_the_batch_and_its_entry_is_used_again() {
    let (mut sq, mut kernel) = send_queue(4);
    let done = sq.post(&[send(1), SendWr::send_with_imm(2, 0), send(3)], || Ok(()));
    assert_eq!(done, Err(PostError { posted: 1, kind: PostErrorKind::Unsupported }));
    sq.post(&[send(4)], || Ok(())).unwrap();
    assert_eq!(ids(&mut kernel), [1, 4]);
}

#[test]
fn a_full_queue_refuses() {
    let (mut sq, mut kernel) = send_queue(4);
    let wrs: Vec<_> = (0..6).map(send).collect();
    let full = PostError { posted: 4, kind: PostErrorKind::QueueFull };
    assert_eq!(sq.post(&wrs, || Ok(())), Err(full));
    assert_eq!(ids(&mut kernel), [0, 1, 2, 3]);
    assert_eq!(sq.post(&wrs, || Ok(())), Err(full));

    let (mut rq, mut kernel) = recv_queue(2);
    let wrs: Vec<_> = (0..3).map(|id| RecvWr::new(id).sge(sge(id))).collect();
    assert_eq!(rq.post(&wrs), Err(PostError { posted: 2, kind: PostErrorKind::QueueFull }));
    assert_eq!(ids(&mut kernel), [0, 1]);
}

/// The driver runs on a thread of its own: it looks for sends when the doorbell rings and takes a receive for each.
#[test]
fn requests_reach_a_driver_on_its_own_thread_whole_and_in_order() {
    let total = u64::from(times(5_000));
    let ((mut sq, mut sends), (mut rq, mut recvs)) = (send_queue(4), recv_queue(8));
    let (bell, rings) = mpsc::channel();
    let whole = |wqe: &Entry, at: usize, id: u64| {
        assert_eq!((wqe.u64(sqe::ID), wqe.u64(at), wqe.u32(at + 8)), (id, id, 8), "a request is read whole");
    };
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let mut served = 0;
            while served < total {
                rings.recv().unwrap();
                while let Some(wqe) = sends.consume() {
                    whole(&wqe, sqe::SGE, served);
                    whole(&wait_for(|| recvs.consume()), rqe::SGE, served);
                    served += 1;
                }
            }
        });
        let (mut received, mut sent) = (0, 0);
        while sent < total {
            let wrs: Vec<_> =
                (received..total.min(received + 3)).map(|n| RecvWr::new(n).sge(sge(n))).collect();
            received += rq.post(&wrs).map_or_else(|refused| refused.posted, |()| wrs.len()) as u64;
            let wrs: Vec<_> = (sent..received.min(sent + 3)).map(send).collect();
            // The driver may have ended with the last request of this batch.
            let done = sq.post(&wrs, || {
                let _ = bell.send(());
                Ok(())
            });
            sent += done.map_or_else(|refused| refused.posted, |()| wrs.len()) as u64;
            std::thread::yield_now();
        }
    });
}
