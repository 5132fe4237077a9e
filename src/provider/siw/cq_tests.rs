//! Completions as the driver writes them, and as it would never write them.

use super::super::mock::{Entry, Queue, Random, cqe as at, queue, times, wait_for};
use super::*;

fn made(count: u32) -> (Cq, Queue) {
    let (region, kernel) = queue(count, at::SIZE, at::CONTROL);
    (Cq::new(region, count, "test").unwrap(), kernel)
}

fn polled(entry: &Entry) -> Wc {
    let (mut cq, mut kernel) = made(1);
    assert!(kernel.produce(entry));
    let mut wcs = [Wc::default(); 2];
    assert_eq!(cq.poll(&mut wcs), 1);
    wcs[0]
}

#[test]
fn every_field_is_found_where_the_driver_puts_it() {
    let entry = Entry::completion(0x1122_3344_5566_7788, 8, 4096).with(at::QP_ID, &0x11u64.to_ne_bytes());
    let want = Wc {
        wr_id: 0x1122_3344_5566_7788,
        opcode: WcOpcode::RECV,
        byte_len: 4096,
        qp_num: Qpn::truncate(0x11),
        ..Wc::default()
    };
    assert_eq!(polled(&entry), want);
}

#[test]
fn operations_and_statuses_are_those_of_the_driver() {
    let opcodes = [
        (0, WcOpcode::RDMA_WRITE),
        (1, WcOpcode::RDMA_READ),
        (2, WcOpcode::RDMA_READ),
        (3, WcOpcode::SEND),
        (4, WcOpcode::SEND),
        (5, WcOpcode::SEND),
        (8, WcOpcode::RECV),
        (10, WcOpcode::LOCAL_INV),
    ];
    for (raw, opcode) in opcodes {
        let wc = polled(&Entry::completion(1, raw, 0));
        assert_eq!((wc.opcode, wc.status), (opcode, WcStatus::SUCCESS));
    }
    for unknown in [6, 7, 9, 11, 12, 128, 255] {
        assert_eq!(polled(&Entry::completion(1, unknown, 0)).status, WcStatus::GENERAL_ERR, "{unknown}");
    }
    let statuses = [
        WcStatus::SUCCESS,
        WcStatus::LOC_LEN_ERR,
        WcStatus::LOC_PROT_ERR,
        WcStatus::LOC_QP_OP_ERR,
        WcStatus::WR_FLUSH_ERR,
        WcStatus::BAD_RESP_ERR,
        WcStatus::LOC_ACCESS_ERR,
        WcStatus::REM_ACCESS_ERR,
        WcStatus::REM_INV_REQ_ERR,
        WcStatus::GENERAL_ERR,
        WcStatus::GENERAL_ERR,
    ];
    for (raw, status) in (0u16..).zip(statuses).chain([(u16::MAX, WcStatus::GENERAL_ERR)]) {
        let entry = Entry::completion(1, 3, 0).with(at::STATUS, &raw.to_ne_bytes());
        assert_eq!(polled(&entry).status, status, "{raw}");
    }
}

#[test]
fn polling_returns_as_many_as_there_are_and_fit() {
    let (mut cq, mut kernel) = made(8);
    assert!(cq.is_empty());
    for id in 0..8 {
        assert!(kernel.produce(&Entry::completion(id, 3, 0)));
    }
    assert!(!kernel.produce(&Entry::completion(8, 3, 0)), "an overflow");
    let mut wcs = [Wc::default(); 5];
    assert_eq!((cq.poll(&mut []), cq.poll(&mut wcs)), (0, 5));
    assert_eq!(wcs.map(|wc| wc.wr_id), [0, 1, 2, 3, 4]);
    assert!((8..13).all(|id| kernel.produce(&Entry::completion(id, 3, 0))), "five entries came back");
    assert_eq!((cq.poll(&mut wcs), cq.poll(&mut wcs)), (5, 3));
    assert_eq!((wcs[0].wr_id, wcs[2].wr_id, cq.poll(&mut wcs)), (10, 12, 0));
    assert!(kernel.produce(&Entry::completion(13, 3, 0)));
    assert_eq!(cq.take_one().map(|wc| wc.wr_id), Some(13));
    assert!(cq.take_one().is_none());
    cq.publish();
    assert!((0..8).all(|id| kernel.produce(&Entry::completion(id, 3, 0))), "that one came back too");
}

