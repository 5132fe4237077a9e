//! `bareverbs devices`, `ibv_devices`: the RDMA devices and their node GUIDs.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;

use bareverbs::discover::{DeviceInfo, DriverId};
use bareverbs::{Context, Device, Encoding, Guid, OpenOptions};
use clap::Args;
use serde::Serialize;

use super::json::{self, Named};
use super::outcome::{Failure, InC, Outcome};
use super::output::{Manner, Tool};

const EXAMPLES: &str = "\
Examples:
  bareverbs devices          a table of names and node GUIDs
  bareverbs devices --json   with transport, driver, node and firmware; devices that cannot be reached, too";

/// What `bareverbs devices` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub(crate) fn run(tool: &Tool, arguments: &Arguments) -> Outcome {
    let devices = Device::list()?;
    if arguments.json {
        let described: Vec<Described<'_>> = devices.iter().map(|device| describe(device.info())).collect();
        return tool.print(&json::text(&described)?);
    }
    let devices = reachable(tool, devices);
    tool.print(&table(devices.iter().map(|device| (device.name(), device.info().node_guid))))
}

/// Runs `ibv_devices`, which reads no arguments.
pub(crate) fn as_c(tool: &Tool, _: Vec<OsString>) -> Outcome {
    let devices = reachable(tool, list_as_c()?);
    tool.print(&table(devices.iter().map(|device| (device.name(), device.info().node_guid))))
}

/// What C's tools say where there is no list.
const NO_LIST: &str = "Failed to get IB devices list";

/// The list, or what C's tools say where there is none.
pub(crate) fn list_as_c() -> Result<Vec<Device>, Failure> {
    Device::list().in_c(NO_LIST).map_err(|failure| failure.unnamed(1))
}

/// Opens the device of that name, or the first that can be reached. Where there is none, the C tool says `none`.
pub(crate) fn open(name: Option<&OsStr>, none: &str) -> Result<Context, Failure> {
    let (found, words) = match name.map(OsStr::to_string_lossy) {
        Some(name) => (Device::by_name(&name), format!("IB device {name} not found")),
        None => (first(), none.to_owned()),
    };
    let device = match found {
        Err(error) if error.operation() == "list devices" => Err(error).in_c(NO_LIST),
        found => found.in_c(words),
    }?;
    open_device(&device).in_c(format!("Couldn't get context for {}", device.name()))
}

/// Opens a device with the command interface that `BAREVERBS_ABI` names.
pub(crate) fn open_device(device: &Device) -> bareverbs::Result<Context> {
    open_options()?.open(device)
}

/// How devices are opened: `BAREVERBS_ABI` is `auto`, `ioctl` or `write`.
pub(crate) fn open_options() -> bareverbs::Result<OpenOptions> {
    let options = OpenOptions::new();
    match std::env::var_os("BAREVERBS_ABI") {
        Some(text) => {
            let encoding: bareverbs::Result<Encoding> = text.to_string_lossy().parse();
            Ok(options.encoding(encoding.map_err(|e| e.with_hint("BAREVERBS_ABI says so"))?))
        }
        None => Ok(options),
    }
}

/// The first that can be reached; where none can, opening the first of all says why.
fn first() -> bareverbs::Result<Device> {
    let reached = Device::list()?.into_iter().find(|device| obstacle(device.info()).is_none());
    reached.map_or_else(Device::first, Ok)
}

/// The devices that libibverbs would list: those that have a node and a provider. Ours tells of the others.
pub(crate) fn reachable(tool: &Tool, devices: Vec<Device>) -> Vec<Device> {
    devices
        .into_iter()
        .filter(|device| match obstacle(device.info()) {
            None => true,
            Some(why) => {
                if tool.manner() == Manner::Ours {
                    tool.complain(&format!("{} is left out: {why}", device.name()));
                }
                false
            }
        })
        .collect()
}

/// Why no program can reach a device, if none can.
pub(crate) fn obstacle(info: &DeviceInfo) -> Option<String> {
    // rdma-core has, or still has, no provider for these.
    if [DriverId::CXGB3, DriverId::NES, DriverId::USNIC].contains(&info.driver) {
        return Some(format!("nothing in user space drives {}", info.driver));
    }
    info.check_node().err().map(|error| error.to_string())
}

fn table<'a>(devices: impl Iterator<Item = (&'a str, Guid)>) -> String {
    let mut out = format!("    {:<16}\t   node GUID\n    {:<16}\t----------------\n", "device", "------");
    for (name, guid) in devices {
        let _ = writeln!(out, "    {name:<16}\t{guid:x}");
    }
    out
}

/// A device as JSON.
#[derive(Debug, Serialize)]
struct Described<'a> {
    name: &'a str,
    index: Option<u32>,
    node_guid: String,
    sys_image_guid: Option<String>,
    node_type: u8,
    transport: Named,
    protocol: Option<&'a str>,
    port_count: u32,
    driver: Named,
    fw_version: Option<String>,
    board_id: Option<String>,
    node: Option<Node>,
    /// Why it cannot be opened, where that is known beforehand.
    obstacle: Option<String>,
}

/// The file by which programs reach a device.
#[derive(Debug, Serialize)]
struct Node {
    path: String,
    major: u32,
    minor: u32,
    abi: u32,
}

fn describe(info: &DeviceInfo) -> Described<'_> {
    Described {
        name: &info.name,
        index: info.index,
        node_guid: info.node_guid.to_string(),
        sys_image_guid: info.sys_image_guid.map(|guid| guid.to_string()),
        node_type: info.node_type.into(),
        transport: Named { value: info.transport().0.into(), name: info.transport().name() },
        protocol: info.protocol.as_deref(),
        port_count: info.port_count,
        driver: Named { value: info.driver.0.into(), name: info.driver.name() },
        fw_version: info.fw_version().filter(|version| !version.is_empty()),
        board_id: info.board_id(),
        node: info.uverbs.as_ref().map(|uverbs| Node {
            path: uverbs.path().display().to_string(),
            major: uverbs.number.major,
            minor: uverbs.number.minor,
            abi: uverbs.abi,
        }),
        obstacle: obstacle(info),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_ibv_devices() {
        let guid = Guid([0x10, 0xd2, 0xc9, 0x10, 0, 0, 0x6b, 0xd0]);
        let devices = [("mlx4_0", guid), ("a_name_of_20_letters", Guid::default())];
        assert_eq!(
            table(devices.into_iter()),
            "    device          \t   node GUID\n    ------          \t----------------\n    \
             mlx4_0          \t10d2c91000006bd0\n    a_name_of_20_letters\t0000000000000000\n"
        );
    }
}
