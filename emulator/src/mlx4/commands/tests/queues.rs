//! Completion queues, shared receive queues and queue pairs: what the drivers fill in and what they read.

use super::{
    eq::{EQ_PAGE, with_eq},
    *,
};
use crate::be::get24;
use crate::device::Device;

/// The pages of the queues, in translation entries 1, 2, 3.
const CQ_PAGE: u64 = 0x6000;
const SRQ_PAGE: u64 = 0x7000;
const QP_PAGE: u64 = 0x8000;
/// Doorbell records.
const CQ_RECORD: u64 = 0x9008;
const SRQ_RECORD: u64 = 0x9010;
const QP_RECORD: u64 = 0x9014;

const CQN: u32 = 0x85;
const SRQN: u32 = 0x46;
const QPN: u32 = 0x47;
const UAR: u32 = 3;
const PD: u32 = 0x2_0007;

/// A card with event queue 5 and translation entries.
fn with_pages() -> Hca {
    let mut hca = card(Model::ConnectX3);
    with_eq(&mut hca);
    let mut list = [0; 40];
    put64(&mut list, 0, 1);
    for (at, page) in [(16, CQ_PAGE), (24, SRQ_PAGE), (32, QP_PAGE)] {
        put64(&mut list, at, page | 1);
    }
    hca.ask("WRITE_MTT", 3, &list).unwrap();
    hca
}

/// As mlx4/cq.c's `mlx4_cq_alloc` fills it (mlx4.h, `struct mlx4_cq_context`): 16 entries.
fn cq_context() -> [u8; 64] {
    let mut context = [0; 64];
    put32(&mut context, 0x0c, 4 << 24 | UAR);
    context[0x17] = 5;
    put32(&mut context, 0x1c, 8);
    put64(&mut context, 0x38, CQ_RECORD);
    context
}

impl Hca {
    /// A command with a mailbox to read, and an op modifier.
    fn modify(&mut self, opcode: &str, op_modifier: u8, modifier: u32, input: &[u8]) -> Result<u64, Status> {
        self.card.memory.write(IN, input).unwrap();
        self.command(&Command { op_modifier, modifier, ..command(opcode) })
    }

    /// Type and number of the event in entry `at` of the event queue (device.h, `struct mlx4_eqe`).
    fn event(&mut self, at: u64) -> (u8, u32) {
        self.settle();
        let entry: [u8; 32] = self.card.memory.array(EQ_PAGE + at * 64 + 32).unwrap();
        (entry[1], get32(&entry, 4))
    }
}

