//! Send and receive requests.

use super::attributes::{Global, Path};
use crate::fabric::packet::{Bth, Deth, Grh, Lrh, Operation};

/// A send request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// Its index in the queue; the completion repeats it.
    pub index: u16,
    /// The card's own opcode; the completion repeats it.
    pub opcode: u8,
    /// Whether it wants a completion.
    pub signaled: bool,
    /// Whether the peer's completion is a solicited event.
    pub solicited: bool,
    /// Whether it waits for earlier reads and atomics.
    pub fence: bool,
    /// Whether it waits for all earlier requests.
    pub strong_order: bool,
    /// Whether its packets must not leave the card.
    pub force_loopback: bool,
    /// The shared receive queue at the peer, for XRC.
    pub srqn: u32,
    /// What to do.
    pub work: Work,
    /// The data.
    pub data: Data,
}

/// What a send request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    Nop,
    /// Send a message.
    Message {
        /// What its last packet has besides data.
        tail: Tail,
        /// The destination, for datagrams.
        datagram: Option<Box<Datagram>>,
    },
    /// Write to the peer's memory.
    Write {
        /// Virtual address at the peer.
        address: u64,
        /// Key at the peer.
        rkey: u32,
        /// Immediate data.
        immediate: Option<u32>,
    },
    /// Read the peer's memory.
    Read {
        /// Virtual address at the peer.
        address: u64,
        /// Key at the peer.
        rkey: u32,
    },
    /// Execute an atomic operation at the peer.
    Atomic {
        /// Which one.
        operation: Operation,
        /// Virtual address at the peer.
        address: u64,
        /// Key at the peer.
        rkey: u32,
        /// The operand that is stored or added.
        swap_add: u64,
        /// The operand that is compared.
        compare: u64,
        /// Masks of the two operands.
        masks: [u64; 2],
    },
    /// An operation without a peer, which the card executes by itself: [`Adapter::execute`](super::Adapter::execute).
    Local,
}

impl Work {
    /// Whether the answer carries data, not a mere acknowledgement.
    pub(crate) fn fetches(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Atomic { .. })
    }
}

/// What the last packet of a message has besides data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Nothing,
    /// Immediate data.
    Immediate(u32),
    /// A key for the peer to invalidate.
    Invalidate(u32),
}

/// The destination of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram {
    /// An address vector.
    Addressed {
        /// The path.
        path: Path,
        /// The global route. Ethernet uses it even if `path` has no GRH; InfiniBand ignores it.
        global: Global,
        /// Protection domain of the address handle.
        pd: u32,
        /// Destination queue pair.
        qpn: u32,
        /// Q_Key; with the top bit set, the sending queue pair's is used.
        qkey: u32,
        /// Whether the packet must not leave the card.
        force_loopback: bool,
    },
    /// Headers that the driver built.
    Built {
        /// Local route header.
        lrh: Lrh,
        /// Global route header.
        grh: Option<Grh>,
        /// Base transport header.
        bth: Bth,
        /// Datagram extended header.
        deth: Deth,
    },
}

/// The data of a send request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// Its pieces.
    pub elements: Vec<Element>,
    /// Their length in bytes.
    pub length: u64,
}

/// A piece of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// The bytes themselves.
    Inline(Vec<u8>),
    /// Memory behind a key.
    Memory {
        /// The key.
        lkey: u32,
        /// Virtual address.
        address: u64,
        /// Length in bytes.
        length: u32,
    },
}

/// A receive request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receive {
    /// Its index in the queue; the completion repeats it.
    pub index: u16,
    /// Its buffers.
    pub elements: Vec<Element>,
}

impl Send {
    /// A request of which nothing is known but its index.
    pub(crate) fn unreadable(index: u16) -> Self {
        Self {
            index,
            opcode: 0,
            signaled: true,
            solicited: false,
            fence: false,
            strong_order: false,
            force_loopback: false,
            srqn: 0,
            work: Work::Nop,
            data: Data::default(),
        }
    }
}

impl Element {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Memory { length, .. } => u64::from(*length),
        }
    }
}

impl Receive {
    /// The length of its buffers in bytes.
    pub fn length(&self) -> u64 {
        self.elements.iter().map(Element::length).sum()
    }
}
