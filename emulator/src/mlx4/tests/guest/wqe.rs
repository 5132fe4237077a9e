//! Requests, as a program builds them.

use super::{super::super::mpt::INVALID_LKEY, Qp};
use crate::be::{put32, put64};

pub(crate) fn elements(sges: &[(u32, u64, u32)], room: usize) -> Vec<u8> {
    let mut bytes = vec![0; 16 * (sges.len() + usize::from(sges.len() < room))];
    for (at, (lkey, address, length)) in sges.iter().enumerate() {
        put32(&mut bytes, at * 16, *length);
        put32(&mut bytes, at * 16 + 4, *lkey);
        put64(&mut bytes, at * 16 + 8, *address);
    }
    if sges.len() < room {
        put32(&mut bytes, sges.len() * 16 + 4, INVALID_LKEY);
    }
    bytes
}

/// A request to be posted.
#[derive(Clone, Default)]
pub(crate) struct Wqe {
    pub(crate) opcode: u8,
    /// Signaled and solicited, as the control segment has them.
    pub(crate) flags: u32,
    pub(crate) fence: bool,
    pub(crate) immediate: u32,
    pub(crate) segments: Vec<u8>,
}

impl Wqe {
    pub(crate) fn new(opcode: u8) -> Self {
        Self { opcode, flags: 3 << 2, ..Self::default() }
    }

    pub(crate) fn unsignaled(mut self) -> Self {
        self.flags &= !(3 << 2);
        self
    }

    pub(crate) fn solicited(mut self) -> Self {
        self.flags |= 1 << 1;
        self
    }

    pub(crate) fn fenced(mut self) -> Self {
        self.fence = true;
        self
    }

    pub(crate) fn immediate(mut self, immediate: u32) -> Self {
        self.immediate = immediate;
        self
    }

    pub(crate) fn raddr(mut self, rkey: u32, address: u64) -> Self {
        self.segments.extend(address.to_be_bytes());
        self.segments.extend(rkey.to_be_bytes());
        self.segments.extend([0; 4]);
        self
    }

    pub(crate) fn words(mut self, words: &[u64]) -> Self {
        self.segments.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        self
    }

    pub(crate) fn sge(mut self, lkey: u32, address: u64, length: u32) -> Self {
        let length = if length == 0 { 0x8000_0000 } else { length };
        self.segments.extend(length.to_be_bytes());
        self.segments.extend(lkey.to_be_bytes());
        self.segments.extend(address.to_be_bytes());
        self
    }

    /// Inline data, cut at boundaries of 64 bytes.
    pub(crate) fn inline(mut self, mut data: &[u8]) -> Self {
        while !data.is_empty() {
            let at = 16 + self.segments.len() + 4;
            let part = data.len().min(64 - at % 64);
            self.segments.extend((1_u32 << 31 | part as u32).to_be_bytes());
            self.segments.extend(&data[..part]);
            data = &data[part..];
        }
        self.segments.resize(self.segments.len().next_multiple_of(16), 0);
        self
    }

    pub(crate) fn bytes(&self, qp: &Qp) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        let owner = if u32::from(qp.head) & 1 << qp.log_sq == 0 { 0 } else { 1 << 31 };
        put32(&mut bytes, 0, owner | u32::from(self.opcode));
        bytes[7] = (1 + self.segments.len() / 16) as u8 | if self.fence { 0x40 } else { 0 };
        put32(&mut bytes, 8, self.flags);
        put32(&mut bytes, 12, self.immediate);
        bytes.extend(&self.segments);
        bytes
    }
}
