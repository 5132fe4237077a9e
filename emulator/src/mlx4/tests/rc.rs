//! Reliable connections: each operation, on one card and on two.

use std::time::Duration;

use super::{
    super::wqe::opcode,
    guest::{Cq, Mr, Qp, QpInit, World, Wqe},
};
use crate::be::get32;

/// Two connected queue pairs, on one card or on two, with a region of 64 KiB each.
pub(super) struct Pair {
    pub(super) world: World,
    pub(super) sides: [usize; 2],
    pub(super) cqs: [Cq; 2],
    pub(super) mrs: [Mr; 2],
    pub(super) qps: [Qp; 2],
}

pub(super) const LENGTH: u64 = 0x1_0000;

impl Pair {
    pub(super) fn new(cards: usize, change: impl Fn(&mut QpInit)) -> Self {
        Self::of_kind(0, cards, change)
    }

    pub(super) fn of_kind(kind: u32, cards: usize, change: impl Fn(&mut QpInit)) -> Self {
        let mut world = World::new(cards);
        let sides = [0, cards - 1];
        let cqs = sides.map(|side| world.guests[side].cq(6));
        let mrs = sides.map(|side| world.guests[side].mr(LENGTH));
        let mut qps = [0, 1].map(|side| {
            let mut init = QpInit::new(kind, cqs[side].cqn);
            change(&mut init);
            world.guests[sides[side]].qp(init)
        });
        let [one, other] = &mut qps;
        world.connect((sides[0], one), (sides[1], other));
        Self { world, sides, cqs, mrs, qps }
    }

    pub(super) fn fill(&mut self, side: usize, seed: u8) -> Vec<u8> {
        let bytes: Vec<u8> = (0..LENGTH).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        self.world.guests[self.sides[side]].fill(&self.mrs[side], 0, &bytes);
        bytes
    }

    pub(super) fn send(&mut self, side: usize, wqe: &Wqe) {
        self.world.guests[self.sides[side]].send(&mut self.qps[side], wqe);
    }

    pub(super) fn recv(&mut self, side: usize, offset: u64, length: u32) {
        let sge = (self.mrs[side].key, self.mrs[side].address + offset, length);
        self.world.guests[self.sides[side]].recv(&mut self.qps[side], &[sge]);
    }

    pub(super) fn sge(&self, side: usize, wqe: Wqe, offset: u64, length: u32) -> Wqe {
        wqe.sge(self.mrs[side].key, self.mrs[side].address + offset, length)
    }

    pub(super) fn raddr(&self, side: usize, wqe: Wqe, offset: u64) -> Wqe {
        wqe.raddr(self.mrs[side].key, self.mrs[side].address + offset)
    }

    pub(super) fn bytes(&self, side: usize, offset: u64, length: usize) -> Vec<u8> {
        self.world.guests[self.sides[side]].bytes(&self.mrs[side], offset, length)
    }

    pub(super) fn poll(&mut self, side: usize) -> Option<Vec<u8>> {
        self.world.guests[self.sides[side]].poll(&mut self.cqs[side])
    }

    /// The outcomes of the requests of `side`, by their counters.
    pub(super) fn outcomes(&mut self, side: usize) -> Vec<(u16, Result<u8, u8>)> {
        let all = self.world.guests[self.sides[side]].poll_all(&mut self.cqs[side]);
        all.into_iter().map(|(_, index, outcome)| (index, outcome)).collect()
    }

    pub(super) fn run(&mut self) {
        self.world.run(Duration::from_secs(20));
    }

    pub(super) fn clean(&self) {
        assert_eq!(self.world.violations(), 0);
    }
}

fn both(test: impl Fn(Pair)) {
    for cards in [1, 2] {
        test(Pair::new(cards, |_| {}));
    }
}

/// The opcode in the completion of a send request.
fn sent(opcode: u8) -> Result<u8, u8> {
    Ok(opcode)
}

#[test]
fn sends_of_all_lengths_arrive() {
    both(|mut pair| {
        for length in [0_u32, 1, 1023, 1024, 1025, 4096, 10_000] {
            let source = pair.fill(0, length as u8);
            let before = pair.fill(1, 0x55);
            pair.recv(1, 100, 20_000);
            let wqe = pair.sge(0, Wqe::new(opcode::SEND), 7, length);
            pair.send(0, &wqe);
            pair.run();
            let got = pair.poll(1).unwrap();
            assert_eq!(get32(&got, 0x14), length);
            assert_eq!(got[31] & 0x7f, 1);
            assert_eq!(pair.poll(0).unwrap()[31] & 0x7f, 0x40 | 0x0a);
            let length = length as usize;
            assert_eq!(pair.bytes(1, 100, length), source[7..7 + length]);
            assert_eq!(pair.bytes(1, 100 + length as u64, 50), before[100 + length..150 + length]);
        }
        pair.clean();
    });
}

