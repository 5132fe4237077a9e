//! Which RDMA devices there are, and by which file each is reached.
//!
//! RDMA netlink is asked first: it needs neither sysfs nor udev nor any configuration, and a list of up to three
//! devices costs four system calls and two more for each device. Where the kernel has no such netlink, or refuses it (a seccomp
//! filter, say), sysfs is read.
//!
//! Order: that of `ibv_get_device_list`, which is the kernel's own (by index) with netlink, and the order of the folder
//! /sys/class/infiniband_verbs with sysfs. libibverbs leaves out devices that have no node under /dev/infiniband and those
//! that none of its providers takes; here they are listed, and [`DeviceInfo::check_node`] and [`DeviceInfo::driver`] tell.
//!
//! | file | what it holds |
//! |---|---|
//! | `device` | what is known of a device |
//! | `netlink` | devices from RDMA netlink |
//! | `sysfs` | devices from sysfs |
//! | `node` | the device node: found, checked, opened |
//! | `rdma_cm` | the node of RDMA-CM |

mod device;
mod netlink;
mod node;
mod rdma_cm;
mod sysfs;
#[cfg(test)]
mod testing;

use std::path::Path;

pub use device::{DeviceInfo, Source, Uverbs};
pub(crate) use rdma_cm::open_rdma_cm;

pub use crate::netlink::{DeviceNumber, DriverId, NodeType, Transport};

use crate::error::{Cause, Error, Result};
use crate::types::Guid;

/// Where sysfs is mounted.
const SYS: &str = "/sys";

/// Lists the RDMA devices of this network namespace.
///
/// The list is empty where the kernel has RDMA and no device.
///
/// # Errors
///
/// `NotFound` where the kernel shows no trace of RDMA: neither the netlink family nor /sys/class/infiniband.
/// Otherwise what netlink answered, if sysfs has nothing to tell either.
///
/// Linux 5.1 with netlink, 3.0 with sysfs; `ibv_get_device_list(3)`.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    matching(|_| true)
}

/// Finds the RDMA device called `name`.
///
/// # Errors
///
/// `NotFound`, with the names there are; else as [`devices`].
///
/// Linux 5.1 with netlink, 3.0 with sysfs.
pub fn device(name: &str) -> Result<DeviceInfo> {
    let mut names = Vec::new();
    let found = matching(|candidate| {
        names.push(candidate.to_owned());
        candidate == name
    })?;
    found.into_iter().next().ok_or_else(|| {
        let error = Error::new(
            "find device",
            name.escape_debug().to_string(),
            Cause::NotFound("no RDMA device has that name".into()),
        );
        match names.as_slice() {
            [] => error
                .with_hint("there is no RDMA device at all; try: rdma link add rxe0 type rxe netdev eth0"),
            some => error.with_hint(format!("there are: {}", some.join(", "))),
        }
    })
}

/// The device that RDMA-CM names by the kernel's number for it and by its node GUID.
///
/// # Errors
///
/// `NotFound` where it has gone; else as [`devices`].
pub(crate) fn device_by_number(index: u32, node_guid: Guid) -> Result<DeviceInfo> {
    // Where only sysfs tells of devices, they have no numbers.
    let is_it = |info: &DeviceInfo| info.node_guid == node_guid && info.index.is_none_or(|n| n == index);
    devices()?.into_iter().find(is_it).ok_or_else(|| {
        let why = "no RDMA device has that node GUID";
        Error::new("find device", node_guid.to_string(), Cause::NotFound(why.into()))
    })
}

/// Lists devices by one way alone, to compare the two.
///
/// # Errors
///
/// As [`devices`], where that way is closed.
pub fn devices_from(source: Source) -> Result<Vec<DeviceInfo>> {
    match source {
        Source::Netlink => netlink::list(Path::new(SYS), |_| true),
        Source::Sysfs => sysfs::list(Path::new(SYS), |_| true)?.ok_or_else(|| {
            let why = "neither infiniband nor infiniband_verbs is there";
            Error::new("list devices", "/sys/class", Cause::NotFound(why.into()))
                .with_hint("sysfs is not mounted, or no RDMA module is loaded")
        }),
    }
}

/// The devices whose names are wanted; the others are not asked about.
fn matching(mut wanted: impl FnMut(&str) -> bool) -> Result<Vec<DeviceInfo>> {
    let sys = Path::new(SYS);
    match netlink::list(sys, &mut wanted) {
        Ok(devices) => Ok(devices),
        Err(refused) => sysfs::list(sys, wanted)?.ok_or_else(|| without_sysfs(refused)),
    }
}

/// The error where netlink failed and sysfs is not there.
fn without_sysfs(refused: Error) -> Error {
    match refused.errno() {
        Some(nix::errno::Errno::EPROTONOSUPPORT) => no_rdma(),
        _ => refused,
    }
}

fn no_rdma() -> Error {
    Error::new("list devices", "", Cause::NotFound("this kernel has no RDMA subsystem loaded".into()))
        .with_hint("try: modprobe -a ib_uverbs rdma_rxe (or the module of your adapter)")
}
