//! Devices from sysfs: /sys/class/infiniband and /sys/class/infiniband_verbs.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::device::{DeviceInfo, Source, Uverbs};
use crate::error::{Error, Result};
use crate::netlink::{DeviceNumber, DriverId, MAX_PORTS, NodeType};
use crate::sys::file::read_attribute;
use crate::types::{Gid, GidEntry, GidType, Guid, PortNum};

/// Lists the wanted devices: those with a `uverbs` file in the order of its folder, then the others by name.
///
/// Nothing where neither folder exists.
pub(super) fn list(sys: &Path, mut wanted: impl FnMut(&str) -> bool) -> Result<Option<Vec<DeviceInfo>>> {
    let verbs = entries(&verbs_folder(sys))?;
    let devices = entries(&sys.join("class/infiniband"))?;
    if verbs.is_none() && devices.is_none() {
        return Ok(None);
    }

    let mut listed = Vec::new();
    let mut reached = Vec::new();
    for entry in verbs.unwrap_or_default() {
        // Plain files lie there too (abi_version), and a device may leave between two reads.
        let Some((name, uverbs)) = uverbs(sys, &entry) else {
            continue;
        };
        if wanted(&name) {
            listed.push(describe(sys, name.clone(), Some(uverbs)));
        }
        reached.push(name);
    }
    let mut others: Vec<_> = devices
        .unwrap_or_default()
        .into_iter()
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| !reached.contains(name))
        .collect();
    others.sort_unstable();
    others.retain(|name| wanted(name));
    listed.extend(others.into_iter().map(|name| describe(sys, name, None)));
    Ok(Some(listed))
}

/// The `uverbs` file of one device.
pub(super) fn uverbs_of(sys: &Path, device: &str) -> Option<Uverbs> {
    entries(&verbs_folder(sys))
        .ok()??
        .iter()
        .filter_map(|entry| uverbs(sys, entry))
        .find_map(|(name, uverbs)| (name == device).then_some(uverbs))
}

/// Which driver is behind a device, guessed from what sysfs shows of it.
pub(super) fn driver(sys: &Path, device: &str) -> DriverId {
    let Some(folder) = device_folder(sys, device) else {
        return DriverId::UNKNOWN;
    };
    // A software device may have the adapter below it as its parent, so what tells software is asked first:
    // rxe alone has a file that names its network device; siw has nothing but its name.
    if folder.join("parent").exists() || device.starts_with("rxe") {
        return DriverId::RXE;
    }
    if device.starts_with("siw") {
        return DriverId::SIW;
    }
    let Ok(target) = fs::read_link(folder.join("device/driver")) else {
        return DriverId::UNKNOWN;
    };
    match target.file_name().and_then(|name| name.to_str()) {
        Some("mlx4_core") => DriverId::MLX4,
        Some("mlx5_core") => DriverId::MLX5,
        Some("ib_mthca") => DriverId::MTHCA,
        Some("hfi1") => DriverId::HFI1,
        Some("qib") => DriverId::QIB,
        Some("efa") => DriverId::EFA,
        Some("erdma") => DriverId::ERDMA,
        Some("vmw_pvrdma") => DriverId::VMW_PVRDMA,
        _ => DriverId::UNKNOWN,
    }
}

/// Reads one attribute of a device, the newline taken off.
pub(super) fn attribute(sys: &Path, device: &str, attribute: &str) -> Option<String> {
    text(&device_folder(sys, device)?.join(attribute))
}

/// Returns the entries in use of a port's GID table, of those with these indices.
pub(super) fn gids(sys: &Path, device: &str, port: PortNum, indices: Range<u32>) -> Vec<GidEntry> {
    let Some(folder) = device_folder(sys, device).map(|folder| folder.join(format!("ports/{port}"))) else {
        return Vec::new();
    };
    let entry = |index: u32| {
        let gid: Ipv6Addr = text(&folder.join(format!("gids/{index}")))?.parse().ok()?;
        if gid.is_unspecified() {
            return None;
        }
        let gid_type = match text(&folder.join(format!("gid_attrs/types/{index}"))).as_deref() {
            Some("RoCE v2") => GidType::ROCE_V2,
            // InfiniBand has the file too, and it does not read.
            _ if text(&folder.join(format!("gid_attrs/ndevs/{index}"))).is_some() => GidType::ROCE_V1,
            _ => GidType::IB,
        };
        Some(GidEntry { gid: gid.into(), index, port, gid_type, netdev_ifindex: 0 })
    };
    if indices.len() <= 1 {
        return indices.filter_map(entry).collect();
    }
    // The length that the driver reports is not trusted: only what exists is read.
    let names = entries(&folder.join("gids")).ok().flatten().unwrap_or_default();
    let mut existing: Vec<u32> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    existing.retain(|index| indices.contains(index));
    existing.sort_unstable();
    existing.into_iter().filter_map(entry).collect()
}

