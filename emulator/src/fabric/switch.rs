//! The switch between cards: forwards packets by LID, GID and multicast group, and loses or damages them on request.

use std::{fmt, str::FromStr, time::Duration};

use crate::fabric::{
    ethernet::Mac,
    packet::{Operation, Packet, Service},
    port::Port,
    subnet::Agent,
};

/// A port of the switch, with what it knows about the card connected to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    lid: u16,
    lmc: u8,
    gids: Vec<[u8; 16]>,
    pub(crate) macs: Vec<Mac>,
    pub(crate) active: bool,
}

/// A packet on its way to a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The number of the card, as given to [`Switch::learn`].
    pub to: usize,
    /// The packet.
    pub packet: Packet,
}

/// The switch.
#[derive(Default)]
pub struct Switch {
    pub(crate) links: Vec<Link>,
    /// The agent of subnet administration: its number, which no card has, and its LID.
    agent: Option<(usize, u16)>,
    faults: Vec<Fault>,
    /// Delayed packets, with the time when they are delivered.
    delayed: Vec<(Duration, Delivery)>,
    dropped: u64,
}

/// A fault: what happens to packets that match a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which packets.
    pub filter: Filter,
    /// What happens to them.
    pub action: Action,
    /// How many matching packets are let through first.
    pub skip: u64,
    /// How many packets it affects.
    pub count: u64,
}

/// Selects packets. A packet matches if it has all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Sent by this card.
    pub from: Option<usize>,
    /// Transport service.
    pub service: Option<Service>,
    /// Kind of packet.
    pub kind: Option<PacketKind>,
    /// Destination queue pair.
    pub dest_qpn: Option<u32>,
}

/// Kinds of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// Any request.
    Request,
    /// Any response.
    Response,
    /// Part of a send.
    Send,
    /// Part of an RDMA write.
    Write,
    /// A read request.
    Read,
    /// Part of a read response.
    ReadResponse,
    /// An atomic request.
    Atomic,
    /// An atomic acknowledgement.
    AtomicResponse,
    /// An acknowledgement, positive or negative.
    Acknowledge,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is lost.
    Drop,
    /// It arrives twice.
    Duplicate,
    /// It arrives later.
    Delay(Duration),
    /// A bit of it is flipped, and its CRC shows it.
    Corrupt,
    /// A bit of its payload is flipped, and the CRC is valid.
    Flip,
}

impl PacketKind {
    fn matches(self, operation: Operation) -> bool {
        match self {
            Self::Request => !operation.is_response(),
            Self::Response => operation.is_response(),
            Self::Send => operation.is_send(),
            Self::Write => operation.is_write(),
            Self::Read => operation == Operation::ReadRequest,
            Self::ReadResponse => operation.is_read_response(),
            Self::Atomic => operation.is_atomic(),
            Self::AtomicResponse => operation == Operation::AtomicAcknowledge,
            Self::Acknowledge => operation == Operation::Acknowledge,
        }
    }
}

impl Filter {
    fn matches(&self, from: usize, packet: &Packet) -> bool {
        let opcode = packet.bth.opcode;
        self.from.is_none_or(|card| card == from)
            && self.service.is_none_or(|service| service == opcode.service)
            && self.kind.is_none_or(|kind| kind.matches(opcode.operation))
            && self.dest_qpn.is_none_or(|qpn| qpn == packet.bth.dest_qpn)
    }
}

impl Switch {
    /// Updates what the switch knows about the port of card `number`. Call it after anything that may change a port.
    pub fn learn(&mut self, number: usize, port: &Port) {
        if self.links.len() <= number {
            self.links.resize_with(number + 1, Link::default);
        }
        let gids = (0..port.guids.len()).filter(|index| port.guids[*index] != 0);
        self.links[number] = Link {
            lid: port.lid,
            lmc: port.lmc,
            gids: gids.filter_map(|index| port.gid(index)).collect(),
            macs: port.ethernet.iter().flat_map(|ethernet| ethernet.macs).flatten().collect(),
            active: port.is_active(),
        };
    }

    /// Attaches the agent of subnet administration under a number that no card has, or detaches it if it has no LID.
    pub fn attach_agent(&mut self, number: usize, lid: Option<u16>) {
        self.agent = lid.map(|lid| (number, lid));
    }

    /// Adds a fault.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Returns the pending faults.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    /// Removes all pending faults.
    pub fn clear_faults(&mut self) {
        self.faults.clear();
    }

