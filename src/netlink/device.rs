//! The list of RDMA devices.

use std::fmt;

use super::Nldev;
use super::exchange::What;
use super::message::{Attributes, Read, required};
use crate::error::Result;
use crate::types::Guid;
use crate::uapi::netlink as nl;

/// An RDMA device as netlink describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RdmaDevice {
    /// The kernel's number for it, never given twice while the kernel runs.
    pub index: u32,
    /// Its name, such as `mlx4_0`. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// The highest port number; ports count from 1.
    pub port_count: u32,
    /// Its node GUID.
    pub node_guid: Guid,
    /// The GUID of the system it is part of.
    pub sys_image_guid: Option<Guid>,
    /// What kind of node it is.
    pub node_type: NodeType,
    /// The kernel's capability bits (`device_cap_flags`).
    pub capabilities: Option<u64>,
    /// The firmware's version, for devices that have firmware.
    pub fw_version: Option<String>,
    /// The protocol of its first port: `ib`, `roce`, `iw`, `opa`, `usnic` (Linux 5.2).
    pub protocol: Option<String>,
    /// Whether the kernel's own CQs moderate their interrupts by load (Linux 5.4).
    pub adaptive_moderation: Option<bool>,
    /// The device that this one stands on, for sub-devices (Linux 6.11).
    pub parent: Option<String>,
    /// The kind of sub-device (`enum rdma_nl_dev_type`), for sub-devices (Linux 6.11).
    pub device_type: Option<u8>,
}

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
    /// From the kernel's number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Self {
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

    /// The kernel's number.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Ca => nl::RDMA_NODE_IB_CA,
            Self::Switch => nl::RDMA_NODE_IB_SWITCH,
            Self::Router => nl::RDMA_NODE_IB_ROUTER,
            Self::Rnic => nl::RDMA_NODE_RNIC,
            Self::Usnic => nl::RDMA_NODE_USNIC,
            Self::UsnicUdp => nl::RDMA_NODE_USNIC_UDP,
            Self::Unspecified => nl::RDMA_NODE_UNSPECIFIED,
            Self::Other(number) => number,
        }
    }

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
}

impl fmt::Display for Transport {
    /// The words of `ibv_devinfo`, without the number that it puts behind them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InfiniBand => "InfiniBand",
            Self::Iwarp => "iWARP",
            Self::Usnic => "usNIC",
            Self::UsnicUdp => "usNIC UDP",
            Self::Unspecified => "unspecified",
            Self::Unknown => "invalid transport",
        })
    }
}

impl Nldev {
    /// Lists the RDMA devices of this network namespace, in the order of their indices.
    ///
    /// # Errors
    ///
    /// `BadAnswer` where the kernel's list cannot be read.
    ///
    /// Linux 4.14, `RDMA_NLDEV_CMD_GET`.
    pub fn devices(&mut self) -> Result<Vec<RdmaDevice>> {
        let what = What {
            operation: "list devices",
            object: "RDMA netlink",
        };
        self.exchange
            .dump(what, nl::RDMA_NLDEV_CMD_GET, |request| request, read)
    }
}

/// Reads one device's attributes.
fn read(attributes: Attributes<'_>) -> Read<RdmaDevice> {
    let (mut index, mut name, mut port_count, mut node_guid, mut node_type) =
        (None, None, None, None, None);
    let (mut sys_image_guid, mut capabilities, mut fw_version) = (None, None, None);
    let (mut protocol, mut adaptive_moderation, mut parent, mut device_type) =
        (None, None, None, None);
    for attribute in attributes {
        let a = attribute?;
        match a.kind {
            nl::RDMA_NLDEV_ATTR_DEV_INDEX => index = Some(a.u32()?),
            nl::RDMA_NLDEV_ATTR_DEV_NAME => name = Some(a.text()),
            nl::RDMA_NLDEV_ATTR_PORT_INDEX => port_count = Some(a.u32()?),
            nl::RDMA_NLDEV_ATTR_NODE_GUID => node_guid = Some(guid(a.u64()?)),
            nl::RDMA_NLDEV_ATTR_SYS_IMAGE_GUID => sys_image_guid = Some(guid(a.u64()?)),
            nl::RDMA_NLDEV_ATTR_DEV_NODE_TYPE => node_type = Some(NodeType::from_u8(a.u8()?)),
            nl::RDMA_NLDEV_ATTR_CAP_FLAGS => capabilities = Some(a.u64()?),
            nl::RDMA_NLDEV_ATTR_FW_VERSION => fw_version = Some(a.text()),
            nl::RDMA_NLDEV_ATTR_DEV_PROTOCOL => protocol = Some(a.text()),
            nl::RDMA_NLDEV_ATTR_DEV_DIM => adaptive_moderation = Some(a.u8()? != 0),
            nl::RDMA_NLDEV_ATTR_PARENT_NAME => parent = Some(a.text()),
            nl::RDMA_NLDEV_ATTR_DEV_TYPE => device_type = Some(a.u8()?),
            _ => {}
        }
    }
    Ok(RdmaDevice {
        index: required(index, nl::RDMA_NLDEV_ATTR_DEV_INDEX)?,
        name: required(name, nl::RDMA_NLDEV_ATTR_DEV_NAME)?,
        port_count: required(port_count, nl::RDMA_NLDEV_ATTR_PORT_INDEX)?,
        node_guid: required(node_guid, nl::RDMA_NLDEV_ATTR_NODE_GUID)?,
        sys_image_guid,
        node_type: required(node_type, nl::RDMA_NLDEV_ATTR_DEV_NODE_TYPE)?,
        capabilities,
        fw_version,
        protocol,
        adaptive_moderation,
        parent,
        device_type,
    })
}

/// The GUID that netlink passes as a number in the machine's byte order.
fn guid(number: u64) -> Guid {
    Guid(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::Request;

    fn message(name: &str) -> Request {
        Request::new(nl::RDMA_NLDEV_CMD_GET, 0)
            .u32(nl::RDMA_NLDEV_ATTR_DEV_INDEX, 3)
            .string(nl::RDMA_NLDEV_ATTR_DEV_NAME, name)
            .u32(nl::RDMA_NLDEV_ATTR_PORT_INDEX, 1)
    }

    #[test]
    fn names_what_is_missing() {
        let mut request = message("rxe0");
        let bytes = request.numbered(1);
        let error = read(Attributes::new(&bytes[16..])).unwrap_err();
        assert_eq!(error.0, "RDMA_NLDEV_ATTR_NODE_GUID is missing");
    }

    #[test]
    fn names_what_has_the_wrong_size() {
        let mut request = message("rxe0").u32(nl::RDMA_NLDEV_ATTR_NODE_GUID, 1);
        let bytes = request.numbered(1);
        let error = read(Attributes::new(&bytes[16..])).unwrap_err();
        assert_eq!(error.0, "RDMA_NLDEV_ATTR_NODE_GUID of 4 bytes, 8 expected");
    }

    #[test]
    fn node_types_round_the_kernel_s_numbers() {
        assert_eq!(NodeType::from_u8(1).transport().to_string(), "InfiniBand");
        assert_eq!(NodeType::from_u8(4).transport().to_string(), "iWARP");
        assert_eq!(NodeType::from_u8(99), NodeType::Other(99));
        assert_eq!(NodeType::from_u8(99).transport(), Transport::Unknown);
    }
}
