//! Attributes of queue pairs.

use std::time::Duration;

use super::key::User;
use crate::fabric::{ethernet::Mac, packet::Service};

/// The kind of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reliable connection.
    Rc,
    /// Unreliable connection.
    Uc,
    /// Unreliable datagram.
    Ud,
    /// Extended reliable connection, either side.
    Xrc,
    /// Management datagrams; the driver builds the headers.
    Management,
    /// Whole Ethernet frames. The transport only keeps its state and completes its requests.
    Frames,
}

impl Kind {
    /// The transport service of its packets.
    pub(crate) fn service(self) -> Service {
        match self {
            Self::Rc => Service::Rc,
            Self::Uc => Service::Uc,
            Self::Ud | Self::Management | Self::Frames => Service::Ud,
            Self::Xrc => Service::Xrc,
        }
    }

    /// Whether lost packets are sent again.
    pub(crate) fn is_reliable(self) -> bool {
        matches!(self, Self::Rc | Self::Xrc)
    }
}

/// The attributes of a queue pair (section 11.2.5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its kind.
    pub kind: Kind,
    /// Protection domain.
    pub pd: u32,
    /// Completion queue of send requests.
    pub send_cqn: u32,
    /// Completion queue of receive requests.
    pub receive_cqn: u32,
    /// Whether it has a receive queue of its own.
    pub has_receive_queue: bool,
    /// The shared receive queue, if it uses one.
    pub srqn: Option<u32>,
    /// XRC domain.
    pub xrcd: u16,
    /// The MTU of the path in bytes.
    pub mtu: usize,
    /// The length of the longest message in bytes.
    pub max_message: u64,
    /// Q_Key.
    pub qkey: u32,
    /// The peer of a connected queue pair.
    pub remote_qpn: u32,
    /// The path to the peer.
    pub path: Path,
    /// The PSN of the first request it sends.
    pub send_psn: u32,
    /// The PSN of the first request it expects.
    pub receive_psn: u32,
    /// The code of the time that a requester waits when there is no receive request (0 to 31).
    pub rnr_timer: u8,
    /// How long a requester waits for an answer; `None`: forever.
    pub ack_timeout: Option<Duration>,
    /// Retries after timeouts and sequence errors.
    pub retries: u8,
    /// Retries after "receiver not ready"; 7: without limit.
    pub rnr_retries: u8,
    /// Reads and atomics that may be outstanding as requester.
    pub reads_as_requester: usize,
    /// Reads and atomics that it accepts as responder.
    pub reads_as_responder: usize,
    /// Whether peers may read.
    pub remote_read: bool,
    /// Whether peers may write.
    pub remote_write: bool,
    /// Whether peers may execute atomic operations.
    pub remote_atomic: bool,
}

impl Attributes {
    /// The queue pair as the user of a key.
    pub(crate) fn user(&self, qpn: u32) -> User {
        User { qpn, pd: self.pd }
    }
}

/// A path to a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Destination LID.
    pub dlid: u16,
    /// The low bits of the source LID.
    pub path_bits: u8,
    /// Service level.
    pub sl: u8,
    /// The place of the P_Key in the port's table.
    pub pkey_index: u8,
    /// The global route, if packets have a GRH.
    pub grh: Option<Global>,
    /// What replaces LIDs on Ethernet.
    pub ethernet: EthernetPath,
}

/// The part of a path that replaces LIDs on Ethernet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EthernetPath {
    /// Destination address.
    pub destination: Mac,
    /// The place of the source address in the port's table.
    pub source_index: u8,
    /// The VLAN.
    pub vlan: Vlan,
}

/// The VLAN of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vlan {
    /// No tag.
    #[default]
    None,
    /// The VLAN at this place of the port's table, and the priority.
    Index(u8, u8),
    /// This tag.
    Tag(u16),
}

/// The global part of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// The place of the source GID in the port's table.
    pub sgid_index: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Traffic class.
    pub tclass: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Destination GID.
    pub dgid: [u8; 16],
}
