//! How the RDMA subsystem is set.

use super::Nldev;
use super::exchange::What;
use super::message::{Attributes, Read, required};
use crate::error::Result;
use crate::uapi::netlink as nl;

/// Which network namespaces can see a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetNamespaceMode {
    /// Each device is seen by the one namespace it was given to.
    Exclusive,
    /// Every device is seen by all of them.
    Shared,
    /// A number that this crate has no name for.
    Other(u8),
}

impl Nldev {
    /// Tells whether RDMA devices are shared among network namespaces.
    ///
    /// # Errors
    ///
    /// `BadAnswer` where the answer cannot be read; `EINVAL` from kernels older than 5.2.
    ///
    /// Linux 5.2, `RDMA_NLDEV_CMD_SYS_GET`; `rdma-system(8)`.
    pub fn net_namespace_mode(&mut self) -> Result<NetNamespaceMode> {
        let what = What { operation: "query namespace mode", object: "RDMA netlink" };
        self.exchange.get(what, nl::RDMA_NLDEV_CMD_SYS_GET, |request| request, read)
    }
}

fn read(attributes: Attributes<'_>) -> Read<NetNamespaceMode> {
    let mut mode = None;
    for attribute in attributes {
        let a = attribute?;
        if a.kind == nl::RDMA_NLDEV_SYS_ATTR_NETNS_MODE {
            mode = Some(match a.u8()? {
                0 => NetNamespaceMode::Exclusive,
                1 => NetNamespaceMode::Shared,
                other => NetNamespaceMode::Other(other),
            });
        }
    }
    required(mode, nl::RDMA_NLDEV_SYS_ATTR_NETNS_MODE)
}
