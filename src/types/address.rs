//! Where a port is: LID, GID, service level.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{PortNum, open_enum};
use crate::uapi::ioctl as abi;

/// A local identifier: a port's address within an InfiniBand subnet (0 on Ethernet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Lid(pub u16);

/// A service level, 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServiceLevel(pub u8);

/// A global identifier: 128 bits in network order; prints as an IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "Ipv6Addr", into = "Ipv6Addr"))]
pub struct Gid(pub [u8; 16]);

impl Gid {
    /// No address.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether every byte is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// The low 64 bits, which name the port within its subnet.
    #[must_use]
    pub fn interface_id(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The IPv4 address that the GID maps, where it does (RoCE v2 over IPv4).
    #[must_use]
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        Ipv6Addr::from(self.0).to_ipv4_mapped()
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = Ipv6Addr::from(self.0);
        // inet_ntop() writes ::a.b.c.d for IPv4-compatible addresses; Rust writes them in hexadecimal.
        match self.0 {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if (a, b) != (0, 0) => {
                write!(f, "::{a}.{b}.{c}.{d}")
            }
            _ => ip.fmt(f),
        }
    }
}

impl fmt::Debug for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gid({self})")
    }
}

impl From<Gid> for Ipv6Addr {
    fn from(gid: Gid) -> Self {
        gid.0.into()
    }
}

impl From<Ipv6Addr> for Gid {
    fn from(ip: Ipv6Addr) -> Self {
        Self(ip.octets())
    }
}

open_enum! {
    /// Type of a GID table entry (`enum ibv_gid_type`): how packets with that source GID travel.
    GidType: u32 {
        /// InfiniBand.
        IB = abi::IB_UVERBS_GID_TYPE_IB, "IB";
        /// RoCE version 1: Ethernet frames.
        ROCE_V1 = abi::IB_UVERBS_GID_TYPE_ROCE_V1, "RoCE v1";
        /// RoCE version 2: UDP over IPv4 or IPv6.
        ROCE_V2 = abi::IB_UVERBS_GID_TYPE_ROCE_V2, "RoCE v2";
    }
}

/// An entry of a port's GID table that is in use (`struct ibv_gid_entry`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GidEntry {
    /// The address.
    pub gid: Gid,
    /// Its index in the port's table.
    pub index: u32,
    /// The port.
    pub port: PortNum,
    /// How packets from it travel.
    pub gid_type: GidType,
    /// The network device behind it; 0 where there is none, or nothing tells.
    pub netdev_ifindex: u32,
}

impl GidEntry {
    /// Creates an entry without a network device.
    #[must_use]
    pub const fn new(port: PortNum, index: u32, gid: Gid, gid_type: GidType) -> Self {
        Self { gid, index, port, gid_type, netdev_ifindex: 0 }
    }

    /// `None` where the kernel names a port that cannot be.
    pub(crate) fn from_raw(raw: &abi::verbs::GidEntry) -> Option<Self> {
        Some(Self {
            gid: Gid(raw.gid),
            index: raw.gid_index,
            port: PortNum::new(raw.port_num).ok()?,
            gid_type: raw.gid_type.into(),
            netdev_ifindex: raw.netdev_ifindex,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(text: &str) -> Gid {
        text.parse::<Ipv6Addr>().map(Gid::from).unwrap_or_default()
    }

    #[test]
    fn prints_like_inet_ntop() {
        for text in ["fe80::10d2:c910:0:6bd1", "::ffff:10.0.0.1", "::", "::1", "::1.2.3.4"] {
            assert_eq!(gid(text).to_string(), text);
        }
        assert_eq!(gid("::ffff:10.0.0.1").ipv4(), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(gid("fe80::1").interface_id(), 1);
    }
}
