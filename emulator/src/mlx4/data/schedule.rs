//! Whose turn it is: queue pairs with work, those that wait for a time, and packets on their way to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Next, Step,
    multicast::{self, Protocol},
    qp::{Qp, State},
    qpc::Kind,
};
use crate::fabric::{
    packet::{MULTICAST_QPN, Packet, Service},
    port::pkeys_match,
};

/// Packets that a queue pair sends in its turn.
const TURN: usize = 32;
/// How soon a queue pair in error looks again for receive requests: they are posted without a doorbell.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(64);

/// The queue pairs of a card.
#[derive(Default)]
pub(crate) struct Qps {
    pub(crate) pairs: BTreeMap<u32, Qp>,
    awake: BTreeSet<u32>,
    alarms: BTreeSet<(Duration, u32)>,
}

impl Qps {
    /// The queue pair, which is in a state other than reset.
    pub(crate) fn get_mut(&mut self, qpn: u32) -> Option<&mut Qp> {
        self.pairs.get_mut(&qpn)
    }

    /// The queue pair gets a turn.
    pub(crate) fn wake(&mut self, qpn: u32) {
        self.awake.insert(qpn);
    }

    /// Gives each queue pair that has work a turn.
    pub(crate) fn run(&mut self, step: &mut Step<'_>) -> Next {
        while let Some((time, qpn)) = self.alarms.first().copied() {
            if time > step.now {
                break;
            }
            self.alarms.pop_first();
            self.awake.insert(qpn);
        }
        for qpn in std::mem::take(&mut self.awake) {
            let Some(qp) = self.pairs.get_mut(&qpn) else { continue };
            if let Some(alarm) = qp.alarm.take() {
                self.alarms.remove(&(alarm, qpn));
            }
            match qp.work(step) {
                Next::Now => {
                    self.awake.insert(qpn);
                }
                Next::At(time) => {
                    qp.alarm = Some(time);
                    self.alarms.insert((time, qpn));
                }
                Next::Idle => {}
            }
        }
        match self.alarms.first() {
            _ if !self.awake.is_empty() => Next::Now,
            Some((time, _)) => Next::At(*time),
            None => Next::Idle,
        }
    }

    /// Takes a packet from the fabric and gives it to those it is for.
    pub(crate) fn receive(&mut self, step: &mut Step<'_>, packet: Packet) {
        let counters = &mut step.card.port.counters;
        counters.received_packets = counters.received_packets.wrapping_add(1);
        counters.received_bytes = counters.received_bytes.wrapping_add(packet.bytes() as u64);
        if packet.bad_icrc {
            counters.receive_errors = counters.receive_errors.wrapping_add(1);
            step.card.trace.line(format_args!("packet with a bad ICRC dropped: {packet}"));
            return;
        }
        if step.card.trace.on() {
            step.card.trace.line(format_args!("<- {packet}"));
        }
        if !step.card.port.takes(&packet) {
            return step.card.trace.line(format_args!("to another address or VLAN, dropped"));
        }
        if packet.bth.dest_qpn == MULTICAST_QPN {
            let Some(grh) = packet.grh else { return };
            let own = step.card.port.sent(&packet.lrh);
            let sender = packet.extended.deth.map(|deth| deth.src_qpn).filter(|_| own);
            for qpn in multicast::members(step.card, Protocol::InfiniBand, &grh.dgid, sender) {
                self.deliver(step, qpn, packet.clone());
            }
            return;
        }
        // Of two ports the first is used; QP1 follows both QP0.
        let qpn = match (packet.bth.dest_qpn, step.card.special_qpn) {
            (0, Some(base)) => base,
            (1, Some(base)) => base + 2,
            (qpn, _) => qpn,
        };
        self.deliver(step, qpn, packet);
    }

