//! Completion queue entries (include/linux/mlx4/cq.h, `struct mlx4_cqe` and `struct mlx4_err_cqe`).

use std::fmt;

use crate::{
    be,
    fabric::ethernet::{
        self,
        frame::{CUSTOMER_TAG, Ip},
    },
};

/// Bytes of an entry; one of 64 bytes has them in its second half.
pub(crate) const BYTES: usize = 32;
/// Where the byte with the owner bit is.
pub(crate) const OWNER: usize = 0x1f;
/// The owner bit.
pub(crate) const OWNER_BIT: u8 = 0x80;

const IS_SEND: u8 = 0x40;
const OPCODE_ERROR: u8 = 0x1e;
const OPCODE_RESIZE: u8 = 0x16;
const GRH: u32 = 1 << 31;

/// A vendor's syndrome that nobody outside the maker knows.
const UNKNOWN: u8 = 0;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cqe {
    /// A send request is done.
    Sent(Sent),
    /// A message has come.
    Received(Received),
    /// An Ethernet frame has come.
    Frame(FrameCame),
    /// A request failed.
    Failed(Failed),
    /// The queue goes on in its other buffer.
    Resized,
}

/// A send request that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub qpn: u32,
    /// The counter of the request.
    pub wqe: u16,
    /// The opcode of the request.
    pub opcode: u8,
    pub byte_count: u32,
}

/// A message that has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub qpn: u32,
    /// The counter of the receive request; of a shared receive queue its index.
    pub wqe: u16,
    pub kind: ReceivedKind,
    /// Immediate data, the key that was invalidated, or the index of the P_Key.
    pub immediate: u32,
    pub byte_count: u32,
    /// Of a datagram the source queue pair; of XRC the shared receive queue.
    pub remote_qpn: u32,
    pub slid: u16,
    pub sl: u8,
    /// The low bits of the destination LID.
    pub path_bits: u8,
    /// Whether the buffer begins with a GRH.
    pub grh: bool,
    /// The header on Ethernet, in place of LIDs.
    pub ethernet: Option<ethernet::Header>,
}

/// An Ethernet frame that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameCame {
    pub qpn: u32,
    /// The counter of the receive request.
    pub wqe: u16,
    pub byte_count: u32,
    /// The hash that chose the queue.
    pub hash: u32,
    /// The tag that was taken out of the frame, and its type.
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

/// A tag was taken out (`MLX4_CQE_CVLAN_PRESENT_MASK`, `MLX4_CQE_SVLAN_PRESENT_MASK`).
const CUSTOMER_VLAN: u32 = 1 << 29;
const SERVICE_VLAN: u32 = 1 << 30;

/// What kind of message it was, by the opcodes of `MLX4_RECV_OPCODE_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReceivedKind {
    WriteImmediate = 0,
    #[default]
    Send = 1,
    SendImmediate = 2,
    SendInvalidate = 3,
}

/// A request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub qpn: u32,
    pub wqe: u16,
    /// Whether it is a send request.
    pub send: bool,
    pub error: Error,
    /// Of XRC the shared receive queue.
    pub srqn: u32,
}

/// Why a request failed: the syndromes of `MLX4_CQE_SYNDROME_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Error {
    LocalLength = 0x01,
    LocalQpOperation = 0x02,
    LocalProtection = 0x04,
    Flushed = 0x05,
    WindowBind = 0x06,
    BadResponse = 0x10,
    #[allow(dead_code, reason = "of completeness; reliable datagrams have it")]
    LocalAccess = 0x11,
    RemoteInvalidRequest = 0x12,
    RemoteAccess = 0x13,
    RemoteOperation = 0x14,
    RetriesExceeded = 0x15,
    RnrRetriesExceeded = 0x16,
}

