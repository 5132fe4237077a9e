//! Completion queue entries (include/linux/mlx4/cq.h, `struct mlx4_cqe` and `struct mlx4_err_cqe`).

use std::fmt;

use crate::{
    be,
    fabric::ethernet::frame::{CUSTOMER_TAG, Ip},
    transport::{Error, Failed, Received, ReceivedKind, Sent},
};

/// Size of an entry in bytes; a 64-byte entry has it in its second half.
pub(crate) const BYTES: usize = 32;
/// The offset of the byte with the owner bit.
pub(crate) const OWNER: usize = 0x1f;
/// The owner bit.
pub(crate) const OWNER_BIT: u8 = 0x80;

const IS_SEND: u8 = 0x40;
const OPCODE_ERROR: u8 = 0x1e;
const OPCODE_RESIZE: u8 = 0x16;
const GRH: u32 = 1 << 31;

/// A vendor syndrome that is not publicly known.
const UNKNOWN: u8 = 0;

/// A completion queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cqe {
    /// A send request is done.
    Sent(Sent),
    /// A message arrived.
    Received(Received),
    /// A message arrived at a queue pair for management.
    ManagementReceived(Received),
    /// An Ethernet frame arrived.
    Frame(FrameReceived),
    /// A request failed.
    Failed(Failed),
    /// The queue continues in its new buffer.
    Resized,
}

/// A received Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameReceived {
    pub qpn: u32,
    /// The counter of the receive request.
    pub wqe: u16,
    pub byte_count: u32,
    /// The hash that selected the queue.
    pub hash: u32,
    /// The VLAN tag that was removed from the frame: type and tag.
    pub tag: Option<(u16, u16)>,
    /// The frame's IP header.
    pub ip: Option<Ip>,
    pub network_is_right: bool,
    pub transport_is_right: bool,
}

/// Status bits of frames (`MLX4_CQE_STATUS_*`).
mod status {
    pub(super) const IPV4: u16 = 1 << 6;
    pub(super) const IPV4_FRAGMENT: u16 = 1 << 7;
    pub(super) const IPV6: u16 = 1 << 8;
    pub(super) const IPV4_OPTIONS: u16 = 1 << 9;
    pub(super) const TCP: u16 = 1 << 10;
    pub(super) const UDP: u16 = 1 << 11;
    pub(super) const IP_OK: u16 = 1 << 12;
}

/// A tag was removed (`MLX4_CQE_CVLAN_PRESENT_MASK`, `MLX4_CQE_SVLAN_PRESENT_MASK`).
const CUSTOMER_VLAN: u32 = 1 << 29;
const SERVICE_VLAN: u32 = 1 << 30;

/// Opcodes of received messages (`MLX4_RECV_OPCODE_*`).
mod received {
    pub(super) const WRITE_IMMEDIATE: u8 = 0;
    pub(super) const SEND: u8 = 1;
    pub(super) const SEND_IMMEDIATE: u8 = 2;
    pub(super) const SEND_INVALIDATE: u8 = 3;
}

/// The syndrome of an error (`MLX4_CQE_SYNDROME_*`).
pub(crate) fn syndrome(error: Error) -> u8 {
    match error {
        Error::LocalLength => 0x01,
        Error::LocalQpOperation => 0x02,
        Error::LocalProtection => 0x04,
        Error::Flushed => 0x05,
        Error::MemoryWindowBind => 0x06,
        Error::BadResponse => 0x10,
        Error::RemoteInvalidRequest => 0x12,
        Error::RemoteAccess => 0x13,
        Error::RemoteOperation => 0x14,
        Error::RetriesExceeded => 0x15,
        Error::RnrRetriesExceeded => 0x16,
    }
}

/// The vendor's syndrome that goes with an error, or 0 where none is known: the vendor has published no table.
///
/// | error | syndrome | seen in |
/// |---|---|---|
/// | retries exceeded | 0x81 | ConnectX: "status 0x15 vendor syndrome 81", Oracle's document 1614576.1 |
/// | remote access | 0x88 | ConnectX-2: "status 0x13 vendor syndrome 0x88", NVIDIA's forum, topic 207715 |
/// | flushed | 0xf9 | ConnectX-3: "vendor_err:0xf9", accelio's issue 181 |
/// | remote invalid request | 0x8a | ConnectX-4 or later: syndrome 0x12, charm's issue 2532 |
/// | local QP operation | 0x68 | ConnectX-4 or later: "synd 0x2 vend 0x68", UCX's issue 1151 |
/// | local protection, in a send queue | 0x51 | ConnectX-4 or later: "vendor_err 0x51", UCX's issue 7774 |
///
/// The later cards have the same numbers where both are known.
pub(crate) fn vendor_syndrome(error: Error, send: bool) -> u8 {
    match error {
        Error::RetriesExceeded => 0x81,
        Error::RemoteAccess => 0x88,
        Error::Flushed => 0xf9,
        Error::RemoteInvalidRequest => 0x8a,
        Error::LocalQpOperation => 0x68,
        Error::LocalProtection if send => 0x51,
        Error::LocalProtection
        | Error::LocalLength
        | Error::MemoryWindowBind
        | Error::BadResponse
        | Error::RemoteOperation
        | Error::RnrRetriesExceeded => UNKNOWN,
    }
}

