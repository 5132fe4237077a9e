//! Devices from RDMA netlink.

use std::path::Path;

use super::device::{DeviceInfo, Source, Uverbs};
use super::sysfs;
use crate::error::Result;
use crate::netlink::{CharDevice, DriverId, Nldev, RdmaDevice};

/// Lists the wanted devices, in the kernel's order.
pub(super) fn list(sys: &Path, mut wanted: impl FnMut(&str) -> bool) -> Result<Vec<DeviceInfo>> {
    let mut nldev = Nldev::open()?;
    let devices = nldev.devices()?;
    Ok(devices
        .into_iter()
        .filter(|device| wanted(&device.name))
        .map(|device| {
            // A refusal has many reasons (an old kernel, no ib_uverbs, the device just left), and sysfs settles them all.
            let chardev = nldev.char_device(device.index, "uverbs").ok();
            complete(sys, device, chardev)
        })
        .collect())
}

/// A device with what netlink, or else sysfs, knows of its character device.
fn complete(sys: &Path, device: RdmaDevice, chardev: Option<CharDevice>) -> DeviceInfo {
    let told = chardev.as_ref().and_then(|found| found.driver);
    let uverbs = match chardev {
        // The upper half of the ABI's number is reserved and zero.
        Some(found) => Some(Uverbs { name: found.name, number: found.number, abi: found.abi as u32 }),
        None => sysfs::uverbs_of(sys, &device.name),
    };
    DeviceInfo {
        driver: told
            .filter(|driver| *driver != DriverId::UNKNOWN)
            .unwrap_or_else(|| sysfs::driver(sys, &device.name)),
        name: device.name,
        index: Some(device.index),
        node_guid: device.node_guid,
        sys_image_guid: device.sys_image_guid,
        node_type: device.node_type,
        port_count: device.port_count,
        protocol: device.protocol,
        uverbs,
        source: Source::Netlink,
        fw_version: device.fw_version,
    }
}
