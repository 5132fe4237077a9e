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

impl Nldev {
    /// Returns whether a fork copies pages that are pinned for RDMA, instead of sharing them with the child until somebody writes
    /// to them. Where it does not, a device may lose sight of the parent's registered memory after a fork.
    ///
    /// # Errors
    ///
    /// `BadAnswer` where the answer cannot be read; `EINVAL` from kernels older than 5.2.
    ///
    /// Linux 5.13; older kernels do not copy. `RDMA_NLDEV_SYS_ATTR_COPY_ON_FORK`, `ibv_is_fork_initialized(3)`.
    pub fn copies_on_fork(&mut self) -> Result<bool> {
        let what = What { operation: "query copy on fork", object: "RDMA netlink" };
        self.exchange.get(what, nl::RDMA_NLDEV_CMD_SYS_GET, |request| request, read_copies_on_fork)
    }
}

fn read_copies_on_fork(attributes: Attributes<'_>) -> Read<bool> {
    let mut copies = false;
    for attribute in attributes {
        let a = attribute?;
        if a.kind == nl::RDMA_NLDEV_SYS_ATTR_COPY_ON_FORK {
            copies = a.u8()? != 0;
        }
    }
    // Kernels that do not copy do not send the attribute.
    Ok(copies)
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
