//! Completions as the driver writes them, and as it would never write them.

use super::super::mock::{Entry, Queue, Random, queue, times, wait_for, wc as at};
use super::*;

fn made(elems: u32) -> (Cq, Queue) {
    let (region, kernel) = queue(elems, at::SIZE);
    (Cq::new(region, "test").unwrap(), kernel)
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
    let entry = Entry::completion(0x1122_3344_5566_7788, 128, 4096)
        .with(at::STATUS, 12)
        .with(at::VENDOR_ERR, 0x81)
        .with_bytes(at::EX, &[0x0a, 0x0b, 0x0c, 0x0d])
        .with(at::QP_NUM, 0x11)
        .with(at::SRC_QP, 0x22)
        .with(at::WC_FLAGS, 1 | 2)
        .with_bytes(at::SLID, &9u16.to_ne_bytes())
        .with_bytes(at::SL, &[5])
        .with_bytes(at::DLID_PATH_BITS, &[3]);
    let want = Wc {
        wr_id: 0x1122_3344_5566_7788,
        status: WcStatus::RETRY_EXC_ERR,
        opcode: WcOpcode::RECV,
        vendor_err: 0x81,
        byte_len: 4096,
        extra: WcExtra::Imm(0x0a0b_0c0d),
        qp_num: Qpn::truncate(0x11),
        src_qp: Qpn::truncate(0x22),
        grh: true,
        slid: Lid(9),
        sl: ServiceLevel(5),
        timestamp: 0,
        dlid_path_bits: 3,
    };
    assert_eq!(polled(&entry), want);
}

#[test]
fn opcodes_are_those_of_the_kernel() {
    let table = [
        (0, WcOpcode::SEND),
        (1, WcOpcode::RDMA_WRITE),
        (2, WcOpcode::RDMA_READ),
        (3, WcOpcode::COMP_SWAP),
        (4, WcOpcode::FETCH_ADD),
        (5, WcOpcode::BIND_MW),
        (6, WcOpcode::LOCAL_INV),
        (128, WcOpcode::RECV),
        (129, WcOpcode::RECV_RDMA_WITH_IMM),
        (77, WcOpcode(77)),
        (u32::MAX, WcOpcode(u32::MAX)),
    ];
    for (raw, opcode) in table {
        assert_eq!(polled(&Entry::completion(1, raw, 0)).opcode, opcode);
    }
}

#[test]
fn what_a_receive_carries_is_not_read_from_a_send() {
    let flags = 1 | 2 | 4;
    let send = polled(&Entry::completion(1, 0, 0).with(at::WC_FLAGS, flags).with(at::EX, 9));
    assert_eq!((send.extra, send.grh), (WcExtra::None, false));
    let invalidated = polled(&Entry::completion(1, 128, 0).with(at::WC_FLAGS, 4).with(at::EX, 9));
    assert_eq!(invalidated.extra, WcExtra::Invalidated(Rkey(9)));
}

#[test]
fn polling_gives_as_many_as_there_are_and_fit() {
    let (mut cq, mut kernel) = made(7);
    for wr_id in 0..7 {
        assert!(kernel.produce(&Entry::completion(wr_id, 0, 0)));
    }
    assert!(!kernel.produce(&Entry::completion(7, 0, 0)));
    let mut wcs = [Wc::default(); 5];
    assert_eq!(cq.poll(&mut []), 0);
    assert_eq!(cq.poll(&mut wcs), 5);
    assert_eq!(wcs.map(|wc| wc.wr_id), [0, 1, 2, 3, 4]);
    assert!((7..12).all(|wr_id| kernel.produce(&Entry::completion(wr_id, 0, 0))), "five slots came back");
    assert_eq!(cq.poll(&mut wcs), 5);
    assert_eq!(cq.poll(&mut wcs), 2);
    assert_eq!((wcs[0].wr_id, wcs[1].wr_id), (10, 11));
    assert_eq!(cq.poll(&mut wcs), 0);
}

#[test]
fn a_queue_is_polled_while_the_driver_fills_it() {
    let total = u64::from(times(20_000));
    let (mut cq, mut kernel) = made(6);
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for wr_id in 0..total {
                let entry = Entry::completion(wr_id, 128, wr_id as u32).with(at::QP_NUM, wr_id as u32);
                wait_for(|| kernel.produce(&entry).then_some(()));
            }
        });
        let mut wcs = [Wc::default(); 4];
        let mut next = 0;
        while next < total {
            let taken = cq.poll(&mut wcs);
            for wc in &wcs[..taken] {
                assert_eq!((wc.wr_id, wc.byte_len), (next, next as u32));
                assert_eq!(wc.qp_num, Qpn::truncate(next as u32));
                next += 1;
            }
            if taken == 0 {
                std::thread::yield_now();
            }
        }
    });
}

/// Memory full of anything, indices included, and a new one at every poll.
#[test]
fn any_memory_can_be_polled() {
    for seed in 0..times(1_000).into() {
        let mut random = Random(seed);
        let (region, mut kernel) = queue(1 + random.below(30), at::SIZE);
        let memory = kernel.memory();
        let mut cq = Cq::new(region, "test").unwrap();
        let room = memory.len() / 48;
        let mut wcs = vec![Wc::default(); random.below(70) as usize];
        for _ in 0..8 {
            // The header's sizes were read once: what becomes of them later must not matter.
            for word in 0..memory.len() / 4 {
                memory.write(word * 4, random.edgy());
            }
            let taken = cq.poll(&mut wcs);
            assert!(taken <= wcs.len() && taken <= room, "seed {seed}: {taken} polled");
        }
    }
}