#[test]
fn completion_queue_contexts() {
    let mut hca = with_pages();
    hca.ask("SW2HW_CQ", CQN, &cq_context()).unwrap();
    // The last byte of an entry has the owner bit: at first the card owns all sixteen.
    let page: [u8; 4096] = hca.card.memory.array(CQ_PAGE).unwrap();
    assert!((0..64).all(|entry| (page[entry * 64 + 63] & 0x80 != 0) == (entry < 16)));
    let context = hca.ask("QUERY_CQ", CQN, &[]).unwrap();
    assert_eq!((context[0x0c], get24(&context, 0x0c), context[0x17]), (4, UAR, 5));
    assert_eq!((get32(&context, 0x1c), get64(&context, 0x38)), (8, CQ_RECORD));
    assert_eq!(get32(&context, 0) >> 8 & 0xf, 10, "fired");
    assert_eq!(hca.ask("SW2HW_CQ", CQN, &cq_context()), Err(Status::BadResState));
    assert_eq!(hca.ask("SW2HW_CQ", 1 << 10, &cq_context()), Err(Status::BadIndex));

    // Moderation, by `mlx4_cq_modify`: period and count.
    let mut moderation = [0; 64];
    put16(&mut moderation, 0x10, 7);
    put16(&mut moderation, 0x12, 9);
    hca.modify("MODIFY_CQ", 1, CQN, &moderation).unwrap();
    let context = hca.ask("QUERY_CQ", CQN, &[]).unwrap();
    assert_eq!((get16(&context, 0x10), get16(&context, 0x12), context[0x0c]), (7, 9, 4));

    // Another buffer, by `mlx4_cq_resize`; the last entry of the old one says so (`MLX4_CQE_OPCODE_RESIZE`).
    let mut resize = [0; 64];
    put32(&mut resize, 0x0c, 5 << 24);
    put32(&mut resize, 0x1c, 16);
    hca.modify("MODIFY_CQ", 0, CQN, &resize).unwrap();
    assert_eq!(hca.card.memory.array::<1>(CQ_PAGE + 63).unwrap(), [0x16]);
    assert_eq!(hca.ask("QUERY_CQ", CQN, &[]).unwrap()[0x0c], 5);
    assert_eq!(hca.modify("MODIFY_CQ", 2, CQN, &resize), Err(Status::BadOp));

    let context = hca.ask("HW2SW_CQ", CQN, &[]).unwrap();
    assert_eq!((context[0x0c], get64(&context, 0x38)), (5, CQ_RECORD));
    assert_eq!(hca.ask("QUERY_CQ", CQN, &[]), Err(Status::BadResState));
    // A record that is not aligned, entries inside a page (`page_offset`).
    let mut wrong = cq_context();
    put64(&mut wrong, 0x38, CQ_RECORD + 4);
    assert_eq!(hca.ask("SW2HW_CQ", CQN, &wrong), Err(Status::BadParam));
    let mut wrong = cq_context();
    put16(&mut wrong, 0x0a, 32);
    assert_eq!(hca.ask("SW2HW_CQ", CQN, &wrong), Err(Status::BadParam));
    assert_eq!(hca.card.violations.count(), 0);
}

/// As mlx4/srq.c's `mlx4_srq_alloc` fills it (mlx4.h, `struct mlx4_srq_context`): 8 entries of 32 bytes.
fn srq_context() -> [u8; 64] {
    let mut context = [0; 64];
    put32(&mut context, 0, 3 << 24 | SRQN);
    context[4] = 1;
    put32(&mut context, 0x14, 16);
    put32(&mut context, 0x18, PD & 0xff_ffff);
    put64(&mut context, 0x28, SRQ_RECORD);
    context
}

#[test]
fn shared_receive_queue_contexts() {
    let mut hca = with_pages();
    hca.ask("SW2HW_SRQ", SRQN, &srq_context()).unwrap();
    assert_eq!(hca.ask("SW2HW_SRQ", SRQN, &srq_context()), Err(Status::BadResState));
    assert_eq!(hca.ask("SW2HW_SRQ", 1 << 10, &srq_context()), Err(Status::BadIndex));
    // MLX4_EVENT_TYPE_SRQ_LIMIT.
    hca.command(&Command { in_param: 1 << 0x14, modifier: 5, ..command("MAP_EQ") }).unwrap();
    let arm =
        |hca: &mut Hca, in_param| hca.command(&Command { in_param, modifier: SRQN, ..command("ARM_SRQ") });
    // Three are posted. Where the driver reads the limit: `mlx4_srq_query`.
    hca.card.memory.store32(SRQ_RECORD, 3).unwrap();
    arm(&mut hca, 3).unwrap();
    let context = hca.ask("QUERY_SRQ", SRQN, &[]).unwrap();
    assert_eq!((get16(&context, 0x1c), get16(&context, 0x1e)), (3, 3), "limit_watermark, wqe_cnt");
    assert_eq!((context[0] & 0xf, context[4], get24(&context, 0x18)), (3, 1, PD & 0xff_ffff));
    arm(&mut hca, 4).unwrap();
    assert_eq!(hca.event(0), (0x14, SRQN));
    let context = hca.ask("QUERY_SRQ", SRQN, &[]).unwrap();
    assert_eq!(get16(&context, 0x1c), 0, "told once");
    assert_eq!(arm(&mut hca, 1 << 16), Err(Status::BadParam));
    let context = hca.ask("HW2SW_SRQ", SRQN, &[]).unwrap();
    assert_eq!(get64(&context, 0x28), SRQ_RECORD);
    assert_eq!(hca.ask("QUERY_SRQ", SRQN, &[]), Err(Status::BadResState));
    assert_eq!(arm(&mut hca, 1), Err(Status::BadResState));
    assert_eq!(hca.card.violations.count(), 0);
}