#[test]
fn a_queue_is_polled_while_the_driver_fills_it() {
    let total = u64::from(times(20_000));
    let (mut cq, mut kernel) = made(4);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for id in 0..total {
                let entry = Entry::completion(id, 8, id as u32).with(at::QP_ID, &(id & 0xffff).to_ne_bytes());
                wait_for(|| kernel.produce(&entry).then_some(()));
            }
        });
        let (mut wcs, mut next) = ([Wc::default(); 3], 0);
        while next < total {
            let taken = cq.poll(&mut wcs);
            for wc in &wcs[..taken] {
                assert_eq!((wc.wr_id, wc.byte_len), (next, next as u32));
                assert_eq!(wc.qp_num, Qpn::truncate(next as u32 & 0xffff));
                next += 1;
            }
            if taken == 0 {
                std::thread::yield_now();
            }
        }
    });
}

/// `SIW_NOTIFY_SOLICITED` is 1 and `SIW_NOTIFY_NEXT_COMPLETION` is 2.
#[test]
fn arming_is_a_store_behind_the_entries() {
    let (cq, mut kernel) = made(4);
    let word = |kernel: &mut Queue| kernel.memory().load_relaxed(4 * at::SIZE);
    assert_eq!(word(&mut kernel), 0);
    assert!(!kernel.notifies(true));
    cq.notify(true);
    assert_eq!(word(&mut kernel), 1);
    assert!(!kernel.notifies(false) && kernel.notifies(true) && !kernel.notifies(true));
    cq.notify(false);
    assert_eq!(word(&mut kernel), 3);
    assert!(kernel.notifies(false) && !kernel.notifies(false));
}

/// Whoever arms the queue, finds it empty and sleeps is woken.
#[test]
fn no_completion_is_missed_between_arming_and_sleeping() {
    let total = u64::from(times(5_000));
    let (mut cq, mut kernel) = made(2);
    let (event, events) = std::sync::mpsc::channel();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for id in 0..total {
                wait_for(|| kernel.produce(&Entry::completion(id, 3, 0)).then_some(()));
                if kernel.notifies(false) {
                    event.send(()).unwrap();
                }
            }
        });
        let (mut wcs, mut next) = ([Wc::default(); 2], 0);
        while next < total {
            cq.notify(false);
            let mut taken = cq.poll(&mut wcs);
            if taken == 0 {
                events.recv_timeout(std::time::Duration::from_secs(60)).expect("an event");
                taken = cq.poll(&mut wcs);
            }
            // An event may be about a completion that an earlier poll has taken.
            next += taken as u64;
        }
    });
}

#[test]
fn a_queue_without_its_word_is_a_bad_answer() {
    assert!(Cq::new(Region::heap(4 * 32 + 8), 4, "test").is_ok());
    for (len, count) in [(4 * 32 + 7, 4), (4096, 3), (4096, 0), (4096, u32::MAX)] {
        assert!(Cq::new(Region::heap(len), count, "test").is_err(), "{count} in {len}");
    }
}

/// Memory full of anything, and a new one at every poll.
#[test]
fn any_memory_can_be_polled() {
    for seed in 0..times(1_000).into() {
        let mut random = Random(seed);
        let (mut cq, mut kernel) = made(16);
        let mut wcs = vec![Wc::default(); random.below(40) as usize];
        for _ in 0..4 {
            let memory = kernel.memory();
            for word in 0..memory.len() / 4 {
                memory.write(word * 4, random.edgy());
            }
            let taken = cq.poll(&mut wcs);
            assert!(taken <= wcs.len().min(16), "seed {seed}: {taken} polled");
        }
    }
}
