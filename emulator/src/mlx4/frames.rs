//! Ethernet frames: sent by queue pairs of a network device, received by those that steering selects.
//!
//! Drivers call this kind of steering B0: entries in the multicast table list the queue pairs of an address, unicast
//! as well as multicast. A queue pair for RSS passes each frame to one of several others.

use std::time::Duration;

use super::{
    adapter::Hardware,
    card::Card,
    cq::Cqs,
    cqe::{Cqe, FrameReceived},
    multicast::{self, Protocol},
    qp::Qps,
    qpc::Kind,
    rss,
    srq::Srqs,
    wqe::{Malformed, opcode, unknown},
};
use crate::{
    be,
    fabric::ethernet::{
        Frame, Mac,
        frame::{self, Headers},
        is_group,
        port::{Steering, steering_key},
    },
    transport::{Error, QueuePairs, Send, Step, User, gather, scatter},
};

const FCS: usize = 4;
const BROADCAST: Mac = [0xff; 6];

/// What the card does to a frame before it is sent (`struct mlx4_wqe_ctrl_seg`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offload {
    /// Fill in the checksum of the IP header.
    network_checksum: bool,
    /// Fill in the checksum of TCP or UDP.
    transport_checksum: bool,
    /// Insert a VLAN tag: type and tag.
    tag: Option<(u16, u16)>,
    /// Loop the frame back if it is for this address.
    loopback: Mac,
}

/// Decodes the control segment of a request to send a frame.
pub(crate) fn offload(control: &[u8], opcode: u8) -> Result<Offload, Malformed> {
    // Large segments are not a capability of this card.
    if opcode != opcode::SEND {
        return Err(unknown(opcode));
    }
    let flags = be::get32(control, 8);
    // With BlueFlame the number of the queue pair is in place of the tag.
    let kind = match control[6] {
        0x40 if control[4..6] != [0, 0] => Some(frame::CUSTOMER_TAG),
        0x80 if control[4..6] != [0, 0] => Some(frame::SERVICE_TAG),
        _ => None,
    };
    let mut loopback = Mac::default();
    loopback[..2].copy_from_slice(&control[8..10]);
    loopback[2..].copy_from_slice(&control[12..16]);
    Ok(Offload {
        network_checksum: flags & 1 << 4 != 0,
        transport_checksum: flags & 1 << 5 != 0,
        tag: kind.map(|kind| (kind, be::get16(control, 4))),
        loopback,
    })
}

/// Sends a frame.
pub(crate) fn send(
    hardware: &mut Hardware<'_>,
    user: User,
    send: &Send,
    offload: &Offload,
) -> Result<(), Error> {
    let longest = u64::from(u16::MAX);
    if send.data.length > longest {
        return Err(Error::LocalLength);
    }
    let gathered = gather(hardware, user, &send.data.elements, 0, send.data.length);
    let card = &mut *hardware.card;
    let mut bytes = gathered.map_err(|error| {
        card.trace.line(format_args!("QP {:#x} SQ [{}]: {error}", user.qpn, send.index));
        Error::LocalProtection
    })?;
    frame::fill_checksums(&mut bytes, offload.network_checksum, offload.transport_checksum);
    if let Some((kind, tag)) = offload.tag {
        frame::insert_tag(&mut bytes, kind, tag);
    }
    let Some(headers) = Headers::parse(&bytes) else { return Err(Error::LocalLength) };
    bytes.resize(bytes.len().max(frame::SHORTEST), 0);
    if card.trace.on() {
        card.trace.line(format_args!("-> {}", Shown(&headers, bytes.len())));
    }
    let active = card.port.is_active();
    let port = &mut card.port;
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
    card.frames.push(Frame { bytes, loopback: offload.loopback == headers.destination });
    Ok(())
}

