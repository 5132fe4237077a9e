//! Settings of the RDMA subsystem.

use super::Nldev;
use super::exchange::What;
use super::message::{Attributes, Read, required};
use crate::error::Result;
use crate::types::open_enum;
use crate::uapi::netlink as nl;

open_enum! {
    /// How devices are shared among network namespaces.
    NetNamespaceMode: u8 {
        /// Each device belongs to one network namespace.
        EXCLUSIVE = 0, "exclusive";
        /// All network namespaces see every device.
        SHARED = 1, "shared";
    }
}

impl Nldev {
    /// Returns whether RDMA devices are shared among network namespaces.
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
            mode = Some(NetNamespaceMode(a.u8()?));
        }
    }
    required(mode, nl::RDMA_NLDEV_SYS_ATTR_NETNS_MODE)
}
