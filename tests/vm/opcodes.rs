//! Every opcode, with every byte of source and target compared.

use std::ops::Range;

use bareverbs::{Access, MwType, PostErrorKind, RecvWr, Remote, SendWr, Sge, WcExtra, WcOpcode, WcStatus};

use crate::support::{Loop, Noise, compare, completion, fill, is_rxe};

/// Messages of no, few, one packet's, several packets' and many packets' bytes.
const SIZES: [usize; 9] = [0, 1, 7, 64, 1023, 1024, 1025, 4096, 100_000];

/// Regions are larger than messages, so that bytes beside them are seen too.
const ROOM: usize = 120_000;

/// The parts that a message of `length` bytes is cut into.
fn parts(length: usize, pieces: usize, noise: &mut Noise) -> Vec<Range<usize>> {
    let mut cuts: Vec<usize> = (1..pieces).map(|_| noise.below(length + 1)).collect();
    cuts.extend([0, length]);
    cuts.sort_unstable();
    let mut parts: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
    // Gaps between them, in another order than the message's.
    let mut at = 0;
    for part in &mut parts {
        let length = part.len();
        at += noise.below(500);
        *part = at..at + length;
        at += length;
    }
    if parts.len() > 1 {
        parts.rotate_left(1);
    }
    parts
}

fn gather(bytes: &[u8], parts: &[Range<usize>]) -> Vec<u8> {
    parts.iter().flat_map(|part| bytes[part.clone()].iter().copied()).collect()
}

fn scatter(bytes: &mut [u8], parts: &[Range<usize>], message: &[u8]) {
    let mut message = message.iter();
    for part in parts {
        for place in &mut bytes[part.clone()] {
            if let Some(byte) = message.next() {
                *place = *byte;
            }
        }
    }
}

/// Runs one transfer on each size and cut, and compares both regions whole.
///
/// `transfer` is given the elements on the left and on the right and the message's place on the right; it tells whether the message
/// goes to the right.
fn each(mut transfer: impl FnMut(&mut Loop, &[Sge], &[Sge], Remote, usize) -> bool) {
    let mut noise = Noise::new(7);
    let mut both = Loop::new();
    let (mut left, mut right) = (both.region(ROOM), both.region(ROOM));
    for size in SIZES {
        for pieces in [1, 3] {
            let mut expected_left = fill(&mut left, &mut noise);
            let mut expected_right = fill(&mut right, &mut noise);
            let at_left = parts(size, pieces, &mut noise);
            let start = noise.below(1000);
            let at_right = start..start + size;
            let left_sges: Vec<Sge> = at_left.iter().map(|part| left.slice(part.clone())).collect();
            let right_sges = [right.slice(at_right.clone())];
            let remote = right.remote(start);
            let to_right = transfer(&mut both, &left_sges, &right_sges, remote, size);
            if to_right {
                let message = gather(&expected_left, &at_left);
                expected_right[at_right].copy_from_slice(&message);
            } else {
                let message = expected_right[at_right].to_vec();
                scatter(&mut expected_left, &at_left, &message);
            }
            compare(&left, &expected_left).unwrap_or_else(|e| panic!("left, {size} in {pieces}: {e}"));
            compare(&right, &expected_right).unwrap_or_else(|e| panic!("right, {size} in {pieces}: {e}"));
        }
    }
}