/// Takes a frame from the fabric and passes it to the queue pairs that it is for.
pub(crate) fn receive(
    card: &mut Card,
    cqs: &mut Cqs,
    srqs: &mut Srqs,
    qps: &mut Qps,
    now: Duration,
    bytes: &[u8],
) {
    let Some(headers) = Headers::parse(bytes) else { return };
    if card.trace.on() {
        card.trace.line(format_args!("<- {}", Shown(&headers, bytes.len())));
    }
    let counters = &mut card.port.counters;
    counters.received_packets = counters.received_packets.wrapping_add(1);
    counters.received_bytes = counters.received_bytes.wrapping_add(bytes.len() as u64);
    for qpn in steer(card, bytes, &headers) {
        let (qpn, hash) = spread(qps, qpn, bytes, &headers);
        let is_raw = qps.queues.get(qpn).is_some_and(|queue| queue.kind == Kind::Raw);
        if is_raw && qps.pairs.state(qpn).receives() {
            let Qps { pairs, queues } = qps;
            let mut hardware = Hardware { card, cqs, srqs, queues };
            receive_on(&mut hardware, pairs, now, qpn, bytes, &headers, hash);
            pairs.wake(qpn);
        }
    }
}

/// Puts a frame into the next receive request of a queue pair, or drops it if there is none.
fn receive_on(
    hardware: &mut Hardware<'_>,
    pairs: &mut QueuePairs,
    now: Duration,
    qpn: u32,
    bytes: &[u8],
    headers: &Headers,
    hash: u32,
) {
    let Some(qp) = pairs.get_mut(qpn) else { return };
    let keeps_tags = hardware.queues.get(qpn).is_some_and(|queue| queue.context.keeps_tags());
    let step = &mut Step { adapter: hardware, now, out: &mut Vec::new() };
    let Some(request) = qp.take_receive(step, None) else {
        step.trace(format_args!("QP {qpn:#x}: no receive request, frame dropped"));
        if let Some(ethernet) = &mut step.adapter.port_mut().ethernet {
            ethernet.counters.dropped = ethernet.counters.dropped.wrapping_add(1);
        }
        return;
    };
    let tag = headers.tag.filter(|_| !keeps_tags);
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
        let user = qp.receive_user(step, None);
        scatter(step.adapter, user, &request.elements, 0, bytes).err().map(|error| {
            step.trace(format_args!("QP {qpn:#x} RQ [{}]: {error}", request.index));
            Error::LocalProtection
        })
    };
    if let Some(error) = error {
        qp.receive_failed(step, &request, None, error);
        return qp.fail(step);
    }
    // Removing the tag may have moved the IP header.
    let ip = Headers::parse(bytes).and_then(|headers| headers.ip);
    let network = ip.is_some_and(|ip| frame::network_is_right(bytes, &ip));
    let entry = Cqe::Frame(FrameReceived {
        qpn,
        wqe: request.index,
        byte_count: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        hash,
        tag,
        ip,
        network_is_right: network,
        transport_is_right: network && ip.is_some_and(|ip| frame::transport_is_right(bytes, &ip)),
    });
    let cqn = qp.receive_cqn();
    if hardware.cqs.post(hardware.card, now, cqn, &entry, true).is_err() {
        qp.completion_lost(&mut Step { adapter: hardware, now, out: &mut Vec::new() });
    }
}

/// The queue pair that receives a frame in place of `qpn`, and the hash that selected it.
fn spread(qps: &Qps, qpn: u32, bytes: &[u8], headers: &Headers) -> (u32, u32) {
    let spreading = qps.queues.get(qpn).filter(|queue| queue.kind == Kind::Rss);
    let spreading = spreading.filter(|_| qps.pairs.state(qpn).receives());
    let Some(rss) = spreading.and_then(|queue| queue.context.rss()) else { return (qpn, 0) };
    let hash = rss::hash(&rss.key, rss.flags, bytes, headers);
    let queues = 1_u32.checked_shl(rss.log_queues.into()).unwrap_or(1);
    (rss.base_qpn.wrapping_add(hash & (queues - 1)), hash)
}

/// The queue pairs that a frame is for, if the port's filters accept it.
fn steer(card: &mut Card, bytes: &[u8], headers: &Headers) -> Vec<u32> {
    let destination = headers.destination;
    let steering = if is_group(destination) { Steering::Multicast } else { Steering::Unicast };
    let found = multicast::members(card, Protocol::Ethernet, &steering_key(steering, destination), None);
    let Some(ethernet) = &mut card.port.ethernet else { return Vec::new() };
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

/// Counts a broadcast or multicast frame.
fn count(destination: Mac, broadcast: &mut u64, multicast: &mut u64) {
    if destination == BROADCAST {
        *broadcast = broadcast.wrapping_add(1);
    } else if is_group(destination) {
        *multicast = multicast.wrapping_add(1);
    }
}

/// Describes a frame for the trace.
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