impl Cqe {
    /// Encodes the entry, with an owner bit of 0.
    pub(crate) fn bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        match *self {
            Self::Sent(Sent { qpn, index, opcode, byte_count }) => {
                be::put32(&mut bytes, 0x00, qpn);
                be::put32(&mut bytes, 0x14, byte_count);
                be::put16(&mut bytes, 0x18, index);
                bytes[OWNER] = IS_SEND | opcode;
            }
            Self::Received(received) => {
                put_received(&mut bytes, &received);
            }
            Self::ManagementReceived(received) => {
                put_received(&mut bytes, &received);
                be::put32(&mut bytes, 0x04, received.pkey_index.into());
            }
            Self::Frame(frame) => {
                put_tag(&mut bytes, frame.qpn, frame.tag);
                be::put32(&mut bytes, 0x04, frame.hash);
                be::put16(&mut bytes, 0x10, frame.status());
                be::put32(&mut bytes, 0x14, frame.byte_count);
                be::put16(&mut bytes, 0x18, frame.wqe);
                be::put16(&mut bytes, 0x1a, if frame.transport_is_right { 0xffff } else { 0 });
                bytes[OWNER] = received::SEND;
            }
            Self::Failed(Failed { qpn, index, send, error, srqn }) => {
                be::put32(&mut bytes, 0x00, qpn);
                be::put32(&mut bytes, 0x08, srqn.unwrap_or(0));
                be::put16(&mut bytes, 0x18, index);
                bytes[0x1a] = vendor_syndrome(error, send);
                bytes[0x1b] = syndrome(error);
                bytes[OWNER] = OPCODE_ERROR | if send { IS_SEND } else { 0 };
            }
            Self::Resized => bytes[OWNER] = OPCODE_RESIZE,
        }
        bytes
    }
}

impl FrameReceived {
    fn status(&self) -> u16 {
        let Some(ip) = self.ip else { return 0 };
        let bits = [
            (ip.version == 4, status::IPV4),
            (ip.version == 6, status::IPV6),
            (ip.version == 4 && ip.fragment, status::IPV4_FRAGMENT),
            (ip.options, status::IPV4_OPTIONS),
            (ip.is_tcp(), status::TCP),
            (ip.is_udp(), status::UDP),
            (self.network_is_right, status::IP_OK),
        ];
        bits.into_iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit)
    }
}

/// Stores a time stamp (`struct mlx4_ts_cqe`): in place of the LID, and before the owner byte.
pub(crate) fn stamp(bytes: &mut [u8; BYTES], ticks: u64) {
    be::put32(bytes, 0x0c, (ticks >> 16) as u32);
    be::put16(bytes, 0x1d, ticks as u16);
}

fn put_received(bytes: &mut [u8; BYTES], received: &Received) {
    let (opcode, immediate) = match received.kind {
        ReceivedKind::Send => (received::SEND, 0),
        ReceivedKind::SendImmediate(immediate) => (received::SEND_IMMEDIATE, immediate),
        ReceivedKind::SendInvalidate(key) => (received::SEND_INVALIDATE, key),
        ReceivedKind::WriteImmediate(immediate) => (received::WRITE_IMMEDIATE, immediate),
    };
    let path_bits = u32::from(received.path_bits & 0x7f) << 24;
    let grh = if received.grh { GRH } else { 0 };
    let remote = received.srqn.unwrap_or(received.src_qpn) & 0xff_ffff;
    be::put32(bytes, 0x00, received.qpn);
    be::put32(bytes, 0x04, immediate);
    be::put32(bytes, 0x08, grh | path_bits | remote);
    be::put16(bytes, 0x0c, u16::from(received.sl) << 12);
    be::put16(bytes, 0x0e, received.slid);
    be::put32(bytes, 0x14, received.byte_count);
    be::put16(bytes, 0x18, received.index);
    bytes[OWNER] = opcode;
    if let Some(header) = received.ethernet {
        put_tag(bytes, received.qpn, header.tag.map(|tag| (CUSTOMER_TAG, tag)));
        bytes[0x0e..0x14].copy_from_slice(&header.source);
    }
}