fn success(wc: &bareverbs::Wc, wr_id: u64, opcode: WcOpcode) {
    assert_eq!((wc.status, wc.wr_id, wc.opcode), (WcStatus::SUCCESS, wr_id, opcode), "{wc:?}");
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn send() {
    each(|both, left, right, _, size| {
        both.right.post_recv(RecvWr::new(1).sges(right)).unwrap();
        both.left.post_send(SendWr::send(2).sges(left).signaled()).unwrap();
        let wc = completion(&mut both.right_cq);
        success(&wc, 1, WcOpcode::RECV);
        assert_eq!((wc.byte_len as usize, wc.extra, wc.qp_num), (size, WcExtra::None, both.right.qp_num()));
        success(&completion(&mut both.left_cq), 2, WcOpcode::SEND);
        true
    });
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn send_with_imm() {
    each(|both, left, right, _, size| {
        both.right.post_recv(RecvWr::new(1).sges(right)).unwrap();
        both.left.post_send(SendWr::send_with_imm(2, 0x0102_0304).sges(left).signaled()).unwrap();
        let wc = completion(&mut both.right_cq);
        success(&wc, 1, WcOpcode::RECV);
        assert_eq!((wc.byte_len as usize, wc.imm()), (size, Some(0x0102_0304)));
        success(&completion(&mut both.left_cq), 2, WcOpcode::SEND);
        true
    });
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn rdma_write() {
    each(|both, left, _, remote, _| {
        both.left.post_send(SendWr::rdma_write(2, remote).sges(left).signaled()).unwrap();
        success(&completion(&mut both.left_cq), 2, WcOpcode::RDMA_WRITE);
        true
    });
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn rdma_write_with_imm() {
    each(|both, left, _, remote, size| {
        both.right.post_recv(RecvWr::new(1)).unwrap();
        both.left.post_send(SendWr::rdma_write_with_imm(2, remote, 99).sges(left).signaled()).unwrap();
        let wc = completion(&mut both.right_cq);
        success(&wc, 1, WcOpcode::RECV_RDMA_WITH_IMM);
        assert_eq!((wc.byte_len as usize, wc.imm()), (size, Some(99)));
        success(&completion(&mut both.left_cq), 2, WcOpcode::RDMA_WRITE);
        true
    });
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn rdma_read() {
    each(|both, left, _, remote, _| {
        both.left.post_send(SendWr::rdma_read(2, remote).sges(left).signaled()).unwrap();
        success(&completion(&mut both.left_cq), 2, WcOpcode::RDMA_READ);
        false
    });
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn inline_data() {
    let mut noise = Noise::new(3);
    let mut both = Loop::new();
    let mut right = both.region(4096);
    for size in [0, 1, 15, 16, 64, 127, 128] {
        let mut expected = fill(&mut right, &mut noise);
        let message = noise.bytes(size);
        both.right.post_recv(RecvWr::new(1).sge(right.slice(100..100 + size))).unwrap();
        both.left.post_send(SendWr::send(2).inline(&message).signaled()).unwrap();
        success(&completion(&mut both.right_cq), 1, WcOpcode::RECV);
        success(&completion(&mut both.left_cq), 2, WcOpcode::SEND);
        both.left.post_send(SendWr::rdma_write(3, right.remote(2000)).inline(&message).signaled()).unwrap();
        success(&completion(&mut both.left_cq), 3, WcOpcode::RDMA_WRITE);
        expected[100..100 + size].copy_from_slice(&message);
        expected[2000..2000 + size].copy_from_slice(&message);
        compare(&right, &expected).unwrap_or_else(|e| panic!("{size}: {e}"));
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn atomics() {
    let mut noise = Noise::new(5);
    let mut both = Loop::new();
    let (mut left, mut right) = (both.region(4096), both.region(4096));
    let mut expected_left = fill(&mut left, &mut noise);
    let mut expected_right = fill(&mut right, &mut noise);
    for round in 0..8 {
        let (ours, theirs) = (round * 16, 512 + round * 8);
        let there = u64::from_ne_bytes(expected_right[theirs..theirs + 8].try_into().unwrap());
        let result = left.slice(ours..ours + 8);
        let (wr, opcode, new) = match round % 3 {
            0 => {
                let add = noise.next();
                (
                    SendWr::fetch_add(2, right.remote(theirs), add),
                    WcOpcode::FETCH_ADD,
                    there.wrapping_add(add),
                )
            }
            1 => (SendWr::compare_swap(2, right.remote(theirs), there, 42), WcOpcode::COMP_SWAP, 42),
            _ => (SendWr::compare_swap(2, right.remote(theirs), !there, 43), WcOpcode::COMP_SWAP, there),
        };
        both.left.post_send(wr.sge(result).signaled()).unwrap();
        let wc = completion(&mut both.left_cq);
        success(&wc, 2, opcode);
        assert_eq!(wc.byte_len, 8);
        expected_left[ours..ours + 8].copy_from_slice(&there.to_ne_bytes());
        expected_right[theirs..theirs + 8].copy_from_slice(&new.to_ne_bytes());
        compare(&left, &expected_left).unwrap();
        compare(&right, &expected_right).unwrap();
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn memory_windows_and_send_with_invalidate() {
    let mut noise = Noise::new(11);
    let mut both = Loop::new();
    let (mut left, mut right) = (both.region(4096), both.region(4096));
    let message = fill(&mut left, &mut noise);
    let mut expected = fill(&mut right, &mut noise);

    let mut window = both.pd.alloc_mw(MwType::Two).unwrap();
    let bind = window.bind(1, right.slice(1024..2048), Access::REMOTE_WRITE | Access::REMOTE_READ);
    both.right.post_send(bind.signaled()).unwrap();
    success(&completion(&mut both.right_cq), 1, WcOpcode::BIND_MW);

    // The window's key works, within the window.
    let inside = Remote { rkey: window.bound(), ..right.remote(1024) };
    both.left.post_send(SendWr::rdma_write(2, inside).sge(left.slice(..1024)).signaled()).unwrap();
    success(&completion(&mut both.left_cq), 2, WcOpcode::RDMA_WRITE);
    expected[1024..2048].copy_from_slice(&message[..1024]);
    compare(&right, &expected).unwrap();

    // A send takes the key away, and tells so.
    both.right.post_recv(RecvWr::new(3).sge(right.slice(..10))).unwrap();
    both.left.post_send(SendWr::send_with_inv(4, window.rkey()).sge(left.slice(20..30)).signaled()).unwrap();
    let wc = completion(&mut both.right_cq);
    success(&wc, 3, WcOpcode::RECV);
    assert_eq!((wc.extra, wc.byte_len), (WcExtra::Invalidated(window.rkey()), 10));
    success(&completion(&mut both.left_cq), 4, WcOpcode::SEND);
    expected[..10].copy_from_slice(&message[20..30]);
    compare(&right, &expected).unwrap();

    // It is gone.
    both.left.post_send(SendWr::rdma_write(5, inside).sge(left.slice(..8)).signaled()).unwrap();
    assert_eq!(completion(&mut both.left_cq).status, WcStatus::REM_ACCESS_ERR);
    compare(&right, &expected).unwrap();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn memory_windows_of_type_1_are_bound_anew() {
    let mut noise = Noise::new(12);
    let mut both = Loop::new();
    let (mut left, mut right) = (both.region(4096), both.region(4096));
    let message = fill(&mut left, &mut noise);
    let mut expected = fill(&mut right, &mut noise);
    let mut window = both.pd.alloc_mw(MwType::One).unwrap();
    let mut bind = |both: &mut Loop, part: Sge| {
        let request = window.bind(1, part, Access::REMOTE_WRITE);
        both.right.post_send(request.signaled()).unwrap();
        success(&completion(&mut both.right_cq), 1, WcOpcode::BIND_MW);
        window.bound()
    };
    let mut keys = Vec::new();
    for start in [512, 2048] {
        let rkey = bind(&mut both, right.slice(start..start + 256));
        let inside = Remote { rkey, ..right.remote(start) };
        both.left.post_send(SendWr::rdma_write(2, inside).sge(left.slice(..256)).signaled()).unwrap();
        success(&completion(&mut both.left_cq), 2, WcOpcode::RDMA_WRITE);
        expected[start..start + 256].copy_from_slice(&message[..256]);
        compare(&right, &expected).unwrap();
        keys.push(rkey);
    }
    // The key before, or one byte past the end, at which rxe does not look.
    let (rkey, start) = if is_rxe() { (keys[0], 512) } else { (keys[1], 2049) };
    let outside = Remote { rkey, ..right.remote(start) };
    both.left.post_send(SendWr::rdma_write(3, outside).sge(left.slice(..256)).signaled()).unwrap();
    assert_eq!(completion(&mut both.left_cq).status, WcStatus::REM_ACCESS_ERR);
    compare(&right, &expected).unwrap();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn memory_windows_outlive_binds_that_come_to_nothing() {
    let mut noise = Noise::new(14);
    let mut both = Loop::new();
    let (mut left, mut right) = (both.region(4096), both.region(4096));
    let message = fill(&mut left, &mut noise);
    let mut expected = fill(&mut right, &mut noise);
    for mw_type in [MwType::One, MwType::Two] {
        let mut window = both.pd.alloc_mw(mw_type).unwrap();
        let rkey = window.rkey();
        // Dropped.
        let _ = window.bind(1, right.slice(..256), Access::REMOTE_WRITE);
        // Refused: it comes after as many requests as the queue takes.
        let mut wrs = vec![SendWr::rdma_write(2, left.remote(0)).sge(right.slice(..0)).signaled(); 200];
        wrs.push(window.bind(1, right.slice(..256), Access::REMOTE_WRITE));
        let error = both.right.post_sends(&wrs).unwrap_err();
        assert!(error.posted < 200 && error.kind == PostErrorKind::QueueFull, "{error:?}");
        for _ in 0..error.posted {
            success(&completion(&mut both.right_cq), 2, WcOpcode::RDMA_WRITE);
        }
        let error = both
            .right
            .post_send(window.bind(1, right.slice(..256), Access::REMOTE_WRITE).sge(right.slice(..8)));
        assert_eq!(error.unwrap_err().kind, PostErrorKind::DataNotAllowed);
        assert_eq!(window.rkey(), rkey);

        let bind = window.bind(3, right.slice(1024..1280), Access::REMOTE_WRITE);
        both.right.post_send(bind.signaled()).unwrap();
        success(&completion(&mut both.right_cq), 3, WcOpcode::BIND_MW);
        let inside = Remote { rkey: window.bound(), ..right.remote(1024) };
        assert_ne!(window.rkey(), rkey);
        both.left.post_send(SendWr::rdma_write(4, inside).sge(left.slice(..256)).signaled()).unwrap();
        success(&completion(&mut both.left_cq), 4, WcOpcode::RDMA_WRITE);
        expected[1024..1280].copy_from_slice(&message[..256]);
        compare(&right, &expected).unwrap();
    }
    // One that fails, of what lies outside the region; another queue pair makes another attempt.
    let mut window = both.pd.alloc_mw(MwType::Two).unwrap();
    let mut outside = right.slice(..256);
    outside.addr += 4096;
    both.right.post_send(window.bind(5, outside, Access::REMOTE_WRITE).signaled()).unwrap();
    let wc = completion(&mut both.right_cq);
    assert!(!wc.is_success() && wc.wr_id == 5, "{wc:?}");
    both.left.post_send(window.bind(6, left.slice(..256), Access::REMOTE_WRITE).signaled()).unwrap();
    success(&completion(&mut both.left_cq), 6, WcOpcode::BIND_MW);
    window.bound();
    window.destroy().unwrap();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn fence_and_several_requests_for_one_doorbell() {
    let mut noise = Noise::new(13);
    let mut both = Loop::new();
    let (mut left, mut right) = (both.region(8192), both.region(8192));
    let mut expected_left = fill(&mut left, &mut noise);
    let mut expected_right = fill(&mut right, &mut noise);
    both.right.post_recv(RecvWr::new(1).sge(right.slice(4096..))).unwrap();
    // What the read brings is what the fenced send sends; only the last is signaled.
    both.left
        .post_sends(&[
            SendWr::rdma_read(2, right.remote(0)).sge(left.slice(..4096)),
            SendWr::send(3).sge(left.slice(..4096)).fence(),
            SendWr::rdma_write(4, right.remote(0)).sge(left.slice(4096..)).signaled(),
        ])
        .unwrap();
    success(&completion(&mut both.right_cq), 1, WcOpcode::RECV);
    success(&completion(&mut both.left_cq), 4, WcOpcode::RDMA_WRITE);
    expected_left[..4096].copy_from_slice(&expected_right[..4096]);
    expected_right.copy_within(..4096, 4096);
    expected_right[..4096].copy_from_slice(&expected_left[4096..]);
    compare(&left, &expected_left).unwrap();
    compare(&right, &expected_right).unwrap();
}

/// The oracle of this file must see what it is there to see.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_corrupted_byte_is_seen() {
    let mut both = Loop::new();
    let (mut left, mut right) = (both.region(10_000), both.region(10_000));
    let message = fill(&mut left, &mut Noise::new(17));
    both.left.post_send(SendWr::rdma_write(1, right.remote(0)).sge(left.slice(..)).signaled()).unwrap();
    success(&completion(&mut both.left_cq), 1, WcOpcode::RDMA_WRITE);
    compare(&right, &message).unwrap();
    right.write(7777, &[message[7777] ^ 0x10]);
    let seen = compare(&right, &message).unwrap_err();
    assert!(seen.starts_with("byte 7777 is "), "{seen}");
}
