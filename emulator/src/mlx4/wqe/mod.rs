//! Work queue entries, decoded (include/linux/mlx4/qp.h; rdma-core's providers/mlx4 writes the same).

mod parse;
mod text;

pub(crate) use self::{
    parse::{Segments, receive, send, unknown},
    text::Shown,
};
use super::{frames, mpt::Rights};
use crate::be;

/// Size of a control segment.
pub(crate) const CONTROL: usize = 16;
/// Hardware may begin to read a request at any multiple of this size; unused chunks are stamped.
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

/// The first half of the control segment, which is needed to fetch a request.
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

    /// The length of the request in bytes.
    pub(crate) fn bytes(self) -> usize {
        (self.words[1] & 0x3f) as usize * 16
    }

    /// The counter of the request, used by BlueFlame.
    pub(crate) fn counter(self) -> u16 {
        (self.words[0] >> 8) as u16
    }

    /// The queue pair, used by BlueFlame.
    pub(crate) fn qpn(self) -> u32 {
        self.words[1] >> 8
    }
}

/// What a request asks the card itself to do: [`Work::Local`](crate::transport::Work::Local) for the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    Bind(Bind),
    FastRegister(FastRegister),
    Invalidate { key: u32 },
    Frame(frames::Offload),
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

/// What is wrong with a send request that a real card would refuse or misread.
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
