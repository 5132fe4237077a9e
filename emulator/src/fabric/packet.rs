//! Packets between ports, with the names of the InfiniBand Architecture Specification, volume 1, chapters 7 to 9.
//!
//! A packet is a structure, not bytes: nothing between two cards of this fabric needs the wire format.

use std::fmt;

use crate::fabric::ethernet;

/// Bytes of a global route header. Every received datagram has room for one in front of its payload.
pub const GRH_BYTES: usize = 40;
/// The first multicast LID.
pub const MULTICAST_LID: u16 = 0xc000;
/// The queue pair number that stands for all members of a multicast group.
pub const MULTICAST_QPN: u32 = 0xff_ffff;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Local route header.
    pub lrh: Lrh,
    /// Global route header.
    pub grh: Option<Grh>,
    /// Base transport header.
    pub bth: Bth,
    /// Extended headers.
    pub extended: Extended,
    /// The payload, without padding.
    pub payload: Vec<u8>,
    /// Whether its invariant CRC is wrong; the receiving port drops it.
    pub bad_icrc: bool,
}

/// Local route header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lrh {
    /// Service level.
    pub sl: u8,
    /// Source LID.
    pub slid: u16,
    /// Destination LID; unused on Ethernet.
    pub dlid: u16,
    /// Whether it must not leave the card.
    pub force_loopback: bool,
    /// The header that replaces this one on Ethernet.
    pub ethernet: Option<ethernet::Header>,
}

/// Global route header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grh {
    /// Traffic class.
    pub tclass: u8,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source GID.
    pub sgid: [u8; 16],
    /// Destination GID.
    pub dgid: [u8; 16],
}

impl Grh {
    /// The header as it is written to a receive buffer. `payload` is the length of what follows it, with all transport
    /// headers and the CRC.
    pub fn bytes(&self, payload: u16) -> [u8; GRH_BYTES] {
        const IP_VERSION: u32 = 6;
        const NEXT_HEADER_IBA: u8 = 0x1b;
        let mut bytes = [0; GRH_BYTES];
        let first = IP_VERSION << 28 | u32::from(self.tclass) << 20 | self.flow_label & 0xf_ffff;
        bytes[..4].copy_from_slice(&first.to_be_bytes());
        bytes[4..6].copy_from_slice(&payload.to_be_bytes());
        bytes[6] = NEXT_HEADER_IBA;
        bytes[7] = self.hop_limit;
        bytes[8..24].copy_from_slice(&self.sgid);
        bytes[24..].copy_from_slice(&self.dgid);
        bytes
    }
}

/// Base transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bth {
    /// What the packet is.
    pub opcode: Opcode,
    /// Solicited event: the receiver's completion also wakes those who wait for solicited completions only.
    pub solicited: bool,
    /// Partition key.
    pub pkey: u16,
    /// Destination queue pair.
    pub dest_qpn: u32,
    /// The requester asks for an acknowledgement.
    pub ack_request: bool,
    /// Packet sequence number.
    pub psn: Psn,
}

/// Extended headers. The opcode determines which ones exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// XRC extended header: the shared receive queue.
    pub xrceth: Option<u32>,
    /// Datagram extended header.
    pub deth: Option<Deth>,
    /// RDMA extended header.
    pub reth: Option<Reth>,
    /// Atomic extended header.
    pub atomic: Option<AtomicEth>,
    /// Acknowledge extended header.
    pub aeth: Option<Aeth>,
    /// Atomic acknowledge extended header: the original value.
    pub atomic_ack: Option<u64>,
    /// Immediate data.
    pub immediate: Option<u32>,
    /// Invalidate extended header: the key.
    pub ieth: Option<u32>,
}

/// Datagram extended header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deth {
    /// Queue key.
    pub qkey: u32,
    /// Source queue pair.
    pub src_qpn: u32,
}

/// RDMA extended header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reth {
    /// Virtual address.
    pub address: u64,
    /// Remote key.
    pub rkey: u32,
    /// DMA length: the length of the whole message in bytes.
    pub length: u32,
}

/// Atomic extended header, with the masks of the extended atomics of the ConnectX family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicEth {
    /// Virtual address.
    pub address: u64,
    /// Remote key.
    pub rkey: u32,
    /// The operand that is stored or added.
    pub swap_add: u64,
    /// The operand that is compared.
    pub compare: u64,
    /// Which bits are stored. For an addition, a 1 marks the top bit of a field, which passes no carry on.
    pub swap_add_mask: u64,
    /// Which bits are compared.
    pub compare_mask: u64,
}

