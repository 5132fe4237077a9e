//! The transport on a card without formats: requests, keys and completions are values.

use std::{collections::VecDeque, time::Duration};

use super::*;
use crate::{
    fabric::{packet::Operation, port::Port},
    trace::Trace,
};

const KEY: u32 = 0x1234;
const QPN: u32 = 0x40;
const CQN: u32 = 0x80;
const MTU: usize = 256;

/// A card: one queue pair, and memory from address 0 on behind one key.
struct Card {
    port: Port,
    trace: Trace,
    sends: VecDeque<Send>,
    receives: VecDeque<Receive>,
    completions: Vec<Completion>,
    events: Vec<QpEvent>,
    memory: Vec<u8>,
    /// The key permits writes, but the memory behind it cannot be written.
    is_broken: bool,
    executed: Vec<u16>,
}

impl Adapter for Card {
    fn port(&self) -> &Port {
        &self.port
    }

    fn port_mut(&mut self) -> &mut Port {
        &mut self.port
    }

    fn trace(&mut self) -> &mut Trace {
        &mut self.trace
    }

    fn fetch(&mut self, _: u32) -> Fetched {
        self.sends.pop_front().map_or(Fetched::Nothing, Fetched::Request)
    }

    fn discard(&mut self, _: u32) -> Option<u16> {
        self.sends.pop_front().map(|send| send.index)
    }

    fn receive(&mut self, _: u32) -> Option<Receive> {
        self.receives.pop_front()
    }

    fn receive_shared(&mut self, _: u32) -> Option<Receive> {
        None
    }

    fn shared_queue(&self, _: u32) -> Option<SharedQueue> {
        None
    }

    fn complete(&mut self, _: Duration, cqn: u32, completion: &Completion, _: bool) -> Result<(), CqFull> {
        assert_eq!(cqn, CQN);
        self.completions.push(*completion);
        Ok(())
    }

    fn execute(&mut self, _: User, request: &Send) -> Result<(), Error> {
        self.executed.push(request.index);
        Ok(())
    }

    fn check(&self, access: &Access) -> Result<(), KeyError> {
        if access.key != KEY {
            return Err(KeyError::NoSuchKey);
        }
        let end = access.address.checked_add(access.length).ok_or(KeyError::Bounds)?;
        if end <= self.memory.len() as u64 { Ok(()) } else { Err(KeyError::Bounds) }
    }

    fn read(&self, access: &Access, bytes: &mut [u8]) -> Result<(), KeyError> {
        self.check(access)?;
        bytes.copy_from_slice(&self.memory[access.address as usize..][..bytes.len()]);
        Ok(())
    }

