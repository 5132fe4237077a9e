//! What the slots of a send queue have room for.

use super::{CHUNK, DATAGRAM, SEGMENT};
use crate::types::QpType;

/// Where a send queue's requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// To the one peer.
    Connected,
    /// Each to an address of its own, with so many bytes at the most.
    Datagrams { mtu: u32 },
    /// To shared receive queues of the one peer.
    Xrc,
}

/// The longest datagram that any port takes, until the port is known.
const MAX_MTU: u32 = 4096;

/// The longest request: six bits hold its size in segments.
const LONGEST: usize = 63 * SEGMENT;

/// What a send queue's slots have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Limits {
    pub(in super::super) kind: Kind,
    /// Log2 of the bytes of a slot.
    pub(in super::super) log2_size: u32,
    pub(in super::super) max_sge: u32,
    pub(in super::super) max_inline: u32,
}

impl Limits {
    /// For a queue of this kind with room for so many elements or inline bytes; nothing where no slot is so large.
    pub(in super::super) fn new(qp_type: QpType, max_sge: u32, max_inline: u32) -> Option<Self> {
        if max_sge.max(max_inline) as usize > LONGEST {
            return None;
        }
        let (kind, head, least) = match qp_type {
            QpType::UD => (Kind::Datagrams { mtu: MAX_MTU }, DATAGRAM, 0),
            // A remote address; an atomic has another segment and one element.
            QpType::RC => (Kind::Connected, SEGMENT, 3 * SEGMENT),
            QpType::XRC_SEND => (Kind::Xrc, SEGMENT, 3 * SEGMENT),
            _ => (Kind::Connected, SEGMENT, 0),
        };
        // An inline segment has a header of 4 bytes and ends where its chunk does.
        let before = (SEGMENT + head) % CHUNK;
        let inline = max_inline as usize;
        let inline = (inline + 4 * (inline + before).div_ceil(CHUNK - 4)).next_multiple_of(SEGMENT);
        // Every slot has room for an element.
        let data = inline.max(max_sge.max(1) as usize * SEGMENT);
        // Binding a window takes two segments.
        let size = SEGMENT + (head + data).max(least).max(2 * SEGMENT);
        if size > LONGEST {
            return None;
        }
        let slot = size.max(CHUNK).next_power_of_two();
        // What there is room for, which may be more than was asked for.
        let data = slot.min(LONGEST) - SEGMENT - head;
        Some(Self {
            kind,
            log2_size: slot.trailing_zeros(),
            max_sge: (data / SEGMENT) as u32,
            max_inline: (data - 4 * data.div_ceil(CHUNK)) as u32,
        })
    }

    /// Segments that a request may have.
    pub(super) fn segments(&self) -> usize {
        (1 << self.log2_size).min(LONGEST) / SEGMENT
    }
}