/// Acknowledge extended header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aeth {
    /// Its syndrome.
    pub syndrome: Syndrome,
    /// Message sequence number: how many messages the responder has completed.
    pub msn: u32,
}

/// The syndrome of an acknowledgement (table 45 of the specification).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syndrome {
    /// Everything up to the PSN is done. Credits are not used.
    Ack,
    /// The receiver is not ready, with the code of the time to wait (0 to 31).
    RnrNak(u8),
    /// The request failed.
    Nak(Nak),
}

/// NAK codes (table 46 of the specification).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Nak {
    /// A packet is missing; the PSN is the expected one.
    PsnSequence = 0,
    /// The request is not valid.
    InvalidRequest = 1,
    /// The key does not permit it.
    RemoteAccess = 2,
    /// The responder failed for a reason of its own.
    RemoteOperational = 3,
}

/// Transport services, with the top three bits of their opcodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Service {
    /// Reliable connection.
    Rc = 0b000,
    /// Unreliable connection.
    Uc = 0b001,
    /// Unreliable datagram.
    Ud = 0b011,
    /// Extended reliable connection.
    Xrc = 0b101,
}

/// Operations, with the low five bits of their opcodes (table 38 of the specification).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Operation {
    SendFirst = 0,
    SendMiddle = 1,
    SendLast = 2,
    SendLastImmediate = 3,
    SendOnly = 4,
    SendOnlyImmediate = 5,
    WriteFirst = 6,
    WriteMiddle = 7,
    WriteLast = 8,
    WriteLastImmediate = 9,
    WriteOnly = 10,
    WriteOnlyImmediate = 11,
    ReadRequest = 12,
    ReadResponseFirst = 13,
    ReadResponseMiddle = 14,
    ReadResponseLast = 15,
    ReadResponseOnly = 16,
    Acknowledge = 17,
    AtomicAcknowledge = 18,
    CompareSwap = 19,
    FetchAdd = 20,
    SendLastInvalidate = 22,
    SendOnlyInvalidate = 23,
    /// A vendor extension of ConnectX, not in the specification.
    MaskedCompareSwap = 30,
    /// A vendor extension of ConnectX, not in the specification.
    MaskedFetchAdd = 31,
}

/// The opcode of the base transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opcode {
    /// The transport service.
    pub service: Service,
    /// The operation.
    pub operation: Operation,
}

impl Operation {
    /// Whether it is the first or only packet of a message.
    pub fn begins(self) -> bool {
        use Operation::*;
        !matches!(
            self,
            SendMiddle
                | SendLast
                | SendLastImmediate
                | SendLastInvalidate
                | WriteMiddle
                | WriteLast
                | WriteLastImmediate
        )
    }

    /// Whether more packets of the message follow.
    pub fn continues(self) -> bool {
        use Operation::*;
        matches!(
            self,
            SendFirst | SendMiddle | WriteFirst | WriteMiddle | ReadResponseFirst | ReadResponseMiddle
        )
    }

    /// Whether it is part of a send.
    pub fn is_send(self) -> bool {
        use Operation::*;
        matches!(
            self,
            SendFirst
                | SendMiddle
                | SendLast
                | SendLastImmediate
                | SendOnly
                | SendOnlyImmediate
                | SendLastInvalidate
                | SendOnlyInvalidate
        )
    }

    /// Whether it is part of an RDMA write.
    pub fn is_write(self) -> bool {
        use Operation::*;
        matches!(
            self,
            WriteFirst | WriteMiddle | WriteLast | WriteLastImmediate | WriteOnly | WriteOnlyImmediate
        )
    }

    /// Whether it is part of an RDMA read response.
    pub fn is_read_response(self) -> bool {
        use Operation::*;
        matches!(self, ReadResponseFirst | ReadResponseMiddle | ReadResponseLast | ReadResponseOnly)
    }

    /// Whether it is an atomic request.
    pub fn is_atomic(self) -> bool {
        use Operation::*;
        matches!(self, CompareSwap | FetchAdd | MaskedCompareSwap | MaskedFetchAdd)
    }

    /// Whether responders send it.
    pub fn is_response(self) -> bool {
        self.is_read_response() || matches!(self, Operation::Acknowledge | Operation::AtomicAcknowledge)
    }
}

/// A packet sequence number: 24 bits that wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Psn(u32);