    /// Returns how many packets were lost, by faults or because no port has their address.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forwards a packet from card `from`. Deliveries that are not delayed are added to `out`.
    pub fn send(&mut self, now: Duration, from: usize, mut packet: Packet, out: &mut Vec<Delivery>) {
        let mut copies = 1;
        let mut delay = None;
        match self.fault(from, &packet) {
            None => {}
            Some(Action::Drop) => copies = 0,
            Some(Action::Duplicate) => copies = 2,
            Some(Action::Delay(time)) => delay = Some(now + time),
            Some(action @ (Action::Corrupt | Action::Flip)) => {
                packet.bad_icrc = action == Action::Corrupt;
                let middle = packet.payload.len() / 2;
                if let Some(byte) = packet.payload.get_mut(middle) {
                    *byte ^= 1;
                }
            }
        }
        let targets = self.targets(from, &packet);
        if targets.is_empty() || copies == 0 {
            self.dropped += 1;
        }
        for to in targets {
            for _ in 0..copies {
                let delivery = Delivery { to, packet: packet.clone() };
                match delay {
                    Some(time) => self.delayed.push((time, delivery)),
                    None => out.push(delivery),
                }
            }
        }
    }

    /// Adds the packets whose delay has expired to `out`.
    pub fn due(&mut self, now: Duration, out: &mut Vec<Delivery>) {
        let due = self.delayed.extract_if(.., |(time, _)| *time <= now);
        out.extend(due.map(|(_, delivery)| delivery));
    }

    /// Returns when the next delay expires.
    pub fn next(&self) -> Option<Duration> {
        self.delayed.iter().map(|(time, _)| *time).min()
    }

    fn fault(&mut self, from: usize, packet: &Packet) -> Option<Action> {
        let at = self.faults.iter().position(|fault| fault.filter.matches(from, packet))?;
        let fault = &mut self.faults[at];
        if fault.skip > 0 {
            fault.skip -= 1;
            return None;
        }
        let action = fault.action;
        fault.count = fault.count.saturating_sub(1);
        if fault.count == 0 {
            self.faults.remove(at);
        }
        Some(action)
    }

    /// Returns the cards that a packet is for.
    fn targets(&self, from: usize, packet: &Packet) -> Vec<usize> {
        let active = |number: &usize| self.links.get(*number).is_some_and(|link| link.active);
        if packet.lrh.force_loopback {
            return vec![from];
        }
        if let Some(header) = packet.lrh.ethernet {
            return self.ethernet_targets(from, header.destination);
        }
        let dlid = packet.lrh.dlid;
        match self.agent {
            Some((number, _)) if from == number => {}
            _ if !active(&from) => return Vec::new(),
            Some((number, lid)) if lid == dlid && Agent::takes(packet) => return vec![number],
            _ => {}
        }
        let all = (0..self.links.len()).filter(active);
        if packet.is_multicast() {
            return all.collect();
        }
        match packet.grh {
            Some(grh) if dlid == 0 => {
                all.filter(|number| self.links[*number].gids.contains(&grh.dgid)).collect()
            }
            _ => all.filter(|number| self.links[*number].has_lid(dlid)).take(1).collect(),
        }
    }
}

impl Link {
    fn has_lid(&self, lid: u16) -> bool {
        lid != 0 && self.lid != 0 && lid >> self.lmc.min(7) == self.lid >> self.lmc.min(7)
    }
}

/// Parses a fault as in a control request: the action, then in any order `from N`, `qp N`, `rc|uc|ud|xrc`,
/// `request|response|send|write|read|read-response|atomic|atomic-response|ack`, `skip N`, `count N` (default 1).
impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let action = match words
            .next()
            .ok_or("the action is missing: drop, duplicate, delay, corrupt or flip")?
        {
            "drop" => Action::Drop,
            "duplicate" => Action::Duplicate,
            "delay" => Action::Delay(Duration::from_millis(number("delay", words.next())?)),
            "corrupt" => Action::Corrupt,
            "flip" => Action::Flip,
            other => {
                return Err(format!("unknown fault {other:?}: drop, duplicate, delay MS, corrupt or flip"));
            }
        };
        let mut fault = Self { filter: Filter::default(), action, skip: 0, count: 1 };
        while let Some(word) = words.next() {
            let filter = &mut fault.filter;
            match word {
                "from" => filter.from = Some(small("from", words.next())? as usize),
                "qp" => filter.dest_qpn = Some(small("qp", words.next())?),
                "skip" => fault.skip = number("skip", words.next())?,
                "count" => fault.count = number("count", words.next())?.max(1),
                "rc" => filter.service = Some(Service::Rc),
                "uc" => filter.service = Some(Service::Uc),
                "ud" => filter.service = Some(Service::Ud),
                "xrc" => filter.service = Some(Service::Xrc),
                "request" => filter.kind = Some(PacketKind::Request),
                "response" => filter.kind = Some(PacketKind::Response),
                "send" => filter.kind = Some(PacketKind::Send),
                "write" => filter.kind = Some(PacketKind::Write),
                "read" => filter.kind = Some(PacketKind::Read),
                "read-response" => filter.kind = Some(PacketKind::ReadResponse),
                "atomic" => filter.kind = Some(PacketKind::Atomic),
                "atomic-response" => filter.kind = Some(PacketKind::AtomicResponse),
                "ack" => filter.kind = Some(PacketKind::Acknowledge),
                other => return Err(format!("{other:?} is not part of a fault")),
            }
        }
        Ok(fault)
    }
}

