//! A port as netlink describes it.

use super::Nldev;
use super::exchange::What;
use super::message::{Attributes, Read, required};
use crate::error::Result;
use crate::types::{PhysState, PortState};
use crate::uapi::netlink as nl;

/// A port of an RDMA device, and the network device under it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortInfo {
    /// Its number; ports count from 1.
    pub port: u32,
    /// Its logical state.
    pub state: PortState,
    /// Its physical state.
    pub phys_state: PhysState,
    /// The network device under it, where there is one and it is in the caller's network namespace (Linux 4.18).
    pub netdev: Option<String>,
    /// The interface index of that network device.
    pub netdev_index: Option<u32>,
    /// InfiniBand only: its local identifier.
    pub lid: Option<u32>,
    /// InfiniBand only: the subnet manager's local identifier.
    pub sm_lid: Option<u32>,
    /// InfiniBand only: how many low bits of the LID are free for path selection.
    pub lmc: Option<u8>,
    /// InfiniBand only: the upper half of its GIDs, as a number.
    pub subnet_prefix: Option<u64>,
    /// InfiniBand only: the capability bits (`PortInfo:CapabilityMask`, the second mask above bit 32).
    pub capabilities: Option<u64>,
}

impl Nldev {
    /// Describes port `port` (from 1) of the device with this index.
    ///
    /// # Errors
    ///
    /// From the kernel: `EINVAL` where there is no such device or port. `BadAnswer` where the answer cannot be read.
    ///
    /// Linux 4.14, `RDMA_NLDEV_CMD_PORT_GET`.
    pub fn port(&mut self, index: u32, port: u32) -> Result<PortInfo> {
        let object = format!("port {port} of device {index}");
        let what = What { operation: "query port", object: &object };
        self.exchange.get(
            what,
            nl::RDMA_NLDEV_CMD_PORT_GET,
            |request| {
                request.u32(nl::RDMA_NLDEV_ATTR_DEV_INDEX, index).u32(nl::RDMA_NLDEV_ATTR_PORT_INDEX, port)
            },
            read,
        )
    }
}

/// Reads one port's attributes.
fn read(attributes: Attributes<'_>) -> Read<PortInfo> {
    let (mut port, mut state, mut phys_state) = (None, None, None);
    let (mut netdev, mut netdev_index) = (None, None);
    let (mut lid, mut sm_lid, mut lmc, mut subnet_prefix, mut capabilities) = (None, None, None, None, None);
    for attribute in attributes {
        let a = attribute?;
        match a.kind {
            nl::RDMA_NLDEV_ATTR_PORT_INDEX => port = Some(a.u32()?),
            nl::RDMA_NLDEV_ATTR_PORT_STATE => state = Some(PortState::from(a.u8()?)),
            nl::RDMA_NLDEV_ATTR_PORT_PHYS_STATE => phys_state = Some(PhysState::from(a.u8()?)),
            nl::RDMA_NLDEV_ATTR_NDEV_NAME => netdev = Some(a.text()),
            nl::RDMA_NLDEV_ATTR_NDEV_INDEX => netdev_index = Some(a.u32()?),
            nl::RDMA_NLDEV_ATTR_LID => lid = Some(a.u32()?),
            nl::RDMA_NLDEV_ATTR_SM_LID => sm_lid = Some(a.u32()?),
            nl::RDMA_NLDEV_ATTR_LMC => lmc = Some(a.u8()?),
            nl::RDMA_NLDEV_ATTR_SUBNET_PREFIX => subnet_prefix = Some(a.u64()?),
            nl::RDMA_NLDEV_ATTR_CAP_FLAGS => capabilities = Some(a.u64()?),
            _ => {}
        }
    }
    Ok(PortInfo {
        port: required(port, nl::RDMA_NLDEV_ATTR_PORT_INDEX)?,
        state: required(state, nl::RDMA_NLDEV_ATTR_PORT_STATE)?,
        phys_state: required(phys_state, nl::RDMA_NLDEV_ATTR_PORT_PHYS_STATE)?,
        netdev,
        netdev_index,
        lid,
        sm_lid,
        lmc,
        subnet_prefix,
        capabilities,
    })
}
