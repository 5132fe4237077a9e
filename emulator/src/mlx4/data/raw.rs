//! Ethernet frames: sent by queue pairs of a network device, taken by those that steering says.
//!
//! Steering is the one that drivers call B0: entries in the multicast table name the queue pairs of an address, of a
//! station's as well as of a group's. A queue pair for RSS stands for several and gives each frame to one of them.

use super::{
    Step,
    address::scatter,
    cqe::{Cqe, Error, FrameCame},
    multicast::{self, Protocol},
    qp::Qp,
    qpc::Kind,
    schedule::Qps,
    wqe::{Malformed, Send, Work, opcode, unknown},
};
use crate::{
    be,
    fabric::ethernet::{
        Frame, Mac,
        frame::{self, Headers},
        is_group,
        port::{Steering, steering_key},
    },
    mlx4::rss,
};

const FCS: usize = 4;
const BROADCAST: Mac = [0xff; 6];

/// What the card is to do to a frame on its way out (`struct mlx4_wqe_ctrl_seg`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offload {
    /// Make the checksum of the IP header.
    network_checksum: bool,
    /// Make the checksum of TCP or UDP.
    transport_checksum: bool,
    /// Put a tag in: its type, and the tag.
    tag: Option<(u16, u16)>,
    /// Give the frame back if this address is the card's own.
    loopback: Mac,
}

/// Decodes the control segment of a request to send a frame.
pub(crate) fn work(control: &[u8], opcode: u8) -> Result<Work, Malformed> {
    match opcode {
        opcode::NOP => return Ok(Work::Nop),
        opcode::SEND => {}
        // Large segments are not a capability of this card.
        _ => return Err(unknown(opcode)),
    }
    let flags = be::get32(control, 8);
    // With BlueFlame the number of the queue pair is where the tag would be.
    let kind = match control[6] {
        0x40 if control[4..6] != [0, 0] => Some(frame::CUSTOMER_TAG),
        0x80 if control[4..6] != [0, 0] => Some(frame::SERVICE_TAG),
        _ => None,
    };
    let mut loopback = Mac::default();
    loopback[..2].copy_from_slice(&control[8..10]);
    loopback[2..].copy_from_slice(&control[12..16]);
    Ok(Work::Frame(Offload {
        network_checksum: flags & 1 << 4 != 0,
        transport_checksum: flags & 1 << 5 != 0,
        tag: kind.map(|kind| (kind, be::get16(control, 4))),
        loopback,
    }))
}

impl Qp {
    /// Sends a frame.
    pub(crate) fn send_frame(
        &self,
        step: &mut Step<'_>,
        send: &Send,
        offload: &Offload,
    ) -> Result<(), Error> {
        let longest = usize::from(u16::MAX);
        if send.data.length > longest as u64 {
            return Err(Error::LocalLength);
        }
        let mut bytes = self.gather(step, send, 0, send.data.length)?;
        frame::fill_checksums(&mut bytes, offload.network_checksum, offload.transport_checksum);
        if let Some((kind, tag)) = offload.tag {
            frame::insert_tag(&mut bytes, kind, tag);
        }
        let Some(headers) = Headers::parse(&bytes) else { return Err(Error::LocalLength) };
        bytes.resize(bytes.len().max(frame::SHORTEST), 0);
        if step.card.trace.on() {
            step.card.trace.line(format_args!("-> {}", Shown(&headers, bytes.len())));
        }
        let active = step.card.port.is_active();
        let port = &mut step.card.port;
        if !active {
            port.counters.send_discards = port.counters.send_discards.wrapping_add(1);
            return Ok(());
        }
        port.counters.sent_packets = port.counters.sent_packets.wrapping_add(1);
        port.counters.sent_bytes = port.counters.sent_bytes.wrapping_add(bytes.len() as u64);
        if let Some(ethernet) = &mut port.ethernet {
            let counters = &mut ethernet.counters;
            count(headers.destination, &mut counters.sent_broadcast, &mut counters.sent_multicast);
        }
        step.card.frames.push(Frame { bytes, loopback: offload.loopback == headers.destination });
        Ok(())
    }