/// Stores the queue pair and the tag.
fn put_tag(bytes: &mut [u8; BYTES], qpn: u32, tag: Option<(u16, u16)>) {
    let present = match tag {
        Some((CUSTOMER_TAG, _)) => CUSTOMER_VLAN,
        Some(_) => SERVICE_VLAN,
        None => 0,
    };
    be::put32(bytes, 0x00, qpn & 0xff_ffff | present);
    be::put16(bytes, 0x0c, tag.map_or(0, |(_, tag)| tag));
}

impl fmt::Display for Cqe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(Sent { qpn, index, opcode, byte_count }) => {
                write!(f, "QP {qpn:#x} SQ [{index}] done: opcode {opcode:#04x}")?;
                if *byte_count != 0 {
                    write!(f, ", {byte_count} bytes")?;
                }
                Ok(())
            }
            Self::Frame(FrameReceived { qpn, wqe, byte_count, hash, .. }) => {
                write!(f, "QP {qpn:#x} RQ [{wqe}] frame: {byte_count} bytes, hash {hash:#x}")
            }
            Self::Received(received) | Self::ManagementReceived(received) => {
                let Received { qpn, index, kind, byte_count, src_qpn, srqn, slid, .. } = received;
                write!(f, "QP {qpn:#x} RQ [{index}] {kind:x?}: {byte_count} bytes from LID {slid}")?;
                match srqn {
                    Some(srqn) => write!(f, ", SRQ {srqn:#x}"),
                    None => write!(f, ", QP {src_qpn:#x}"),
                }
            }
            Self::Failed(Failed { qpn, index, send, error, .. }) => {
                let queue = if *send { "SQ" } else { "RQ" };
                let (syndrome, vendor) = (syndrome(*error), vendor_syndrome(*error, *send));
                write!(
                    f,
                    "QP {qpn:#x} {queue} [{index}] {error:?}: syndrome {syndrome:#04x}, vendor {vendor:#04x}"
                )
            }
            Self::Resized => f.write_str("resized"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED: Received = Received {
        qpn: 0x41,
        index: 0x1234,
        kind: ReceivedKind::SendImmediate(0xdead_beef),
        byte_count: 100,
        src_qpn: 0x52,
        srqn: None,
        pkey_index: 5,
        slid: 9,
        sl: 3,
        path_bits: 1,
        grh: true,
        ethernet: None,
    };

    /// Offsets of `struct mlx4_cqe`, include/linux/mlx4/cq.h.
    #[test]
    fn a_received_message_is_encoded() {
        let bytes = Cqe::Received(RECEIVED).bytes();
        assert_eq!(be::get32(&bytes, 0), 0x41);
        assert_eq!(be::get32(&bytes, 4), 0xdead_beef);
        assert_eq!(be::get32(&bytes, 8), 0x8100_0052);
        assert_eq!(bytes[0xc..0x10], [0x30, 0, 0, 9]);
        assert_eq!(be::get32(&bytes, 0x14), 100);
        assert_eq!(be::get16(&bytes, 0x18), 0x1234);
        assert_eq!(bytes[0x1f], 2);
        let management = Cqe::ManagementReceived(RECEIVED).bytes();
        assert_eq!(be::get32(&management, 4), 5, "infiniband/hw/mlx4/cq.c: the P_Key index");
        let shared = Cqe::Received(Received { srqn: Some(0x77), ..RECEIVED }).bytes();
        assert_eq!(be::get24(&shared, 8), 0x77);
    }

    /// Offsets of `struct mlx4_err_cqe`.
    #[test]
    fn a_failure_is_encoded() {
        let failed = |error| Cqe::Failed(Failed { qpn: 0x41, index: 7, send: true, error, srqn: None });
        let bytes = failed(Error::RemoteAccess).bytes();
        assert_eq!(bytes[0x18..0x1c], [0, 7, 0x88, 0x13]);
        assert_eq!(bytes[0x1f], 0x5e);
        let unknown = failed(Error::RnrRetriesExceeded).bytes();
        assert_eq!(unknown[0x1a..0x1c], [0, 0x16]);
    }

    /// rdma-core's `struct mlx4_cqe`: `ts_47_16`, `ts_15_8`, `ts_7_0`.
    #[test]
    fn a_time_stamp_is_in_two_places() {
        let mut bytes = Cqe::Received(RECEIVED).bytes();
        stamp(&mut bytes, 0xffff_1234_5678_9abc);
        assert_eq!(bytes[0x0c..0x10], [0x12, 0x34, 0x56, 0x78]);
        assert_eq!(bytes[0x1d..0x20], [0x9a, 0xbc, received::SEND_IMMEDIATE]);
    }
}