impl Psn {
    /// The low 24 bits of `psn`.
    pub fn new(psn: u32) -> Self {
        Self(psn & 0xff_ffff)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The PSN `packets` later.
    #[must_use]
    pub fn plus(self, packets: u32) -> Self {
        Self::new(self.0.wrapping_add(packets))
    }

    /// The PSN before.
    #[must_use]
    pub fn before(self) -> Self {
        Self::new(self.0.wrapping_sub(1))
    }

    /// How many packets `self` is after `other`; negative if it is before it, which is the nearer half of the circle.
    pub fn since(self, other: Self) -> i32 {
        let distance = self.0.wrapping_sub(other.0) << 8;
        distance.cast_signed() >> 8
    }
}

impl Packet {
    /// The length in bytes of what follows the GRH: base and extended headers, payload with padding, ICRC.
    pub fn transport_bytes(&self) -> usize {
        const BTH: usize = 12;
        const ICRC: usize = 4;
        let extended = &self.extended;
        BTH + ICRC
            + extended.xrceth.map_or(0, |_| 4)
            + extended.deth.map_or(0, |_| 8)
            + extended.reth.map_or(0, |_| 16)
            + extended.atomic.map_or(0, |_| 28)
            + extended.aeth.map_or(0, |_| 4)
            + extended.atomic_ack.map_or(0, |_| 8)
            + extended.immediate.map_or(0, |_| 4)
            + extended.ieth.map_or(0, |_| 4)
            + self.payload.len().next_multiple_of(4)
    }

    /// Its length on the wire in bytes, without link framing.
    pub fn bytes(&self) -> usize {
        const LRH: usize = 8;
        const VCRC: usize = 2;
        LRH + VCRC + self.grh.map_or(0, |_| GRH_BYTES) + self.transport_bytes()
    }

    /// Whether it is for a multicast group.
    pub fn is_multicast(&self) -> bool {
        self.lrh.dlid >= MULTICAST_LID && self.lrh.dlid != 0xffff
            || self.lrh.dlid == 0 && self.grh.is_some_and(|grh| grh.dgid[0] == 0xff)
    }
}

impl fmt::Display for Psn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#08x}", self.0)
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lrh, bth, extended, .. } = self;
        write!(f, "{:?} {:?} {} -> {}", bth.opcode.service, bth.opcode.operation, lrh.slid, lrh.dlid)?;
        write!(f, " QP {:#x} PSN {}", bth.dest_qpn, bth.psn)?;
        if bth.ack_request {
            f.write_str(" ack")?;
        }
        if bth.solicited {
            f.write_str(" solicited")?;
        }
        if let Some(srqn) = extended.xrceth {
            write!(f, " SRQ {srqn:#x}")?;
        }
        if let Some(Deth { qkey, src_qpn }) = extended.deth {
            write!(f, " from QP {src_qpn:#x} Q_Key {qkey:#x}")?;
        }
        if let Some(Reth { address, rkey, length }) = extended.reth {
            write!(f, " VA {address:#x} R_Key {rkey:#x} length {length}")?;
        }
        if let Some(atomic) = extended.atomic {
            write!(f, " VA {:#x} R_Key {:#x}", atomic.address, atomic.rkey)?;
            write!(f, " swap/add {:#x} compare {:#x}", atomic.swap_add, atomic.compare)?;
        }
        if let Some(Aeth { syndrome, msn }) = extended.aeth {
            write!(f, " {syndrome:?} MSN {msn}")?;
        }
        if let Some(was) = extended.atomic_ack {
            write!(f, " was {was:#x}")?;
        }
        if let Some(immediate) = extended.immediate {
            write!(f, " immediate {immediate:#x}")?;
        }
        if let Some(key) = extended.ieth {
            write!(f, " invalidate {key:#x}")?;
        }
        if !self.payload.is_empty() {
            write!(f, " {} bytes", self.payload.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psns_wrap() {
        let last = Psn::new(0xff_ffff);
        assert_eq!(last.plus(1), Psn::new(0));
        assert_eq!(Psn::new(0).before(), last);
        assert_eq!(Psn::new(2).since(last), 3);
        assert_eq!(last.since(Psn::new(2)), -3);
        assert_eq!(Psn::new(0x80_0000).since(Psn::new(0)), -0x80_0000);
    }

    #[test]
    fn a_grh_in_a_buffer_is_the_wire_format() {
        let grh = Grh { tclass: 0x12, flow_label: 0x3_4567, hop_limit: 9, sgid: [1; 16], dgid: [2; 16] };
        let bytes = grh.bytes(0x28);
        assert_eq!(bytes[..8], [0x61, 0x23, 0x45, 0x67, 0, 0x28, 0x1b, 9]);
        assert_eq!((bytes[8], bytes[23], bytes[24], bytes[39]), (1, 1, 2, 2));
    }
}
