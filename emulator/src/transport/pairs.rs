//! All queue pairs of a card: which of them have work, which wait for a time, and which one a packet is for.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Next, Step,
    attributes::{Attributes, Kind},
    qp::{Progress, Qp, State, Transition},
};
use crate::fabric::{
    packet::{MULTICAST_QPN, Packet, Service},
    port::pkeys_match,
};

/// Packets that a queue pair sends before the next one works.
const BURST: usize = 32;
/// How soon a queue pair in error looks for receive requests again: they are posted without a doorbell.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(64);

/// The queue pairs of a card that are not in RESET.
#[derive(Default)]
pub struct QueuePairs {
    pairs: BTreeMap<u32, Qp>,
    awake: BTreeSet<u32>,
    alarms: BTreeSet<(Duration, u32)>,
}

impl QueuePairs {
    /// Moves a queue pair from RESET to INIT.
    pub fn create(&mut self, qpn: u32, attributes: Attributes) {
        self.pairs.insert(qpn, Qp::new(qpn, attributes));
    }

    /// Moves a queue pair to RESET.
    pub fn remove(&mut self, qpn: u32) {
        self.pairs.remove(&qpn);
    }

    /// Carries out a transition between states other than RESET. The caller has checked that it is
    /// [allowed](Transition::is_allowed). `notify` asks for an event when the send queue is drained.
    pub fn transition(
        &mut self,
        step: &mut Step<'_>,
        qpn: u32,
        transition: Transition,
        attributes: Attributes,
        notify: bool,
    ) {
        if let Some(qp) = self.pairs.get_mut(&qpn) {
            qp.transition(step, transition, attributes, notify);
            self.wake(qpn);
        }
    }

    /// The state of a queue pair.
    pub fn state(&self, qpn: u32) -> State {
        self.pairs.get(&qpn).map_or(State::Reset, |qp| qp.state)
    }

    /// The counters of a queue pair, if it is not in RESET.
    pub fn progress(&self, qpn: u32) -> Option<Progress> {
        self.pairs.get(&qpn).map(Qp::progress)
    }

    /// A queue pair, if it is not in RESET.
    pub fn get_mut(&mut self, qpn: u32) -> Option<&mut Qp> {
        self.pairs.get_mut(&qpn)
    }

    /// Lets a queue pair work in the next [`run`](Self::run): a doorbell rang.
    pub fn wake(&mut self, qpn: u32) {
        self.awake.insert(qpn);
    }

    /// Lets each queue pair that has work do some of it.
    pub fn run(&mut self, step: &mut Step<'_>) -> Next {
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

    /// Takes a packet from the fabric and passes it to the queue pairs that it is for.
    pub fn receive(&mut self, step: &mut Step<'_>, packet: Packet) {
        let counters = &mut step.adapter.port_mut().counters;
        counters.received_packets = counters.received_packets.wrapping_add(1);
        counters.received_bytes = counters.received_bytes.wrapping_add(packet.bytes() as u64);
        if packet.bad_icrc {
            counters.receive_errors = counters.receive_errors.wrapping_add(1);
            return step.trace(format_args!("packet with a bad ICRC dropped: {packet}"));
        }
        if step.is_traced() {
            step.trace(format_args!("<- {packet}"));
        }
        if !step.adapter.port().takes(&packet) {
            return step.trace(format_args!("for another address or VLAN, dropped"));
        }
        match packet.bth.dest_qpn {
            MULTICAST_QPN => {
                let Some(grh) = packet.grh else { return };
                let own = step.adapter.port().sent(&packet.lrh);
                let sender = packet.extended.deth.map(|deth| deth.src_qpn).filter(|_| own);
                for qpn in step.adapter.members(&grh.dgid, sender) {
                    self.deliver(step, qpn, packet.clone());
                }
            }
            qpn @ (0 | 1) => {
                let qpn = step.adapter.management_qpn(qpn);
                self.deliver(step, qpn, packet);
            }
            qpn => self.deliver(step, qpn, packet),
        }
    }

    fn deliver(&mut self, step: &mut Step<'_>, qpn: u32, packet: Packet) {
        let Some(qp) = self.pairs.get_mut(&qpn) else { return };
        match qp.check(step, &packet) {
            Ok(pkey_index) => {
                qp.take(step, packet, pkey_index);
                self.awake.insert(qpn);
            }
            Err(why) => step.trace(format_args!("QP {qpn:#x} drops a packet: {why}")),
        }
    }
}

impl Qp {
    /// Whether a packet is valid for this queue pair (section 9.6.1): the index of its P_Key, or why not.
    fn check(&self, step: &mut Step<'_>, packet: &Packet) -> Result<u8, &'static str> {
        if !self.state.receives() {
            return Err("it does not receive in its state");
        }
        let service = self.attributes.kind.service();
        if packet.bth.opcode.service != service {
            return Err("the packet belongs to another transport service");
        }
        let path = self.attributes.path;
        let port = step.adapter.port_mut();
        let pkey_index = match packet.bth.dest_qpn {
            0 => Some(0),
            1 => {
                let mut indices = port.pkeys.iter().zip(0_u8..);
                indices.find(|(pkey, _)| pkeys_match(**pkey, packet.bth.pkey)).map(|(_, index)| index)
            }
            _ => {
                let own = port.pkey(path.pkey_index.into());
                own.filter(|pkey| pkeys_match(*pkey, packet.bth.pkey)).map(|_| path.pkey_index)
            }
        };
        let Some(pkey_index) = pkey_index else {
            port.pkey_violations = port.pkey_violations.saturating_add(1);
            return Err("the P_Keys do not match");
        };
        if service == Service::Ud {
            let qkey = packet.extended.deth.map(|deth| deth.qkey);
            if packet.bth.dest_qpn != 0 && qkey != Some(self.attributes.qkey) {
                port.qkey_violations = port.qkey_violations.saturating_add(1);
                return Err("the Q_Keys do not match");
            }
            return Ok(pkey_index);
        }
        if packet.lrh.slid != path.dlid && packet.lrh.dlid != 0 {
            return Err("the source LID is not its peer's");
        }
        let from = packet.grh.map(|grh| grh.sgid);
        if from != path.grh.map(|global| global.dgid) {
            return Err("the source GID is not its peer's, or missing");
        }
        Ok(pkey_index)
    }

    fn take(&mut self, step: &mut Step<'_>, packet: Packet, pkey_index: u8) {
        match self.attributes.kind {
            Kind::Ud | Kind::Management => self.receive_datagram(step, &packet, pkey_index),
            Kind::Frames => {}
            kind if packet.bth.opcode.operation.is_response() => {
                if kind.is_reliable() && matches!(self.state, State::Rts | State::SqDraining) {
                    self.answered(step, &packet);
                }
            }
            Kind::Rc | Kind::Uc | Kind::Xrc => self.requested(step, packet),
        }
    }

    /// Does some work.
    fn work(&mut self, step: &mut Step<'_>) -> Next {
        let mut more = self.respond(step, BURST);
        more |= self.send(step, BURST);
        match self.state {
            State::Error => {
                self.flush_send(step);
                if self.attributes.has_receive_queue {
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

    /// Flushes receive requests that were posted in the error state, and schedules the next look.
    fn look_for_receives(&mut self, step: &mut Step<'_>) {
        if self.next_look.is_some_and(|time| time > step.now) {
            return;
        }
        let found = self.flush_receive(step);
        self.look_interval =
            if found { FIRST_LOOK } else { (self.look_interval * 2).clamp(FIRST_LOOK, LAST_LOOK) };
        self.next_look = Some(step.now + self.look_interval);
    }
}