    /// Puts a frame into the next receive request; without one it is dropped.
    fn take_frame(&mut self, step: &mut Step<'_>, bytes: &[u8], headers: &Headers, hash: u32) {
        let Some(request) = self.take_receive(step, None) else {
            step.card.trace.line(format_args!("QP {:#x}: no receive request, dropped", self.qpn));
            if let Some(ethernet) = &mut step.card.port.ethernet {
                ethernet.counters.dropped = ethernet.counters.dropped.wrapping_add(1);
            }
            return;
        };
        let tag = headers.tag.filter(|_| !self.context.keeps_tags());
        let mut shorter = Vec::new();
        let bytes = if tag.is_some() {
            shorter.extend_from_slice(bytes);
            frame::remove_tag(&mut shorter);
            &shorter
        } else {
            bytes
        };
        let error = if bytes.len() as u64 > request.length() {
            Some(Error::LocalLength)
        } else {
            let user = self.receive_user(step, None);
            let written = scatter(step.card, user, &request.elements, 0, bytes);
            written.err().map(|error| {
                step.card.trace.line(format_args!("QP {:#x} RQ [{}]: {error}", self.qpn, request.index));
                Error::LocalProtection
            })
        };
        if let Some(error) = error {
            self.receive_failed(step, &request, None, error);
            return self.fail(step);
        }
        // Tags may have moved everything.
        let ip = Headers::parse(bytes).and_then(|headers| headers.ip);
        let network = ip.is_some_and(|ip| frame::network_is_right(bytes, &ip));
        let entry = Cqe::Frame(FrameCame {
            qpn: self.qpn,
            wqe: request.index,
            byte_count: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            hash,
            tag,
            ip,
            network_is_right: network,
            transport_is_right: network && ip.is_some_and(|ip| frame::transport_is_right(bytes, &ip)),
        });
        self.complete(step, self.context.cqn_receive(), &entry, true);
    }
}

impl Qps {
    /// Takes a frame from the fabric and gives it to those it is for.
    pub(crate) fn receive_frame(&mut self, step: &mut Step<'_>, bytes: &[u8]) {
        let Some(headers) = Headers::parse(bytes) else { return };
        if step.card.trace.on() {
            step.card.trace.line(format_args!("<- {}", Shown(&headers, bytes.len())));
        }
        let counters = &mut step.card.port.counters;
        counters.received_packets = counters.received_packets.wrapping_add(1);
        counters.received_bytes = counters.received_bytes.wrapping_add(bytes.len() as u64);
        let queues = steer(step, bytes, &headers);
        for qpn in queues {
            let (qpn, hash) = self.spread(qpn, bytes, &headers);
            let Some(qp) = self.pairs.get_mut(&qpn) else { continue };
            if qp.kind == Kind::Raw && qp.state.receives() {
                qp.take_frame(step, bytes, &headers, hash);
                self.wake(qpn);
            }
        }
    }

    /// The queue pair that stands for this one, and the hash that chose it.
    fn spread(&self, qpn: u32, bytes: &[u8], headers: &Headers) -> (u32, u32) {
        let spreading = self.pairs.get(&qpn).filter(|qp| qp.kind == Kind::Rss && qp.state.receives());
        let Some(rss) = spreading.and_then(|qp| qp.context.rss()) else { return (qpn, 0) };
        let hash = rss::hash(&rss.key, rss.flags, bytes, headers);
        let queues = 1_u32.checked_shl(rss.log_queues.into()).unwrap_or(1);
        (rss.base_qpn.wrapping_add(hash & (queues - 1)), hash)
    }
}

/// The queue pairs of a frame, if the port's filters let it in.
fn steer(step: &mut Step<'_>, bytes: &[u8], headers: &Headers) -> Vec<u32> {
    let destination = headers.destination;
    let steering = if is_group(destination) { Steering::Multicast } else { Steering::Unicast };
    let found = multicast::members(step.card, Protocol::Ethernet, &steering_key(steering, destination), None);
    let Some(ethernet) = &mut step.card.port.ethernet else { return Vec::new() };
    let counters = &mut ethernet.counters;
    count(destination, &mut counters.received_broadcast, &mut counters.received_multicast);
    let tag = if headers.tag.is_some() { 4 } else { 0 };
    if ethernet.max_frame != 0 && bytes.len() + FCS - tag > usize::from(ethernet.max_frame) {
        counters.too_long = counters.too_long.wrapping_add(1);
        return Vec::new();
    }
    let promiscuous = &ethernet.promiscuous[steering as usize];
    let vlan = headers.tag.map(|(_, tag)| tag & 0xfff).filter(|vlan| *vlan != 0);
    let filtered = vlan.is_some_and(|vlan| !ethernet.takes_vlan(vlan))
        || steering == Steering::Multicast && !ethernet.takes_group(destination);
    match found {
        _ if filtered && promiscuous.is_empty() => Vec::new(),
        found if found.is_empty() => promiscuous.clone(),
        found => found,
    }
}

/// Counts a frame to everybody or to a group.
fn count(destination: Mac, broadcast: &mut u64, multicast: &mut u64) {
    if destination == BROADCAST {
        *broadcast = broadcast.wrapping_add(1);
    } else if is_group(destination) {
        *multicast = multicast.wrapping_add(1);
    }
}

/// A frame in a line of the trace.
struct Shown<'a>(&'a Headers, usize);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(Headers { destination, source, tag, kind, .. }, length) = self;
        write!(f, "frame {source:02x?} -> {destination:02x?} type {kind:#06x}, {length} bytes")?;
        match tag {
            Some((_, tag)) => write!(f, ", VLAN {}", tag & 0xfff),
            None => Ok(()),
        }
    }
}