impl Error {
    /// The vendor's syndrome that goes with it, or 0 where none is known: the maker has published no table.
    ///
    /// | error | syndrome | seen in |
    /// |---|---|---|
    /// | retries exceeded | 0x81 | ConnectX: "status 0x15 vendor syndrome 81", Oracle's document 1614576.1 |
    /// | remote access | 0x88 | ConnectX-2: "status 0x13 vendor syndrome 0x88", NVIDIA's forum, topic 207715 |
    /// | flushed | 0xf9 | ConnectX-3: "vendor_err:0xf9", accelio's issue 181 |
    /// | remote invalid request | 0x8a | ConnectX-4 or later: syndrome 0x12, charm's issue 2532 |
    /// | local QP operation | 0x68 | ConnectX-4 or later: "synd 0x2 vend 0x68", UCX's issue 1151 |
    /// | local protection, of a send queue | 0x51 | ConnectX-4 or later: "vendor_err 0x51", UCX's issue 7774 |
    ///
    /// The later cards have the same numbers where both are known.
    pub(crate) fn vendor(self, send: bool) -> u8 {
        match self {
            Self::RetriesExceeded => 0x81,
            Self::RemoteAccess => 0x88,
            Self::Flushed => 0xf9,
            Self::RemoteInvalidRequest => 0x8a,
            Self::LocalQpOperation => 0x68,
            Self::LocalProtection if send => 0x51,
            Self::LocalProtection
            | Self::LocalLength
            | Self::WindowBind
            | Self::BadResponse
            | Self::LocalAccess
            | Self::RemoteOperation
            | Self::RnrRetriesExceeded => UNKNOWN,
        }
    }
}

impl Cqe {
    /// The entry, with an owner bit of 0.
    pub(crate) fn bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        match *self {
            Self::Sent(Sent { qpn, wqe, opcode, byte_count }) => {
                be::put32(&mut bytes, 0x00, qpn);
                be::put32(&mut bytes, 0x14, byte_count);
                be::put16(&mut bytes, 0x18, wqe);
                bytes[OWNER] = IS_SEND | opcode;
            }
            Self::Received(received) => {
                let path_bits = u32::from(received.path_bits & 0x7f) << 24;
                let grh = if received.grh { GRH } else { 0 };
                be::put32(&mut bytes, 0x00, received.qpn);
                be::put32(&mut bytes, 0x04, received.immediate);
                be::put32(&mut bytes, 0x08, grh | path_bits | received.remote_qpn & 0xff_ffff);
                be::put16(&mut bytes, 0x0c, u16::from(received.sl) << 12);
                be::put16(&mut bytes, 0x0e, received.slid);
                be::put32(&mut bytes, 0x14, received.byte_count);
                be::put16(&mut bytes, 0x18, received.wqe);
                bytes[OWNER] = received.kind as u8;
                if let Some(header) = received.ethernet {
                    put_tag(&mut bytes, received.qpn, header.tag.map(|tag| (CUSTOMER_TAG, tag)));
                    bytes[0x0e..0x14].copy_from_slice(&header.source);
                }
            }
            Self::Frame(frame) => {
                put_tag(&mut bytes, frame.qpn, frame.tag);
                be::put32(&mut bytes, 0x04, frame.hash);
                be::put16(&mut bytes, 0x10, frame.status());
                be::put32(&mut bytes, 0x14, frame.byte_count);
                be::put16(&mut bytes, 0x18, frame.wqe);
                be::put16(&mut bytes, 0x1a, if frame.transport_is_right { 0xffff } else { 0 });
                bytes[OWNER] = ReceivedKind::Send as u8;
            }
            Self::Failed(Failed { qpn, wqe, send, error, srqn }) => {
                be::put32(&mut bytes, 0x00, qpn);
                be::put32(&mut bytes, 0x08, srqn);
                be::put16(&mut bytes, 0x18, wqe);
                bytes[0x1a] = error.vendor(send);
                bytes[0x1b] = error as u8;
                bytes[OWNER] = OPCODE_ERROR | if send { IS_SEND } else { 0 };
            }
            Self::Resized => bytes[OWNER] = OPCODE_RESIZE,
        }
        bytes
    }
}

