//! Entries as the device writes them, and as it would not.

use super::*;
use crate::sys::region::Region;
use crate::sys::slots::Slots;

/// An entry of 32 bytes: the words before the last, and the last byte.
fn told(words: [u32; 7], owner: u8) -> Wc {
    told_of(words, owner.into(), |_, _| {})
}

/// The same with the whole of the last word, and with more that is said of the entry.
fn told_of(words: [u32; 7], last: u32, more: fn(&Cqe<'_>, &mut Wc)) -> Wc {
    let mut region = Region::heap(SIZE);
    for (n, word) in words.into_iter().chain([last]).enumerate() {
        region.write(n * 4, word.to_be());
    }
    let count = (region.len() / SIZE) as u32;
    let pieces = Slots::<SIZE>::new(region, count).unwrap();
    let entry = pieces.view().entry(0);
    let mut wc = Wc { vendor_err: 77, byte_len: 77, src_qp: Qpn::truncate(77), grh: true, ..Wc::default() };
    let owner = Owner::of(&entry);
    let tell = if owner.is_send() { fill_sent } else { fill_received };
    tell(&entry, owner, BeQpn::of(&entry).get(), 0x1122_3344_5566_7788, &mut wc);
    more(&entry, &mut wc);
    wc
}

const SEND_OF_QP: u8 = 0x40;

#[test]
fn every_field_of_a_receive_is_found() {
    let words = [0x2000_0241, 0x0a0b_0c0d, 0x8500_0242, 0xa123_4567, 0, 4096, 0x0009_ffff];
    let want = Wc {
        wr_id: 0x1122_3344_5566_7788,
        status: WcStatus::SUCCESS,
        opcode: WcOpcode::RECV,
        vendor_err: 0,
        byte_len: 4096,
        extra: WcExtra::None,
        qp_num: Qpn::truncate(0x241),
        src_qp: Qpn::truncate(0x242),
        grh: true,
        slid: Lid(0x4567),
        sl: ServiceLevel(10),
        dlid_path_bits: 5,
        timestamp: 0,
    };
    assert_eq!(told(words, 0x81), want);
    let kinds = [
        (0, WcOpcode::RECV_RDMA_WITH_IMM, WcExtra::Imm(0x0a0b_0c0d)),
        (1, WcOpcode::RECV, WcExtra::None),
        (2, WcOpcode::RECV, WcExtra::Imm(0x0a0b_0c0d)),
        (3, WcOpcode::RECV, WcExtra::Invalidated(Rkey(0x0a0b_0c0d))),
    ];
    for (raw, opcode, extra) in kinds {
        assert_eq!(told(words, raw), Wc { opcode, extra, ..want }, "{raw}");
    }
    let want = Wc { slid: Lid(0), sl: ServiceLevel(0), timestamp: 0xa123_4567_89ab, ..want };
    assert_eq!(told_of(words, 0xff89_ab81, fill_timestamp), want);
}

#[test]
fn sends_are_told_by_operation() {
    let words = [0x241, 0x0a0b_0c0d, 0x8000_0242, 0, 0, 4096, 0];
    let table = [
        (0x01, WcOpcode::SEND, 0),
        (0x08, WcOpcode::RDMA_WRITE, 0),
        (0x09, WcOpcode::RDMA_WRITE, 0),
        (0x0a, WcOpcode::SEND, 0),
        (0x0b, WcOpcode::SEND, 0),
        (0x10, WcOpcode::RDMA_READ, 4096),
        (0x11, WcOpcode::COMP_SWAP, 8),
        (0x12, WcOpcode::FETCH_ADD, 8),
        (0x18, WcOpcode::BIND_MW, 0),
        (0x1b, WcOpcode::LOCAL_INV, 0),
    ];
    for (raw, opcode, byte_len) in table {
        let wc = told(words, SEND_OF_QP | raw);
        assert_eq!((wc.opcode, wc.byte_len, wc.status), (opcode, byte_len, WcStatus::SUCCESS), "{raw:#x}");
        assert_eq!((wc.extra, wc.grh, wc.src_qp), (WcExtra::None, false, Qpn::default()), "{raw:#x}");
    }
}

#[test]
fn failures_have_the_status_that_libmlx4_gives_them() {
    let table = [
        (0x01, WcStatus::LOC_LEN_ERR),
        (0x02, WcStatus::LOC_QP_OP_ERR),
        (0x04, WcStatus::LOC_PROT_ERR),
        (0x05, WcStatus::WR_FLUSH_ERR),
        (0x06, WcStatus::MW_BIND_ERR),
        (0x10, WcStatus::BAD_RESP_ERR),
        (0x11, WcStatus::LOC_ACCESS_ERR),
        (0x12, WcStatus::REM_INV_REQ_ERR),
        (0x13, WcStatus::REM_ACCESS_ERR),
        (0x14, WcStatus::REM_OP_ERR),
        (0x15, WcStatus::RETRY_EXC_ERR),
        (0x16, WcStatus::RNR_RETRY_EXC_ERR),
        (0x22, WcStatus::REM_ABORT_ERR),
        (0x03, WcStatus::GENERAL_ERR),
        (0xff, WcStatus::GENERAL_ERR),
    ];
    for (syndrome, status) in table {
        let wc = told([0x241, 0, 0, 0, 0, 9, 0x0007_8100 | syndrome], SEND_OF_QP | 0x1e);
        assert_eq!((wc.status, wc.vendor_err, wc.qp_num), (status, 0x81, Qpn::truncate(0x241)));
        assert_eq!((wc.wr_id, wc.byte_len), (0x1122_3344_5566_7788, 0));
    }
}

#[test]
fn an_operation_that_there_is_not_is_a_failure() {
    for (owner, raw) in [(0x40, 0x00), (0x40, 0x1f), (0x40, 0x16), (0, 0x04), (0, 0x0a), (0, 0x1f)] {
        let wc = told([0x241; 7], owner | raw);
        assert_eq!((wc.status, wc.vendor_err), (WcStatus::GENERAL_ERR, raw.into()), "{owner:#x} {raw:#x}");
    }
}