    fn deliver(&mut self, step: &mut Step<'_>, qpn: u32, packet: Packet) {
        let Some(qp) = self.pairs.get_mut(&qpn) else { return };
        match qp.check(step, &packet) {
            Ok(pkey_index) => {
                qp.take(step, packet, pkey_index);
                self.awake.insert(qpn);
            }
            Err(why) => step.card.trace.line(format_args!("QP {qpn:#x} drops a packet: {why}")),
        }
    }
}

impl Qp {
    /// Whether a packet may be taken (section 9.6.1): the index of its P_Key, or why not.
    fn check(&self, step: &mut Step<'_>, packet: &Packet) -> Result<u8, &'static str> {
        if !self.state.receives() {
            return Err("it does not receive in its state");
        }
        if packet.bth.opcode.service != self.service() {
            return Err("of another transport service");
        }
        let port = &mut step.card.port;
        let management = packet.bth.dest_qpn <= 1;
        let mut indices = port.pkeys.iter().zip(0_u8..);
        let pkey_index = if packet.bth.dest_qpn == 0 {
            Some(0)
        } else if management {
            indices.find(|(pkey, _)| pkeys_match(**pkey, packet.bth.pkey)).map(|(_, index)| index)
        } else {
            let index = self.context.path().pkey_index;
            port.pkey(index.into()).filter(|pkey| pkeys_match(*pkey, packet.bth.pkey)).map(|_| index)
        };
        let Some(pkey_index) = pkey_index else {
            port.pkey_violations = port.pkey_violations.saturating_add(1);
            return Err("the P_Keys do not match");
        };
        if self.service() == Service::Ud {
            let qkey = packet.extended.deth.map(|deth| deth.qkey);
            if packet.bth.dest_qpn != 0 && qkey != Some(self.context.qkey()) {
                port.qkey_violations = port.qkey_violations.saturating_add(1);
                return Err("the Q_Keys do not match");
            }
            return Ok(pkey_index);
        }
        let path = self.context.path();
        if packet.lrh.slid != path.dlid && packet.lrh.dlid != 0 {
            return Err("from another LID than its peer's");
        }
        let from = packet.grh.map(|grh| grh.sgid);
        if from != path.grh.map(|global| global.dgid) {
            return Err("from another GID than its peer's, or without one");
        }
        Ok(pkey_index)
    }

    fn take(&mut self, step: &mut Step<'_>, packet: Packet, pkey_index: u8) {
        if matches!(self.kind, Kind::Ud | Kind::Mlx(_)) {
            return self.datagram_came(step, &packet, pkey_index);
        }
        if packet.bth.opcode.operation.is_response() {
            if self.kind != Kind::Uc && matches!(self.state, State::Rts | State::SqDraining) {
                self.answered(step, &packet);
            }
        } else {
            self.requested(step, packet);
        }
    }

    /// A turn.
    fn work(&mut self, step: &mut Step<'_>) -> Next {
        let mut more = self.respond(step, TURN);
        more |= self.send(step, TURN);
        match self.state {
            State::Error => {
                self.flush_send(step);
                if self.rq.is_some() {
                    self.look_for_receives(step);
                }
            }
            State::SqError => self.flush_send(step),
            _ => {}
        }
        if more {
            return Next::Now;
        }
        match self.requester.alarm().or(self.next_look) {
            Some(time) => Next::At(time),
            None => Next::Idle,
        }
    }

    /// Flushes receive requests that were posted in error, and says when to look again.
    fn look_for_receives(&mut self, step: &mut Step<'_>) {
        if self.next_look.is_some_and(|time| time > step.now) {
            return;
        }
        let before = self.rq.as_ref().map(|rq| rq.taken);
        self.flush_receive(step);
        let found = before != self.rq.as_ref().map(|rq| rq.taken);
        self.look_interval =
            if found { FIRST_LOOK } else { (self.look_interval * 2).clamp(FIRST_LOOK, LAST_LOOK) };
        self.next_look = Some(step.now + self.look_interval);
    }
}