#[test]
fn immediate_data_and_solicited_events_arrive() {
    both(|mut pair| {
        let cq = &pair.cqs[1];
        pair.world.guests[pair.sides[1]].arm(cq, true);
        pair.recv(1, 0, 64);
        pair.recv(1, 64, 64);
        let wqe = pair.sge(0, Wqe::new(opcode::SEND_IMMEDIATE).immediate(0x0102_0304), 0, 64);
        pair.send(0, &wqe);
        pair.run();
        assert_eq!(pair.world.guests[pair.sides[1]].notified(&mut pair.cqs[1]), 0);
        pair.send(0, &wqe.clone().solicited());
        pair.run();
        assert_eq!(pair.world.guests[pair.sides[1]].notified(&mut pair.cqs[1]), 1);
        for _ in 0..2 {
            let got = std::iter::from_fn(|| pair.poll(1)).find(|got| got[31] & 0x40 == 0).unwrap();
            assert_eq!((got[31] & 0x7f, get32(&got, 4)), (2, 0x0102_0304));
        }
        pair.clean();
    });
}

#[test]
fn several_elements_and_inline_data_make_one_message() {
    both(|mut pair| {
        let source = pair.fill(0, 3);
        pair.fill(1, 0);
        let (key, at) = (pair.mrs[1].key, pair.mrs[1].address);
        let side = pair.sides[1];
        let pieces = [(key, at + 5000, 10), (key, at + 100, 0), (key, at + 9, 80), (key, at + 4090, 500)];
        pair.world.guests[side].recv(&mut pair.qps[1], &pieces);
        let wqe = pair.sge(0, Wqe::new(opcode::SEND), 1, 33);
        let wqe = pair.sge(0, wqe, 5, 0);
        let wqe = pair.sge(0, wqe, 4000, 200);
        pair.send(0, &wqe);
        pair.run();
        let sent: Vec<u8> = [&source[1..34], &source[4000..4200]].concat();
        let got = [pair.bytes(1, 5000, 10), pair.bytes(1, 9, 80), pair.bytes(1, 4090, 143)].concat();
        assert_eq!(got, sent);

        let text: Vec<u8> = (0..90).collect();
        pair.recv(1, 0, 200);
        pair.send(0, &Wqe::new(opcode::SEND).inline(&text));
        pair.run();
        assert_eq!(pair.bytes(1, 0, 90), text);
        pair.clean();
    });
}

#[test]
fn writes_arrive_at_their_address() {
    both(|mut pair| {
        for length in [0_u32, 1, 1024, 5000] {
            let source = pair.fill(0, 9);
            pair.fill(1, 0xa0);
            let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 300);
            let wqe = pair.sge(0, wqe, 50, length);
            pair.send(0, &wqe);
            pair.recv(1, 0, 0);
            let wqe = pair.raddr(1, Wqe::new(opcode::WRITE_IMMEDIATE).immediate(7), 20_000);
            let wqe = pair.sge(0, wqe, 50, length);
            pair.send(0, &wqe);
            pair.run();
            let n = length as usize;
            assert_eq!(pair.bytes(1, 300, n), source[50..50 + n]);
            assert_eq!(pair.bytes(1, 20_000, n), source[50..50 + n]);
            let mut received = Vec::new();
            for side in [1, 0] {
                received.extend(std::iter::from_fn(|| pair.poll(side)));
            }
            let got = received.iter().find(|got| got[31] & 0x40 == 0).unwrap();
            assert_eq!((got[31] & 0x1f, get32(got, 4), get32(got, 0x14)), (0, 7, length));
        }
        pair.clean();
    });
}

#[test]
fn reads_fetch_data() {
    both(|mut pair| {
        for length in [0_u32, 3, 1024, 3000, 30_000] {
            pair.fill(0, 1);
            let source = pair.fill(1, 77);
            let wqe = pair.raddr(1, Wqe::new(opcode::READ), 1000);
            let wqe = pair.sge(0, wqe, 40_000, length / 2);
            let wqe = pair.sge(0, wqe, 3, length - length / 2);
            // A second element of length 0 is inline, which a read must not have.
            let wqe = if length == 0 { pair.raddr(1, Wqe::new(opcode::READ), 1000) } else { wqe };
            pair.send(0, &wqe);
            pair.run();
            assert_eq!(pair.outcomes(0).last().unwrap().1, sent(opcode::READ));
            let (half, n) = ((length / 2) as usize, length as usize);
            // Source and destination are different regions even on one card.
            assert_eq!(pair.bytes(0, 40_000, half), source[1000..1000 + half]);
            assert_eq!(pair.bytes(0, 3, n - half), source[1000 + half..1000 + n]);
        }
        pair.clean();
    });
}

