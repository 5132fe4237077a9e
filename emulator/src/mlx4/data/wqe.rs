//! Work queue entries, decoded (include/linux/mlx4/qp.h; providers/mlx4 of rdma-core posts the same).

mod parse;
mod text;

pub(crate) use self::parse::{Segments, receive, send, unknown};
use super::{
    mpt::Rights,
    qpc::{Global, Path},
    raw,
};
use crate::{
    be,
    fabric::packet::{Bth, Deth, Grh, Lrh, Operation},
};

/// Bytes of a control segment.
pub(crate) const CONTROL: usize = 16;
/// Hardware may begin to read a request at any multiple of these bytes; unused ones are stamped.
pub(crate) const CHUNK: usize = 64;
/// The first word of a chunk that no request has used.
pub(crate) const STAMP: u32 = 0xffff_ffff;

const OWNER: u32 = 1 << 31;

/// Opcodes (`MLX4_OPCODE_*`).
pub(crate) mod opcode {
    pub(crate) const NOP: u8 = 0x00;
    pub(crate) const SEND_INVALIDATE: u8 = 0x01;
    pub(crate) const WRITE: u8 = 0x08;
    pub(crate) const WRITE_IMMEDIATE: u8 = 0x09;
    pub(crate) const SEND: u8 = 0x0a;
    pub(crate) const SEND_IMMEDIATE: u8 = 0x0b;
    pub(crate) const READ: u8 = 0x10;
    pub(crate) const COMPARE_SWAP: u8 = 0x11;
    pub(crate) const FETCH_ADD: u8 = 0x12;
    pub(crate) const MASKED_COMPARE_SWAP: u8 = 0x14;
    pub(crate) const MASKED_FETCH_ADD: u8 = 0x15;
    pub(crate) const BIND: u8 = 0x18;
    pub(crate) const FAST_REGISTER: u8 = 0x19;
    pub(crate) const INVALIDATE: u8 = 0x1b;
}

/// The control segment's first half: what has to be known to fetch a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    words: [u32; 2],
}

impl Head {
    pub(crate) fn new(words: [u32; 2]) -> Self {
        Self { words }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Self {
        Self { words: [be::get32(bytes, 0), be::get32(bytes, 4)] }
    }

    /// The owner bit.
    pub(crate) fn owner(self) -> bool {
        self.words[0] & OWNER != 0
    }

    /// Bytes of the request.
    pub(crate) fn bytes(self) -> usize {
        (self.words[1] & 0x3f) as usize * 16
    }

    /// The counter of the request, that BlueFlame needs.
    pub(crate) fn counter(self) -> u16 {
        (self.words[0] >> 8) as u16
    }

    /// The queue pair, that BlueFlame needs.
    pub(crate) fn qpn(self) -> u32 {
        self.words[1] >> 8
    }
}

/// A send request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Send {
    /// Its counter in the queue.
    pub(crate) index: u16,
    pub(crate) opcode: u8,
    pub(crate) signaled: bool,
    pub(crate) solicited: bool,
    pub(crate) fence: bool,
    /// Everything before it must be complete.
    pub(crate) strong_order: bool,
    pub(crate) force_loopback: bool,
    /// Of XRC: the shared receive queue at the other side.
    pub(crate) srqn: u32,
    pub(crate) work: Work,
    pub(crate) data: Data,
}

/// What a send request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Nop,
    Message { tail: Tail, datagram: Option<Box<Datagram>> },
    Write { address: u64, rkey: u32, immediate: Option<u32> },
    Read { address: u64, rkey: u32 },
    Atomic { operation: Operation, address: u64, rkey: u32, swap_add: u64, compare: u64, masks: [u64; 2] },
    Bind(Bind),
    FastRegister(FastRegister),
    Invalidate { key: u32 },
    Frame(raw::Offload),
}

/// What the last packet of a message has besides data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    Nothing,
    Immediate(u32),
    Invalidate(u32),
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datagram {
    /// By an address vector. Ethernet takes `global` whether or not the vector says that it has a GRH, and InfiniBand
    /// what it says: there nothing in the station's place means anything (libmlx4 leaves there what memory held).
    Addressed { path: Path, global: Global, pd: u32, qpn: u32, qkey: u32, force_loopback: bool },
    /// With headers that the driver built, on a queue pair for management.
    Built { lrh: Lrh, grh: Option<Grh>, bth: Bth, deth: Deth },
}

/// A request to bind a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) rights: Rights,
    pub(crate) type_2: bool,
    pub(crate) zero_based: bool,
    pub(crate) rkey: u32,
    pub(crate) lkey: u32,
    pub(crate) address: u64,
    pub(crate) length: u64,
}

/// A request to register memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FastRegister {
    pub(crate) rights: Rights,
    pub(crate) key: u32,
    /// DMA address of the list of pages.
    pub(crate) pages: u64,
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) page_shift: u8,
}

/// The data of a request: in it, or elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) elements: Vec<Element>,
    pub(crate) length: u64,
}

/// A piece of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Inline(Vec<u8>),
    Memory { lkey: u32, address: u64, length: u32 },
}

/// A receive request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receive {
    /// Its counter; of a shared receive queue its index.
    pub(crate) index: u16,
    pub(crate) elements: Vec<Element>,
}

impl Send {
    /// A request of which no more is known than its counter.
    pub(crate) fn unreadable(index: u16) -> Self {
        Self {
            index,
            opcode: opcode::NOP,
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
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Memory { length, .. } => u64::from(*length),
        }
    }
}

impl Receive {
    pub(crate) fn length(&self) -> u64 {
        self.elements.iter().map(Element::length).sum()
    }
}

/// What is wrong with a send request: a real card would refuse or misread it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

impl From<&str> for Malformed {
    fn from(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl From<String> for Malformed {
    fn from(what: String) -> Self {
        Self(what)
    }
}