    fn write(&mut self, access: &Access, bytes: &[u8]) -> Result<(), KeyError> {
        self.check(access)?;
        if self.is_broken {
            return Err(KeyError::NoPage { address: access.address });
        }
        self.memory[access.address as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn invalidate(&mut self, _: User, _: u32) -> Result<(), KeyError> {
        Err(KeyError::NoSuchKey)
    }

    fn management_qpn(&self, qpn: u32) -> u32 {
        qpn
    }

    fn members(&self, _: &[u8; 16], _: Option<u32>) -> Vec<u32> {
        Vec::new()
    }

    fn event(&mut self, _: u32, event: QpEvent) {
        self.events.push(event);
    }

    fn count(&mut self, _: Incident) {}
}

/// Two cards with connected queue pairs.
struct Wire {
    cards: [Card; 2],
    pairs: [QueuePairs; 2],
    now: Duration,
}

impl Wire {
    fn new(kind: Kind) -> Self {
        let lid = |side: usize| side as u16 + 1;
        let cards = [0, 1].map(|side| {
            let mut port = Port::new(0x10 + side as u64, lid(side), 1);
            port.enabled = true;
            Card {
                port,
                trace: Trace::default(),
                sends: VecDeque::new(),
                receives: VecDeque::new(),
                completions: Vec::new(),
                events: Vec::new(),
                memory: vec![side as u8; 4096],
                is_broken: false,
                executed: Vec::new(),
            }
        });
        let mut wire = Self { cards, pairs: Default::default(), now: Duration::ZERO };
        for side in [0, 1] {
            let attributes = Attributes {
                kind,
                pd: 1,
                send_cqn: CQN,
                receive_cqn: CQN,
                has_receive_queue: true,
                srqn: None,
                xrcd: 0,
                mtu: MTU,
                max_message: 1 << 30,
                qkey: 0,
                remote_qpn: QPN,
                path: Path { dlid: lid(1 - side), ..Path::default() },
                send_psn: 0xff_ffff,
                receive_psn: 0xff_ffff,
                rnr_timer: 1,
                ack_timeout: Some(Duration::from_millis(10)),
                retries: 1,
                rnr_retries: 1,
                reads_as_requester: 1,
                reads_as_responder: 1,
                remote_read: true,
                remote_write: true,
                remote_atomic: true,
            };
            wire.pairs[side].create(QPN, attributes.clone());
            for transition in [Transition::InitToRtr, Transition::RtrToRts] {
                let adapter = &mut wire.cards[side];
                let step = &mut Step { adapter, now: wire.now, out: &mut Vec::new() };
                wire.pairs[side].transition(step, QPN, transition, attributes.clone(), false);
            }
        }
        wire
    }

    fn post(&mut self, side: usize, index: u16, work: Work, length: u32) {
        let elements = vec![Element::Memory { lkey: KEY, address: 0, length }];
        let data = if length == 0 { Data::default() } else { Data { elements, length: length.into() } };
        self.cards[side].sends.push_back(Send { work, data, ..Send::unreadable(index) });
        self.pairs[side].wake(QPN);
    }

    fn post_receive(&mut self, side: usize, index: u16) {
        let elements = vec![Element::Memory { lkey: KEY, address: 2048, length: 2048 }];
        self.cards[side].receives.push_back(Receive { index, elements });
    }

    /// Moves packets until nothing happens any more, and lets timers expire.
    fn run(&mut self) {
        for _ in 0..1000 {
            let mut next = Next::Idle;
            let mut wires = [Vec::new(), Vec::new()];
            for side in [0, 1] {
                let step = &mut Step { adapter: &mut self.cards[side], now: self.now, out: &mut wires[side] };
                next = next.or(self.pairs[side].run(step));
            }
            let quiet = wires.iter().all(Vec::is_empty);
            for (from, packets) in wires.into_iter().enumerate() {
                for packet in packets {
                    self.receive(1 - from, packet);
                }
            }
            match next {
                Next::Idle if quiet => return,
                Next::At(time) if quiet && time > Duration::from_secs(1) => return,
                Next::At(time) if quiet => self.now = time,
                _ => {}
            }
        }
        panic!("it does not come to rest");
    }

    fn receive(&mut self, side: usize, packet: Packet) {
        let mut out = Vec::new();
        let step = &mut Step { adapter: &mut self.cards[side], now: self.now, out: &mut out };
        self.pairs[side].receive(step, packet);
        for packet in out {
            self.receive(1 - side, packet);
        }
    }

    fn sent(&self, side: usize) -> Vec<u16> {
        let sent = self.cards[side].completions.iter().filter_map(|completion| match completion {
            Completion::Sent(sent) => Some(sent.index),
            _ => None,
        });
        sent.collect()
    }

    fn failed(&self, side: usize) -> Vec<(u16, Error)> {
        let failed = self.cards[side].completions.iter().filter_map(|completion| match completion {
            Completion::Failed(failed) => Some((failed.index, failed.error)),
            _ => None,
        });
        failed.collect()
    }

    fn received(&self, side: usize) -> Vec<(u16, ReceivedKind, u32)> {
        let received = self.cards[side].completions.iter().filter_map(|completion| match completion {
            Completion::Received(received) => Some((received.index, received.kind, received.byte_count)),
            _ => None,
        });
        received.collect()
    }
}

fn write(address: u64, immediate: Option<u32>) -> Work {
    Work::Write { address, rkey: KEY, immediate }
}

#[test]
fn every_operation_works_without_a_card_format() {
    let mut wire = Wire::new(Kind::Rc);
    wire.cards[0].memory[..1000].fill(7);
    wire.post_receive(1, 5);
    wire.post_receive(1, 6);
    wire.post(0, 0, Work::Message { tail: Tail::Immediate(9), datagram: None }, 700);
    wire.post(0, 1, write(0, None), 600);
    wire.post(0, 2, write(1000, Some(3)), 8);
    wire.post(0, 3, Work::Local, 0);
    let (swap_add, compare, masks) = (1, 0, [0, 0]);
    let operation = Operation::FetchAdd;
    wire.post(0, 4, Work::Atomic { operation, address: 0, rkey: KEY, swap_add, compare, masks }, 8);
    wire.post(0, 5, Work::Read { address: 0, rkey: KEY }, 700);
    wire.run();
    assert_eq!(wire.sent(0), [0, 1, 2, 3, 4, 5]);
    assert_eq!(wire.cards[0].executed, [3]);
    let received = wire.received(1);
    assert_eq!(received, [(5, ReceivedKind::SendImmediate(9), 700), (6, ReceivedKind::WriteImmediate(3), 8)]);
    let memory = &wire.cards[1].memory;
    assert_eq!(memory[2048..2748], [7; 700]);
    assert_eq!((memory[0], &memory[1..600], memory[600]), (8, &[7; 599][..], 1));
    // The read came after the atomic operation: it fetched what that one left.
    assert_eq!(wire.cards[0].memory[..700], memory[..700]);
}

#[test]
fn a_receive_request_of_a_write_that_fails_is_flushed_once() {
    let mut wire = Wire::new(Kind::Rc);
    wire.post_receive(1, 5);
    wire.post_receive(1, 6);
    wire.cards[1].is_broken = true;
    wire.post(0, 0, write(0, Some(3)), 8);
    wire.run();
    assert_eq!(wire.failed(0), [(0, Error::RemoteAccess)]);
    assert_eq!(wire.failed(1), [(5, Error::Flushed), (6, Error::Flushed)]);
    assert_eq!(wire.cards[1].events, [QpEvent::AccessError]);
    assert!(wire.received(1).is_empty());
}

#[test]
fn an_unreliable_responder_keeps_the_receive_request_for_the_next_message() {
    let mut wire = Wire::new(Kind::Uc);
    wire.post_receive(1, 5);
    wire.cards[1].is_broken = true;
    wire.post(0, 0, write(0, Some(3)), 8);
    wire.run();
    assert!(wire.cards[1].completions.is_empty());
    wire.cards[1].is_broken = false;
    wire.post(0, 1, write(0, Some(4)), 8);
    wire.run();
    assert_eq!(wire.sent(0), [0, 1]);
    assert_eq!(wire.received(1), [(5, ReceivedKind::WriteImmediate(4), 8)]);
}

#[test]
fn a_requester_gives_up_after_its_retries() {
    let mut wire = Wire::new(Kind::Rc);
    wire.cards[1].port.cable = false;
    wire.pairs[1].remove(QPN);
    wire.post(0, 0, write(0, None), 8);
    wire.post(0, 1, write(0, None), 8);
    wire.run();
    assert_eq!(wire.failed(0), [(0, Error::RetriesExceeded), (1, Error::Flushed)]);
    let mut wire = Wire::new(Kind::Rc);
    wire.post(0, 0, Work::Message { tail: Tail::Nothing, datagram: None }, 8);
    wire.run();
    assert_eq!(wire.failed(0), [(0, Error::RnrRetriesExceeded)]);
}
