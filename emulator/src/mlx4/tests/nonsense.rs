//! Random input, from a seed, in queues, tables, doorbells and contexts: the card must survive it.

use std::time::Duration;

use super::{
    super::{
        cq::CONTEXT as CQ_CONTEXT, qpc::MAILBOX as QP_MAILBOX, srq::CONTEXT as SRQ_CONTEXT, uar::UAR_BYTES,
        wqe::opcode,
    },
    guest::{UAR, Wqe},
    rc::Pair,
};
use crate::transport::Transition;

/// Random numbers from a seed (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| if self.below(3) == 0 { self.next() as u8 } else { 0 })
    }
}

const COMMANDS: [Transition; 11] = [
    Transition::RstToInit,
    Transition::InitToInit,
    Transition::InitToRtr,
    Transition::RtrToRts,
    Transition::RtsToRts,
    Transition::SqErrToRts,
    Transition::RtsToSqd,
    Transition::SqdToSqd,
    Transition::SqdToRts,
    Transition::ToErr,
    Transition::ToRst,
];

const OPCODES: [u8; 14] = [
    opcode::NOP,
    opcode::SEND,
    opcode::SEND_IMMEDIATE,
    opcode::SEND_INVALIDATE,
    opcode::WRITE,
    opcode::WRITE_IMMEDIATE,
    opcode::READ,
    opcode::COMPARE_SWAP,
    opcode::FETCH_ADD,
    opcode::MASKED_COMPARE_SWAP,
    opcode::MASKED_FETCH_ADD,
    opcode::BIND,
    opcode::FAST_REGISTER,
    opcode::INVALIDATE,
];

#[test]
fn any_queue_and_table_is_survived() {
    for seed in 1..=60_u64 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let kind = [0, 1, 3, 6, 7][random.below(5) as usize];
        let mut pair = Pair::of_kind(kind, 2, |_| {});
        for _ in 0..60 {
            let side = random.below(2) as usize;
            one_mischief(&mut pair, side, &mut random);
            // This ends: each call does a bounded amount of work, and so does each request.
            for _ in 0..4 {
                if let Some(next) = pair.world.settle() {
                    pair.world.now = next.max(pair.world.now);
                }
            }
        }
        pair.world.now += Duration::from_secs(1);
    }
}

fn one_mischief(pair: &mut Pair, side: usize, random: &mut Random) {
    let guest = &mut pair.world.guests[side];
    let qp = &mut pair.qps[side];
    match random.below(9) {
        0..=2 => {
            let mut wqe = Wqe::new(OPCODES[random.below(14) as usize]);
            let (key, address) = (pair.mrs[side].key, pair.mrs[side].address);
            wqe.flags = random.next() as u32 & 0xff;
            wqe = match random.below(3) {
                0 => wqe.raddr(key, address),
                1 => wqe.words(&[random.next(), random.next(), random.next(), random.next()]),
                _ => wqe,
            };
            wqe = wqe.sge(key, address.wrapping_add(random.below(70_000)), random.below(70_000) as u32);
            if random.below(2) == 0 {
                wqe.segments.extend(random.bytes::<16>());
            }
            guest.send(qp, &wqe);
        }
        3 => {
            let bytes = random.bytes::<64>();
            guest.scribble(qp, random.below(32) as u16, random.below(2) * 64, &bytes);
            guest.doorbell(UAR, qp.qpn);
        }
        4 => {
            let record = if random.below(2) == 0 { qp.record } else { pair.cqs[side].record };
            guest.card.memory.store32(record, random.below(20) as u32).unwrap();
        }
        5 => {
            let index = random.below(1 << 10) as u32;
            let mut entry = guest.mpt(pair.mrs[side].key);
            entry[random.below(64) as usize] = random.next() as u8;
            guest.set_mpt(if random.below(2) == 0 { index } else { pair.mrs[side].key >> 8 }, &entry);
        }
        6 => {
            let offset = random.below(UAR_BYTES * 2) & !7;
            let bytes = random.bytes::<8>();
            guest.data.uar_write(&mut guest.card, offset, &bytes);
            let near = UAR_BYTES + u64::from(UAR) * 4096 + random.below(64) * 8;
            guest.data.uar_write(&mut guest.card, near, &bytes);
        }
        7 => {
            let command = COMMANDS[random.below(11) as usize];
            let mut mailbox = guest.data.qps.query(qp.qpn).unwrap_or([0; QP_MAILBOX]);
            mailbox[random.below(QP_MAILBOX as u64) as usize] = random.next() as u8;
            let number = if random.below(4) == 0 { random.next() as u32 } else { qp.qpn };
            let _refused = guest.modify_qp(command, number, &mailbox);
        }
        _ => {
            let number = random.below(1 << 11) as u32;
            let mut cq: [u8; CQ_CONTEXT] = random.bytes();
            cq[0x0c] &= 0x0f;
            let _refused = guest.data.cqs.create(&mut guest.card, number, &cq);
            let _refused = guest.data.cqs.modify(&mut guest.card, guest.now, pair.cqs[side].cqn, 0, &cq);
            let srq: [u8; SRQ_CONTEXT] = random.bytes();
            let _refused = guest.data.srqs.create(&guest.card, number, &srq);
        }
    }
}
