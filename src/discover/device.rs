//! What is known of a device before it is opened.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{SYS, sysfs};
use crate::netlink::{DeviceNumber, DriverId, NodeType, Transport};
use crate::types::{Gid, GidEntry, Guid, PortNum};

/// An RDMA device, as found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Its name, such as `mlx4_0`. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// The kernel's number for it; netlink alone tells.
    pub index: Option<u32>,
    /// Its node GUID; zero where sysfs does not say.
    pub node_guid: Guid,
    /// The GUID of the system it is part of.
    pub sys_image_guid: Option<Guid>,
    /// What kind of node it is.
    pub node_type: NodeType,
    /// The highest port number; ports count from 1.
    pub port_count: u32,
    /// The protocol of its first port (`ib`, `roce`, `iw`, …); netlink alone tells.
    pub protocol: Option<String>,
    /// The driver behind it, by which a provider is chosen; [`DriverId::UNKNOWN`] where nothing tells.
    pub driver: DriverId,
    /// The file by which programs reach it; nothing while `ib_uverbs` is not loaded.
    pub uverbs: Option<Uverbs>,
    /// Which way it was found.
    pub source: Source,
    /// What netlink said of its firmware.
    pub(super) fw_version: Option<String>,
}

/// The `uverbs` character device of an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uverbs {
    /// Its name, such as `uverbs0`.
    pub name: String,
    /// Major and minor number.
    pub number: DeviceNumber,
    /// The version of the driver's own ABI, which a provider must know.
    pub abi: u32,
}

/// Where the kernel was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// RDMA netlink.
    Netlink,
    /// The files under /sys/class.
    Sysfs,
}

impl Uverbs {
    /// Where its node belongs: /dev/infiniband and its name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/dev/infiniband").join(&self.name)
    }
}

impl DeviceInfo {
    /// The transport that it speaks; RoCE counts as InfiniBand.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.node_type.transport()
    }

    /// Reads the version of its firmware: what netlink said, else sysfs's `fw_ver`.
    ///
    /// Nothing for devices without firmware.
    #[must_use]
    pub fn fw_version(&self) -> Option<String> {
        self.fw_version.clone().or_else(|| self.attribute("fw_ver"))
    }

    /// Reads the identifier of the board, which the drivers of adapters keep in sysfs.
    #[must_use]
    pub fn board_id(&self) -> Option<String> {
        self.attribute("board_id")
    }

    /// Reads the adapter's model, which the drivers of adapters keep in sysfs.
    #[must_use]
    pub fn hca_type(&self) -> Option<String> {
        self.attribute("hca_type")
    }

    /// A device that nobody has, for tests.
    #[cfg(test)]
    pub(crate) fn imagined(name: &str, driver: DriverId, abi: u32) -> Self {
        let number = DeviceNumber { major: 231, minor: 192 };
        Self {
            name: name.to_owned(),
            index: None,
            node_guid: Guid::default(),
            sys_image_guid: None,
            node_type: NodeType::from(1),
            port_count: 2,
            protocol: None,
            driver,
            uverbs: Some(Uverbs { name: "uverbs0".to_owned(), number, abi }),
            source: Source::Netlink,
            fw_version: None,
        }
    }

    /// Reads the adapter's revision, which the drivers of adapters keep in sysfs.
    #[must_use]
    pub fn hw_rev(&self) -> Option<String> {
        self.attribute("hw_rev")
    }

    /// Reads entries of a port's GID table, of those that are in use.
    pub(crate) fn gids(&self, port: PortNum, indices: Range<u32>) -> Vec<GidEntry> {
        sysfs::gids(Path::new(SYS), &self.name, port, indices)
    }

    /// The name of the network device behind an entry of a port's GID table, and the GID.
    pub(crate) fn gid_netdev(&self, port: u8, index: u8) -> Option<(String, Gid)> {
        sysfs::gid_netdev(Path::new(SYS), &self.name, port, index)
    }

    /// A sysfs attribute of the device that is not empty.
    fn attribute(&self, attribute: &str) -> Option<String> {
        sysfs::attribute(Path::new(SYS), &self.name, attribute).filter(|text| !text.is_empty())
    }
}