/// The name of the network device behind a GID, and the GID.
pub(super) fn gid_netdev(sys: &Path, device: &str, port: u8, index: u8) -> Option<(String, Gid)> {
    let folder = device_folder(sys, device)?.join(format!("ports/{port}"));
    let gid: Ipv6Addr = text(&folder.join(format!("gids/{index}")))?.parse().ok()?;
    let netdev = text(&folder.join(format!("gid_attrs/ndevs/{index}")))?;
    Some((netdev, gid.into()))
}

fn verbs_folder(sys: &Path) -> PathBuf {
    sys.join("class/infiniband_verbs")
}

/// The folder of a device, unless its name would lead elsewhere.
fn device_folder(sys: &Path, device: &str) -> Option<PathBuf> {
    let plain = !device.is_empty() && !device.contains('/') && !device.starts_with('.');
    plain.then(|| sys.join("class/infiniband").join(device))
}

/// What one entry of /sys/class/infiniband_verbs says: whose it is, and the file.
fn uverbs(sys: &Path, entry: &OsString) -> Option<(String, Uverbs)> {
    let folder = verbs_folder(sys).join(entry);
    let device = text(&folder.join("ibdev"))?;
    let number = device_number(&folder)?;
    let abi = text(&folder.join("abi_version")).and_then(|abi| abi.parse().ok()).unwrap_or(0);
    Some((device, Uverbs { name: entry.to_str()?.to_owned(), number, abi }))
}

/// What the node of the character device with this folder must be made with.
pub(super) fn device_number(folder: &Path) -> Option<DeviceNumber> {
    let number = text(&folder.join("dev"))?;
    let (major, minor) = number.split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// All that sysfs tells of a device.
fn describe(sys: &Path, name: String, uverbs: Option<Uverbs>) -> DeviceInfo {
    let guid = |which| attribute(sys, &name, which).and_then(|text| parse_guid(&text));
    DeviceInfo {
        index: None,
        node_guid: guid("node_guid").unwrap_or_default(),
        sys_image_guid: guid("sys_image_guid"),
        node_type: NodeType::from(node_type(attribute(sys, &name, "node_type").as_deref())),
        port_count: port_count(sys, &name),
        protocol: None,
        driver: driver(sys, &name),
        uverbs,
        source: Source::Sysfs,
        fw_version: None,
        name,
    }
}

/// The number in front of `1: CA`.
fn node_type(text: Option<&str>) -> u8 {
    text.and_then(|text| text.split(':').next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Returns the highest number among the folders of the ports.
fn port_count(sys: &Path, device: &str) -> u32 {
    let Some(folder) = device_folder(sys, device) else {
        return 0;
    };
    let ports = entries(&folder.join("ports")).ok().flatten().unwrap_or_default();
    ports.iter().filter_map(|port| port.to_str()?.parse().ok()).max().unwrap_or(0).min(MAX_PORTS)
}

/// Reads `xxxx:xxxx:xxxx:xxxx`.
fn parse_guid(text: &str) -> Option<Guid> {
    let mut groups = text.split(':').map(|group| {
        // from_str_radix alone would take a sign.
        let plain = group.len() == 4 && group.bytes().all(|b| b.is_ascii_hexdigit());
        u16::from_str_radix(group, 16).ok().filter(|_| plain)
    });
    let mut guid = Guid::default();
    for bytes in guid.0.chunks_exact_mut(2) {
        bytes.copy_from_slice(&groups.next()??.to_be_bytes());
    }
    groups.next().is_none().then_some(guid)
}

/// A file's text, blanks at its end taken off; bytes that are not UTF-8 are replaced.
pub(super) fn text(path: &Path) -> Option<String> {
    let bytes = read_attribute(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// The names in a folder, in its own order; nothing if there is no such folder.
fn entries(folder: &Path) -> Result<Option<Vec<OsString>>> {
    let failed = |e: io::Error| {
        let errno = Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO));
        Error::os("list devices", folder.display().to_string(), errno)
    };
    match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
        Ok(found) => {
            found.map(|entry| Ok(entry.map_err(failed)?.file_name())).collect::<Result<Vec<_>>>().map(Some)
        }
    }
}

#[cfg(test)]
#[path = "sysfs_tests.rs"]
mod tests;