/// The offset of the context in the mailbox (mlx4/qp.c, `__mlx4_qp_modify`).
const AT: usize = 8;

/// As infiniband/hw/mlx4/qp.c's `__mlx4_ib_modify_qp` fills it (include/linux/mlx4/qp.h, `struct mlx4_qp_context`), all
/// transitions in one: RC, 8 sends of 64 bytes, 4 receives of 32.
fn qp_mailbox() -> [u8; 0x100] {
    let mut mailbox = [0; 0x100];
    let context = &mut mailbox[AT..];
    put32(context, 0x00, 3 << 11);
    put32(context, 0x04, PD);
    context[0x08] = 3 << 5 | 31;
    context[0x09] = 2 << 3 | 1;
    context[0x0a] = 3 << 3 | 2;
    put32(context, 0x0c, UAR);
    put32(context, 0x10, QPN);
    put32(context, 0x14, 0x12_3456);
    let path = &mut context[0x18..];
    path[0x03] = 0x40;
    put16(path, 0x06, 9);
    path[0x08] = 14 << 3;
    path[0x20] = 0x83 | 5 << 2;
    put32(context, 0x70, 2 << 21 | 6 << 16 | 5 << 13);
    put32(context, 0x78, 0xab_cdef);
    put32(context, 0x7c, CQN);
    put32(context, 0x90, 1 << 21 | 1 << 15);
    put32(context, 0x94, 12 << 24 | 0xfe_dcba);
    put32(context, 0x9c, CQN);
    put64(context, 0xa0, QP_RECORD);
    put32(context, 0xcc, 24);
    mailbox
}

impl Hca {
    fn context(&mut self) -> Vec<u8> {
        self.ask("QUERY_QP", QPN, &[]).unwrap()[AT..].to_vec()
    }

    fn state(&mut self) -> u8 {
        self.context()[0] >> 4
    }
}

#[test]
fn queue_pair_contexts() {
    const TRANSITIONS: [(&str, u8); 9] = [
        ("RST2INIT_QP", 1),
        ("INIT2INIT_QP", 1),
        ("INIT2RTR_QP", 2),
        ("RTR2RTS_QP", 3),
        ("RTS2RTS_QP", 3),
        ("RTS2SQD_QP", 5),
        ("SQD2SQD_QP", 5),
        ("SQD2RTS_QP", 3),
        ("2ERR_QP", 6),
    ];
    let mut hca = with_pages();
    hca.ask("SW2HW_CQ", CQN, &cq_context()).unwrap();
    // The callers of `mlx4_ib_alloc_qp_buf` set the owner bits of the send queue before RST2INIT.
    for entry in 0..8 {
        hca.card.memory.write(QP_PAGE + entry * 64, &[0x80, 0, 0, 0, 0, 0, 0, 4]).unwrap();
    }
    assert_eq!(hca.ask("QUERY_QP", QPN, &[]), Err(Status::BadResState));
    assert_eq!(hca.ask("RST2INIT_QP", 1 << 12, &qp_mailbox()), Err(Status::BadIndex));
    for (name, state) in TRANSITIONS {
        hca.ask(name, QPN, &qp_mailbox()).unwrap();
        hca.run(Duration::ZERO, &mut Vec::new());
        assert_eq!(hca.state(), state, "{name}");
        // The send queue has not failed.
        assert_eq!(hca.ask("SQERR2RTS_QP", QPN, &qp_mailbox()), Err(Status::BadQpState), "{name}");
    }
    hca.command(&Command { op_modifier: 2, modifier: QPN, ..command("2RST_QP") }).unwrap();
    assert_eq!(hca.ask("QUERY_QP", QPN, &[]), Err(Status::BadResState));
    assert_eq!(hca.card.violations.count(), 0);
}

