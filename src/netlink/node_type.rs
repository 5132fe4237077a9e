//! Kinds of nodes and the transports they speak.

use std::fmt;

use crate::uapi::netlink as nl;

/// What kind of node a device is (`enum rdma_node_type`; the first three are the architecture's NodeInfo:NodeType).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeType {
    /// A channel adapter.
    Ca,
    /// A switch.
    Switch,
    /// A router.
    Router,
    /// An iWARP NIC.
    Rnic,
    /// A Cisco usNIC.
    Usnic,
    /// A Cisco usNIC over UDP.
    UsnicUdp,
    /// A device with a protocol of its own, such as EFA.
    Unspecified,
    /// A number that this crate has no name for.
    Other(u8),
}

impl NodeType {
    /// The transport that nodes of this kind speak.
    #[must_use]
    pub const fn transport(self) -> Transport {
        match self {
            Self::Ca | Self::Switch | Self::Router => Transport::InfiniBand,
            Self::Rnic => Transport::Iwarp,
            Self::Usnic => Transport::Usnic,
            Self::UsnicUdp => Transport::UsnicUdp,
            Self::Unspecified => Transport::Unspecified,
            Self::Other(_) => Transport::Unknown,
        }
    }
}

impl From<u8> for NodeType {
    fn from(number: u8) -> Self {
        match number {
            nl::RDMA_NODE_IB_CA => Self::Ca,
            nl::RDMA_NODE_IB_SWITCH => Self::Switch,
            nl::RDMA_NODE_IB_ROUTER => Self::Router,
            nl::RDMA_NODE_RNIC => Self::Rnic,
            nl::RDMA_NODE_USNIC => Self::Usnic,
            nl::RDMA_NODE_USNIC_UDP => Self::UsnicUdp,
            nl::RDMA_NODE_UNSPECIFIED => Self::Unspecified,
            other => Self::Other(other),
        }
    }
}

impl From<NodeType> for u8 {
    fn from(node_type: NodeType) -> Self {
        match node_type {
            NodeType::Ca => nl::RDMA_NODE_IB_CA,
            NodeType::Switch => nl::RDMA_NODE_IB_SWITCH,
            NodeType::Router => nl::RDMA_NODE_IB_ROUTER,
            NodeType::Rnic => nl::RDMA_NODE_RNIC,
            NodeType::Usnic => nl::RDMA_NODE_USNIC,
            NodeType::UsnicUdp => nl::RDMA_NODE_USNIC_UDP,
            NodeType::Unspecified => nl::RDMA_NODE_UNSPECIFIED,
            NodeType::Other(number) => number,
        }
    }
}

/// What a device speaks on the wire above its link; RoCE counts as InfiniBand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// InfiniBand transport, over InfiniBand links or Ethernet.
    InfiniBand,
    /// iWARP: RDMA over TCP.
    Iwarp,
    /// Cisco usNIC.
    Usnic,
    /// Cisco usNIC over UDP.
    UsnicUdp,
    /// The device's own.
    Unspecified,
    /// Of a node type that this crate has no name for.
    Unknown,
}

impl Transport {
    /// The number that libibverbs gives it (`enum ibv_transport_type`).
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Unknown => -1,
            Self::InfiniBand => 0,
            Self::Iwarp => 1,
            Self::Usnic => 2,
            Self::UsnicUdp => 3,
            Self::Unspecified => 4,
        }
    }

    /// Its name, or nothing for that of an unknown node type.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::InfiniBand => Some("InfiniBand"),
            Self::Iwarp => Some("iWARP"),
            Self::Usnic => Some("usNIC"),
            Self::UsnicUdp => Some("usNIC UDP"),
            Self::Unspecified => Some("unspecified"),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for Transport {
    /// The words of `ibv_devinfo`, without the number that it puts behind them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or("invalid transport"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_types_round_the_kernel_s_numbers() {
        assert_eq!(NodeType::from(1).transport().to_string(), "InfiniBand");
        assert_eq!(NodeType::from(4).transport().to_string(), "iWARP");
        assert_eq!(NodeType::from(99), NodeType::Other(99));
        assert_eq!(NodeType::from(99).transport(), Transport::Unknown);
        for number in 0..=u8::MAX {
            assert_eq!(u8::from(NodeType::from(number)), number);
        }
    }
}