fn number(name: &str, word: Option<&str>) -> Result<u64, String> {
    let word = word.ok_or_else(|| format!("{name} needs a number"))?;
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("{name} needs a number, not {word:?}"))
}

fn small(name: &str, word: Option<&str>) -> Result<u32, String> {
    u32::try_from(number(name, word)?).map_err(|_| format!("{name}: the number is too large"))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} packets after {}: {:?}", self.action, self.count, self.skip, self.filter)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fabric::packet::{Bth, Extended, Lrh, Opcode, Psn};

    pub(crate) fn packet(dlid: u16) -> Packet {
        let opcode = Opcode { service: Service::Rc, operation: Operation::SendOnly };
        let psn = Psn::new(0);
        Packet {
            lrh: Lrh { dlid, ..Lrh::default() },
            grh: None,
            bth: Bth { opcode, solicited: false, pkey: 0xffff, dest_qpn: 0x41, ack_request: true, psn },
            extended: Extended::default(),
            payload: vec![0; 4],
            bad_icrc: false,
        }
    }

    fn switch() -> Switch {
        let mut switch = Switch::default();
        for (number, lid) in [1, 9].into_iter().enumerate() {
            let mut port = Port::new(0x10 + u64::from(lid), lid, 1);
            port.enabled = true;
            switch.learn(number, &port);
        }
        switch
    }

    fn go(switch: &mut Switch, packet: Packet) -> Vec<usize> {
        let mut out = Vec::new();
        switch.send(Duration::ZERO, 0, packet, &mut out);
        out.iter().map(|delivery| delivery.to).collect()
    }

    #[test]
    fn packets_are_forwarded_by_lid_and_to_all_ports_of_a_group() {
        let mut switch = switch();
        assert_eq!(go(&mut switch, packet(9)), [1]);
        assert_eq!(go(&mut switch, packet(1)), [0]);
        assert!(go(&mut switch, packet(5)).is_empty());
        assert_eq!(go(&mut switch, packet(0xc001)), [0, 1]);
        assert_eq!(switch.dropped(), 1);
    }

    #[test]
    fn the_agent_receives_its_management_class_only() {
        let mut switch = switch();
        switch.attach_agent(2, Some(1));
        let mut asked = packet(1);
        asked.bth.opcode.service = Service::Ud;
        asked.bth.dest_qpn = 1;
        asked.payload = vec![0; 256];
        asked.payload[..4].copy_from_slice(&[1, 3, 2, 1]);
        assert_eq!(go(&mut switch, asked.clone()), [2]);
        let mut connecting = asked.clone();
        connecting.payload[1] = 7;
        assert_eq!(go(&mut switch, connecting), [0]);
        let mut out = Vec::new();
        switch.send(Duration::ZERO, 2, packet(9), &mut out);
        assert_eq!(out[0].to, 1);
        switch.attach_agent(2, None);
        assert_eq!(go(&mut switch, asked), [0]);
    }

    #[test]
    fn faults_skip_and_count() {
        let mut switch = switch();
        switch.inject("drop rc send qp 0x41 skip 1 count 2".parse().unwrap());
        let went: Vec<_> = (0..4).map(|_| go(&mut switch, packet(9)).len()).collect();
        assert_eq!(went, [1, 0, 0, 1]);
        switch.inject("duplicate from 0".parse().unwrap());
        assert_eq!(go(&mut switch, packet(9)), [1, 1]);
        switch.inject("delay 3".parse().unwrap());
        assert!(go(&mut switch, packet(9)).is_empty());
        let mut out = Vec::new();
        assert_eq!(switch.next(), Some(Duration::from_millis(3)));
        switch.due(Duration::from_millis(2), &mut out);
        assert!(out.is_empty());
        switch.due(Duration::from_millis(3), &mut out);
        assert_eq!(out.len(), 1);
    }

    #[test]
    fn malformed_faults_are_refused() {
        for text in ["", "lose", "drop qp", "drop qp x", "drop sideways", "delay", "drop from 0x1ffffffff"] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }
}
