//! The list of RDMA devices.

use super::Nldev;
use super::NodeType;
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

impl Nldev {
    /// Lists the RDMA devices of this network namespace, in the order of their indices.
    ///
    /// # Errors
    ///
    /// `BadAnswer` where the kernel's list cannot be read.
    ///
    /// Linux 4.14, `RDMA_NLDEV_CMD_GET`.
    pub fn devices(&mut self) -> Result<Vec<RdmaDevice>> {
        let what = What { operation: "list devices", object: "RDMA netlink" };
        self.exchange.dump(what, nl::RDMA_NLDEV_CMD_GET, |request| request, read)
    }
}

/// More ports than any device has: callers visit each, so a driver's mistake must not make that endless.
pub(crate) const MAX_PORTS: u32 = 65_535;

/// Reads one device's attributes.
fn read(attributes: Attributes<'_>) -> Read<RdmaDevice> {
    let (mut index, mut name, mut port_count, mut node_guid, mut node_type) = (None, None, None, None, None);
    let (mut sys_image_guid, mut capabilities, mut fw_version) = (None, None, None);
    let (mut protocol, mut adaptive_moderation, mut parent, mut device_type) = (None, None, None, None);
    for attribute in attributes {
        let a = attribute?;
        match a.kind {
            nl::RDMA_NLDEV_ATTR_DEV_INDEX => index = Some(a.u32()?),
            nl::RDMA_NLDEV_ATTR_DEV_NAME => name = Some(a.text()),
            nl::RDMA_NLDEV_ATTR_PORT_INDEX => port_count = Some(a.u32()?),
            nl::RDMA_NLDEV_ATTR_NODE_GUID => node_guid = Some(guid(a.u64()?)),
            nl::RDMA_NLDEV_ATTR_SYS_IMAGE_GUID => sys_image_guid = Some(guid(a.u64()?)),
            nl::RDMA_NLDEV_ATTR_DEV_NODE_TYPE => node_type = Some(NodeType::from(a.u8()?)),
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
        port_count: required(port_count, nl::RDMA_NLDEV_ATTR_PORT_INDEX)?.min(MAX_PORTS),
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
    fn no_device_has_four_thousand_million_ports() {
        let mut request = Request::new(nl::RDMA_NLDEV_CMD_GET, 0)
            .u32(nl::RDMA_NLDEV_ATTR_DEV_INDEX, 3)
            .string(nl::RDMA_NLDEV_ATTR_DEV_NAME, "rxe0")
            .u32(nl::RDMA_NLDEV_ATTR_PORT_INDEX, u32::MAX)
            .bytes(nl::RDMA_NLDEV_ATTR_NODE_GUID, &[0; 8])
            .bytes(nl::RDMA_NLDEV_ATTR_DEV_NODE_TYPE, &[1]);
        let bytes = request.numbered(1);
        assert_eq!(read(Attributes::new(&bytes[16..])).unwrap().port_count, MAX_PORTS);
    }

    #[test]
    fn names_what_has_the_wrong_size() {
        let mut request = message("rxe0").u32(nl::RDMA_NLDEV_ATTR_NODE_GUID, 1);
        let bytes = request.numbered(1);
        let error = read(Attributes::new(&bytes[16..])).unwrap_err();
        assert_eq!(error.0, "RDMA_NLDEV_ATTR_NODE_GUID of 4 bytes, 8 expected");
    }
}
