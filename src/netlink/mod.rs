//! RDMA netlink: the kernel's list of RDMA devices, and the few things that can be done to it.
//!
//! [`Nldev`] is one socket. A request is one `send` and, for an answer of up to four datagrams, one `recvmmsg`; a list
//! takes one datagram for each device and one for its end.
//!
//! | file | what it holds |
//! |---|---|
//! | `message` | requests to bytes, bytes to messages and attributes |
//! | `exchange` | question and answer: sequence numbers, lists, refusals |
//! | `device`, `node_type`, `driver`, `chardev`, `port` | what there is |
//! | `link` | software devices, made and removed |
//! | `resource`, `system` | what is in use, and how the subsystem is set |
//! | `route` | of the kernel's IP, not of RDMA: the next hop, and a neighbour's hardware address |
//!
//! The kernel's side is drivers/infiniband/core/nldev.c, the numbers are in `<rdma/rdma_netlink.h>`.

mod chardev;
mod device;
mod driver;
mod exchange;
mod link;
mod message;
mod node_type;
mod port;
mod resource;
mod route;
mod system;

use nix::errno::Errno;

pub use chardev::{CharDevice, DeviceNumber};
pub(crate) use device::MAX_PORTS;
pub use device::RdmaDevice;
pub use driver::DriverId;
pub use node_type::{NodeType, Transport};
pub use port::PortInfo;
pub use resource::ResourceCounts;
pub(crate) use route::{Hop, Routes};
pub use system::NetNamespaceMode;

use crate::error::{Error, Result};
use crate::sys::netlink::NetlinkSocket;
use exchange::Exchange;

/// A connection to the kernel's RDMA device interface.
#[derive(Debug)]
pub struct Nldev {
    exchange: Exchange<NetlinkSocket>,
}

impl Nldev {
    /// Opens it. No privilege is needed to ask; changing things takes `CAP_NET_ADMIN`.
    ///
    /// # Errors
    ///
    /// `EPROTONOSUPPORT`: the kernel has no RDMA netlink because `ib_core` is not loaded, and it could not be loaded.
    ///
    /// Linux 4.14; netlink(7).
    pub fn open() -> Result<Self> {
        let socket = NetlinkSocket::rdma().map_err(|errno| {
            let error = Error::os("open", "RDMA netlink", errno);
            match errno {
                Errno::EPROTONOSUPPORT => {
                    error.with_hint("the RDMA core is not loaded: try modprobe ib_uverbs")
                }
                _ => error,
            }
        })?;
        Ok(Self { exchange: Exchange::new(socket) })
    }
}