/// Where infiniband/hw/mlx4/qp.c's `mlx4_ib_query_qp` finds attributes, and what optional parameters change
/// (`enum mlx4_qp_optpar`).
#[test]
fn queue_pair_attributes() {
    let mut hca = with_pages();
    hca.ask("SW2HW_CQ", CQN, &cq_context()).unwrap();
    hca.card.memory.write(QP_PAGE, &[0x80; 512]).unwrap();
    for name in ["RST2INIT_QP", "INIT2RTR_QP", "RTR2RTS_QP"] {
        hca.ask(name, QPN, &qp_mailbox()).unwrap();
    }
    let context = hca.context();
    let (params1, params2) = (get32(&context, 0x70), get32(&context, 0x90));
    assert_eq!((context[0x08] >> 5, get24(&context, 0x10), get24(&context, 0x14)), (3, QPN, 0x12_3456));
    assert_eq!((get32(&context, 0x78) & 0xff_ffff, get32(&context, 0x94)), (0xab_cdef, 12 << 24 | 0xfe_dcba));
    assert_eq!((params1 >> 21 & 7, params1 >> 16 & 7, params1 >> 13 & 7), (2, 6, 5), "reads, retries");
    assert_eq!((params2 >> 21 & 7, params2 >> 13 & 7), (1, 0b100), "reads, rights");
    let path = &context[0x18..];
    assert_eq!((path[0x03] & 0x7f, get16(path, 0x06), path[0x08] >> 3), (0x40, 9, 14));
    assert_eq!(path[0x20], 0x83 | 5 << 2);
    let mut changed = qp_mailbox();
    // MLX4_QP_OPTPAR_RNR_TIMEOUT, _RWE; other parameters stay.
    put32(&mut changed, 0, 1 << 6 | 1 << 3);
    put32(&mut changed, AT + 0x94, 20 << 24);
    put32(&mut changed, AT + 0x90, 1 << 14);
    hca.ask("RTS2RTS_QP", QPN, &changed).unwrap();
    let context = hca.context();
    assert_eq!(get32(&context, 0x94), 20 << 24 | 0xfe_dcba);
    assert_eq!(get32(&context, 0x90) >> 13 & 7, 0b110, "reading stays allowed");
    assert_eq!(hca.card.violations.count(), 0);
}

/// The receive queue follows the send queue, its doorbell record counts, and completions go to the context's queue.
#[test]
fn the_context_locates_the_receive_queue() {
    let mut hca = with_pages();
    hca.ask("SW2HW_CQ", CQN, &cq_context()).unwrap();
    hca.card.memory.write(QP_PAGE, &[0x80; 512]).unwrap();
    hca.ask("RST2INIT_QP", QPN, &qp_mailbox()).unwrap();
    hca.card.memory.store32(QP_RECORD, 2).unwrap();
    hca.command(&Command { modifier: QPN, ..command("2ERR_QP") }).unwrap();
    hca.run(Duration::ZERO, &mut Vec::new());
    for index in 0..2_u16 {
        let entry: [u8; 32] = hca.card.memory.array(CQ_PAGE + u64::from(index) * 64 + 32).unwrap();
        // device.h, `struct mlx4_err_cqe`: number, index, syndrome of a flush, error, the driver's.
        assert_eq!((get24(&entry, 0), get16(&entry, 24)), (QPN, index));
        assert_eq!((entry[27], entry[31]), (0x05, 0x1e));
    }
    assert_eq!(hca.card.memory.array::<1>(CQ_PAGE + 3 * 64 - 1).unwrap()[0] & 0x80, 0x80, "two, no more");
    let context = hca.context();
    assert_eq!((get16(&context, 0xb4), get16(&context, 0xb6)), (2, 0), "rq_wqe_counter, sq_wqe_counter");
    assert_eq!(hca.card.violations.count(), 0);
}

#[test]
fn special_queue_pairs_begin_at_the_given_number() {
    // mlx4/qp.c, `mlx4_CONF_SPECIAL_QP`.
    let mut hca = with_pages();
    hca.command(&Command { modifier: 0x40, ..command("CONF_SPECIAL_QP") }).unwrap();
    assert_eq!(hca.card.special_qpn, Some(0x40));
}
