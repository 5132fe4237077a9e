//! Node types of devices and the transports they use.

use crate::types::open_enum;
use crate::uapi::netlink as nl;

open_enum! {
    /// Type of a node (`enum rdma_node_type`; the first three are the IBTA's NodeInfo:NodeType).
    NodeType: u8 {
        /// InfiniBand or RoCE channel adapter.
        CA = nl::RDMA_NODE_IB_CA, "CA";
        /// InfiniBand switch.
        SWITCH = nl::RDMA_NODE_IB_SWITCH, "switch";
        /// InfiniBand router.
        ROUTER = nl::RDMA_NODE_IB_ROUTER, "router";
        /// iWARP NIC.
        RNIC = nl::RDMA_NODE_RNIC, "RNIC";
        /// Cisco usNIC.
        USNIC = nl::RDMA_NODE_USNIC, "usNIC";
        /// Cisco usNIC over UDP.
        USNIC_UDP = nl::RDMA_NODE_USNIC_UDP, "usNIC UDP";
        /// Device with its own protocol, such as EFA.
        UNSPECIFIED = nl::RDMA_NODE_UNSPECIFIED, "unspecified";
    }
}

impl NodeType {
    /// Returns the transport that nodes of this type use.
    #[must_use]
    pub const fn transport(self) -> Transport {
        match self {
            Self::CA | Self::SWITCH | Self::ROUTER => Transport::INFINIBAND,
            Self::RNIC => Transport::IWARP,
            Self::USNIC => Transport::USNIC,
            Self::USNIC_UDP => Transport::USNIC_UDP,
            Self::UNSPECIFIED => Transport::UNSPECIFIED,
            _ => Transport::UNKNOWN,
        }
    }
}

open_enum! {
    /// Transport of a device (`enum ibv_transport_type`). RoCE counts as InfiniBand.
    ///
    /// `Display` prints the names that `ibv_devinfo(1)` uses.
    Transport: i32 {
        /// Node type without a known transport.
        UNKNOWN = -1, "unknown";
        /// InfiniBand transport, over InfiniBand or Ethernet links.
        INFINIBAND = 0, "InfiniBand";
        /// iWARP: RDMA over TCP.
        IWARP = 1, "iWARP";
        /// Cisco usNIC.
        USNIC = 2, "usNIC";
        /// Cisco usNIC over UDP.
        USNIC_UDP = 3, "usNIC UDP";
        /// The device's own protocol.
        UNSPECIFIED = 4, "unspecified";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_types_name_their_transport() {
        assert_eq!(NodeType(1).transport(), Transport::INFINIBAND);
        assert_eq!(NodeType(4).transport().to_string(), "iWARP");
        assert_eq!(NodeType(99).transport(), Transport::UNKNOWN);
    }
}