impl FrameCame {
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

/// Puts the time in (`struct mlx4_ts_cqe`): where the LID is, and before the owner's byte.
pub(crate) fn stamp(bytes: &mut [u8; BYTES], ticks: u64) {
    be::put32(bytes, 0x0c, (ticks >> 16) as u32);
    be::put16(bytes, 0x1d, ticks as u16);
}

/// Puts the queue pair and the tag in.
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
            Self::Sent(Sent { qpn, wqe, opcode, byte_count }) => {
                write!(f, "QP {qpn:#x} SQ [{wqe}] done: opcode {opcode:#04x}")?;
                if *byte_count != 0 {
                    write!(f, ", {byte_count} bytes")?;
                }
                Ok(())
            }
            Self::Frame(FrameCame { qpn, wqe, byte_count, hash, .. }) => {
                write!(f, "QP {qpn:#x} RQ [{wqe}] frame: {byte_count} bytes, hash {hash:#x}")
            }
            Self::Received(Received { qpn, wqe, kind, immediate, byte_count, remote_qpn, slid, .. }) => {
                write!(f, "QP {qpn:#x} RQ [{wqe}] {kind:?}: {byte_count} bytes from LID {slid}")?;
                write!(f, ", QP/SRQ {remote_qpn:#x}, immediate {immediate:#x}")
            }
            Self::Failed(Failed { qpn, wqe, send, error, .. }) => {
                let queue = if *send { "SQ" } else { "RQ" };
                let (syndrome, vendor) = (*error as u8, error.vendor(*send));
                write!(
                    f,
                    "QP {qpn:#x} {queue} [{wqe}] {error:?}: syndrome {syndrome:#04x}, vendor {vendor:#04x}"
                )
            }
            Self::Resized => f.write_str("resized"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets of `struct mlx4_cqe`, include/linux/mlx4/cq.h.
    #[test]
    fn a_received_message() {
        let cqe = Cqe::Received(Received {
            qpn: 0x41,
            wqe: 0x1234,
            kind: ReceivedKind::SendImmediate,
            immediate: 0xdead_beef,
            byte_count: 100,
            remote_qpn: 0x52,
            slid: 9,
            sl: 3,
            path_bits: 1,
            grh: true,
            ethernet: None,
        });
        let bytes = cqe.bytes();
        assert_eq!(be::get32(&bytes, 0), 0x41);
        assert_eq!(be::get32(&bytes, 4), 0xdead_beef);
        assert_eq!(be::get32(&bytes, 8), 0x8100_0052);
        assert_eq!(bytes[0xc..0x10], [0x30, 0, 0, 9]);
        assert_eq!(be::get32(&bytes, 0x14), 100);
        assert_eq!(be::get16(&bytes, 0x18), 0x1234);
        assert_eq!(bytes[0x1f], 2);
    }

    /// Offsets of `struct mlx4_err_cqe`.
    #[test]
    fn a_failure() {
        let error = Error::RemoteAccess;
        let bytes = Cqe::Failed(Failed { qpn: 0x41, wqe: 7, send: true, error, srqn: 0 }).bytes();
        assert_eq!(bytes[0x18..0x1c], [0, 7, 0x88, 0x13]);
        assert_eq!(bytes[0x1f], 0x5e);
        // What nobody knows is not made up.
        let error = Error::RnrRetriesExceeded;
        let bytes = Cqe::Failed(Failed { qpn: 0x41, wqe: 7, send: true, error, srqn: 0 }).bytes();
        assert_eq!(bytes[0x1a..0x1c], [0, 0x16]);
    }

    /// rdma-core's `struct mlx4_cqe`: `ts_47_16`, `ts_15_8`, `ts_7_0`.
    #[test]
    fn the_time_is_in_two_places() {
        let received = Received { slid: 9, sl: 3, qpn: 0x41, ..Received::default() };
        let mut bytes = Cqe::Received(received).bytes();
        stamp(&mut bytes, 0xffff_1234_5678_9abc);
        assert_eq!(bytes[0x0c..0x10], [0x12, 0x34, 0x56, 0x78]);
        assert_eq!(bytes[0x1d..0x20], [0x9a, 0xbc, ReceivedKind::Send as u8]);
    }
}
