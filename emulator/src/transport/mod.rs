//! InfiniBand transport: queue pairs, and the packets that they exchange.
//!
//! Nothing here knows the formats of a card. A front end such as [`mlx4`](crate::mlx4) implements [`Adapter`]: it
//! decodes requests from its queues, translates keys, and encodes completions and events. The transport decides what is
//! sent, received, retried, executed and completed.
//!
//! | file | what it holds |
//! |---|---|
//! | `adapter` | what the transport needs from a card |
//! | `attributes` | attributes of a queue pair, its path included |
//! | `request` | send and receive requests |
//! | `completion` | completions and asynchronous events |
//! | `key` | memory keys: who may access what, and why not |
//! | `data` | payload read from and written to the elements of requests |
//! | `headers` | route headers built from a path |
//! | `qp` | the states of a queue pair and its transitions |
//! | `pairs` | all queue pairs: which of them have work, and which one a packet is for |
//! | `requester` | sends requests, takes acknowledgements, retries |
//! | `responder` | executes requests and acknowledges them |
//! | `datagram` | sends and receives datagrams |
//! | `text` | requests in words, for the trace |
//!
//! Time is an argument, `now`, counted from an arbitrary start. Nothing here sleeps or waits.
//!
//! Section numbers are those of the InfiniBand Architecture Specification, volume 1.

mod adapter;
mod attributes;
mod completion;
mod data;
mod datagram;
mod headers;
mod key;
mod pairs;
mod qp;
mod request;
mod requester;
mod responder;
#[cfg(test)]
mod tests;
mod text;

use std::{fmt, time::Duration};

pub use adapter::{Adapter, Fetched, Incident, SharedQueue};
pub use attributes::{Attributes, EthernetPath, Global, Kind, Path, Vlan};
pub use completion::{Completion, CqFull, Error, Failed, QpEvent, Received, ReceivedKind, Sent};
pub use data::{gather, scatter};
pub use key::{Access, KeyError, Right, User};
pub use pairs::QueuePairs;
pub use qp::{Progress, Qp, State, Transition};
pub use request::{Data, Datagram, Element, Receive, Send, Tail, Work};
pub use text::Elements;

use crate::fabric::packet::Packet;

/// When there is work to do without a doorbell or a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Now,
    /// At this time.
    At(Duration),
    /// Not before the next doorbell or packet.
    Idle,
}

impl Next {
    /// The earlier of the two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now, _) | (_, Self::Now) => Self::Now,
            (Self::At(one), Self::At(two)) => Self::At(one.min(two)),
            (at @ Self::At(_), Self::Idle) | (Self::Idle, at) => at,
        }
    }
}

/// What every part of the transport needs while it works.
pub struct Step<'a> {
    /// The card.
    pub adapter: &'a mut dyn Adapter,
    /// The time.
    pub now: Duration,
    /// Receives the packets to be sent.
    pub out: &'a mut Vec<Packet>,
}

impl Step<'_> {
    /// Prints a line in the card's trace.
    pub fn trace(&mut self, line: fmt::Arguments<'_>) {
        self.adapter.trace().line(line);
    }

    /// Whether the card has a trace. Callers check it before they do work that only the trace needs.
    pub fn is_traced(&mut self) -> bool {
        self.adapter.trace().on()
    }

    /// Sends a packet if the port is active, and drops it otherwise.
    fn send(&mut self, packet: Packet) {
        if self.is_traced() {
            self.trace(format_args!("-> {packet}"));
        }
        let port = self.adapter.port_mut();
        let active = port.is_active();
        let counters = &mut port.counters;
        if active {
            counters.sent_packets = counters.sent_packets.wrapping_add(1);
            counters.sent_bytes = counters.sent_bytes.wrapping_add(packet.bytes() as u64);
            self.out.push(packet);
        } else {
            counters.send_discards = counters.send_discards.wrapping_add(1);
        }
    }
}