#[test]
fn atomics_execute_once_and_return_the_original_value() {
    both(|mut pair| {
        let at = 64;
        let value =
            |pair: &Pair, side, offset| u64::from_le_bytes(pair.bytes(side, offset, 8).try_into().unwrap());
        pair.fill(1, 0);
        pair.world.guests[pair.sides[1]].fill(&pair.mrs[1], at, &100_u64.to_le_bytes());
        let wqe = pair.raddr(1, Wqe::new(opcode::FETCH_ADD), at).words(&[5, 0]);
        let wqe = pair.sge(0, wqe, 8, 8);
        pair.send(0, &wqe);
        pair.run();
        assert_eq!((value(&pair, 0, 8), value(&pair, 1, at)), (100, 105));
        for (compare, becomes) in [(1, 105), (105, 9)] {
            let wqe = pair.raddr(1, Wqe::new(opcode::COMPARE_SWAP), at).words(&[9, compare]);
            let wqe = pair.sge(0, wqe, 8, 8);
            pair.send(0, &wqe);
            pair.run();
            assert_eq!((value(&pair, 0, 8), value(&pair, 1, at)), (105, becomes));
        }
        let wqe = pair.raddr(1, Wqe::new(opcode::MASKED_COMPARE_SWAP), at).words(&[0xff00, 9, 0x0f00, 0xff]);
        let wqe = pair.sge(0, wqe, 8, 8);
        pair.send(0, &wqe);
        pair.run();
        assert_eq!(value(&pair, 1, at), 0x0f09);
        pair.clean();
    });
}

#[test]
fn blueflame_does_what_a_doorbell_does() {
    both(|mut pair| {
        for round in 0..20_u8 {
            let text = [round; 100];
            pair.recv(1, 0, 200);
            let side = pair.sides[0];
            pair.world.guests[side].send_blueflame(
                &mut pair.qps[0],
                &Wqe::new(opcode::SEND).inline(&text),
                None,
            );
            pair.run();
            assert_eq!(pair.bytes(1, 0, 100), text);
            for side in [0, 1] {
                assert!(pair.outcomes(side).iter().all(|(_, outcome)| outcome.is_ok()));
            }
        }
        pair.clean();
    });
}

#[test]
fn queues_wrap_and_only_signaled_requests_complete() {
    both(|mut pair| {
        let mut completions = 0;
        for round in 0..50_u32 {
            pair.recv(1, 0, 64);
            let wqe = pair.sge(0, Wqe::new(opcode::SEND), 0, 64);
            let wqe = if round % 4 == 3 { wqe } else { wqe.unsignaled() };
            pair.send(0, &wqe);
            pair.run();
            for side in [0, 1] {
                while let Some(entry) = pair.poll(side) {
                    completions += u32::from(entry[31] & 0x40 != 0);
                }
            }
        }
        assert_eq!(completions, 12);
        pair.clean();
    });
}

#[test]
fn a_fence_waits_for_reads() {
    let mut pair = Pair::new(2, |_| {});
    let read = pair.raddr(1, Wqe::new(opcode::READ), 0);
    let read = pair.sge(0, read, 100, 3000);
    let write = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[1; 8]);
    pair.send(0, &read);
    pair.send(0, &write.clone().fenced());
    pair.run();
    let order: Vec<_> = pair.world.log.iter().map(String::as_str).collect();
    let response = order.iter().position(|name| *name == "ReadResponseLast").unwrap();
    let written = order.iter().position(|name| *name == "WriteOnly").unwrap();
    assert!(response < written, "{order:?}");
    // Without it the write goes at once.
    pair.world.log.clear();
    pair.send(0, &read);
    pair.send(0, &write);
    pair.run();
    let written = pair.world.log.iter().position(|name| name == "WriteOnly").unwrap();
    assert_eq!(written, 1);
    pair.clean();
}

#[test]
fn outstanding_reads_are_limited_by_the_context() {
    // 2^1 at a time.
    let mut pair = Pair::new(2, |init| init.reads = 1);
    for _ in 0..6 {
        let read = pair.raddr(1, Wqe::new(opcode::READ), 0);
        let read = pair.sge(0, read, 100, 3000);
        pair.send(0, &read);
    }
    pair.run();
    assert_eq!(pair.outcomes(0), (0..6).map(|index| (index, Ok(opcode::READ))).collect::<Vec<_>>());
    pair.clean();
}
