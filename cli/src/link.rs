//! `bareverbs link`: software devices on network devices, and the state of all ports, like `rdma link`.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;

use bareverbs::PhysState;
use bareverbs::netlink::{Nldev, PortInfo, RdmaDevice};
use clap::{ArgMatches, Args, Command};
use nix::errno::Errno;
use serde::Serialize;

use super::json;
use super::ours::{self, Entry, Is, call};
use super::outcome::{Failure, Outcome};
use super::output::Tool;

const EXAMPLES: &str = "\
Examples:
  bareverbs link add rxe0 type rxe netdev eth0   software RoCE on eth0 (needs CAP_NET_ADMIN and the module rdma_rxe)
  bareverbs link                                 the state of every port
  bareverbs link show rxe0/1 --json
  bareverbs link delete rxe0";

/// What `bareverbs link` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Alone {
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

/// What may follow `bareverbs link`.
const ACTIONS: &[Entry] = &[
    Entry {
        name: "add",
        about: "Add a software device on a network device",
        is: Is::Tool { takes: Add::augment_args, run: |tool, given| call(tool, given, Add::run) },
    },
    Entry {
        name: "delete",
        about: "Delete a software device; programs that use it lose it",
        is: Is::Tool { takes: Delete::augment_args, run: |tool, given| call(tool, given, Delete::run) },
    },
    Entry {
        name: "show",
        about: "Show the state of ports, like `link` without an action",
        is: Is::Tool { takes: Show::augment_args, run: |tool, given| call(tool, given, Show::run) },
    },
];

#[derive(Debug, Args)]
#[command(override_usage = "bareverbs link add <NAME> type <TYPE> netdev <NETDEV>")]
struct Add {
    /// The name of the new RDMA device
    name: OsString,
    /// The word "type"
    #[arg(value_name = "type", value_parser = ["type"], hide_possible_values = true)]
    _type: String,
    /// The kind of device: rxe (software RoCE) or siw (software iWARP)
    #[arg(value_name = "TYPE")]
    kind: OsString,
    /// The word "netdev"
    #[arg(value_name = "netdev", value_parser = ["netdev"], hide_possible_values = true)]
    _netdev: String,
    /// The network device that carries it
    #[arg(value_name = "NETDEV")]
    netdev: OsString,
}

#[derive(Debug, Args)]
#[command(alias = "del", alias = "remove")]
struct Delete {
    /// The RDMA device
    name: OsString,
}

#[derive(Debug, Args)]
#[command(alias = "list")]
struct Show {
    /// Only this device, or this port of it
    #[arg(value_name = "NAME[/PORT]")]
    link: Option<OsString>,
    /// Print an array of objects
    #[arg(long)]
    json: bool,
}

/// Adds what the subcommand takes.
pub(crate) fn takes(command: Command) -> Command {
    let command = ours::with(Alone::augment_args(command), ACTIONS);
    command.subcommand_required(false).arg_required_else_help(false)
}

/// Runs the subcommand.
pub(crate) fn run(tool: &Tool, mut given: ArgMatches) -> Outcome {
    match ours::chosen(ACTIONS, &mut given) {
        Some((Entry { is: Is::Tool { run, .. }, .. }, given)) => run(tool, given),
        _ => call(tool, given, |tool, alone: &Alone| show(tool, None, alone.json)),
    }
}

impl Add {
    fn run(_: &Tool, add: &Self) -> Outcome {
        let (name, kind, netdev) = (text(&add.name)?, text(&add.kind)?, text(&add.netdev)?);
        Ok(Nldev::open()?.link_add(name, kind, netdev)?)
    }
}

impl Delete {
    fn run(_: &Tool, delete: &Self) -> Outcome {
        let name = text(&delete.name)?;
        Ok(Nldev::open()?.link_del(name)?)
    }
}

impl Show {
    fn run(tool: &Tool, given: &Self) -> Outcome {
        let link = given.link.as_deref().map(text).transpose()?;
        show(tool, link, given.json)
    }
}

/// A name as it was given: a device of a name that is merely like it would be another.
fn text(name: &OsStr) -> Result<&str, Failure> {
    name.to_str().ok_or_else(|| Failure::new(format!("{name:?}: the name is not UTF-8")))
}

fn show(tool: &Tool, link: Option<&str>, as_json: bool) -> Outcome {
    let mut nldev = Nldev::open()?;
    let wanted = link.map(Wanted::parse).transpose()?;
    let devices = nldev.devices()?;
    let mut links = Vec::new();
    for (device, ports) in select(&devices, wanted.as_ref())? {
        for port in ports {
            match nldev.port(device.index, port) {
                Ok(port) => links.push(Link::new(device, &port)),
                // It has gone since it was listed: of all devices it is none any more.
                Err(error) if wanted.is_none() && error.raw_os_error() == Some(Errno::EINVAL as i32) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    tool.print(&if as_json { json::text(&links)? } else { links.iter().map(Link::line).collect() })
}

/// `NAME` or `NAME/PORT`.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    device: &'a str,
    port: Option<u32>,
}

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Result<Self, Failure> {
        match text.split_once('/') {
            None => Ok(Self { device: text, port: None }),
            Some((device, port)) => match super::number::between(port, 1, u32::MAX) {
                Ok(port) => Ok(Self { device, port: Some(port) }),
                Err(why) => Err(Failure::new(format!("port of {text:?}: {why}")).code(Failure::USAGE)),
            },
        }
    }
}

type Ports = std::ops::RangeInclusive<u32>;

/// The devices that are wanted, each with its ports that are.
fn select<'a>(
    devices: &'a [RdmaDevice],
    wanted: Option<&Wanted<'_>>,
) -> Result<Vec<(&'a RdmaDevice, Ports)>, Failure> {
    let Some(wanted) = wanted else {
        return Ok(devices.iter().map(|device| (device, 1..=device.port_count)).collect());
    };
    let Some(device) = devices.iter().find(|device| device.name == wanted.device) else {
        let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        let there = if names.is_empty() {
            "there is none at all".into()
        } else {
            format!("there are: {}", names.join(", "))
        };
        return Err(Failure::new(format!("{:?}: no RDMA device has that name; {there}", wanted.device)));
    };
    match wanted.port {
        None => Ok(vec![(device, 1..=device.port_count)]),
        Some(port) if port <= device.port_count => Ok(vec![(device, port..=port)]),
        Some(port) => Err(Failure::new(format!(
            "{}/{port}: {} has {} port{}",
            device.name,
            device.name,
            device.port_count,
            if device.port_count == 1 { "" } else { "s" }
        ))),
    }
}

/// A port, under the names that `rdma -j link` gives to its fields.
#[derive(Debug, Default, Serialize)]
struct Link {
    ifindex: u32,
    ifname: String,
    port: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sm_lid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lmc: Option<u8>,
    state: &'static str,
    physical_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    netdev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netdev_index: Option<u32>,
}

impl Link {
    fn new(device: &RdmaDevice, port: &PortInfo) -> Self {
        let prefix = |prefix: u64| {
            let [a, b, c, d] = [48, 32, 16, 0].map(|shift| prefix >> shift & 0xffff);
            format!("{a:04x}:{b:04x}:{c:04x}:{d:04x}")
        };
        Self {
            ifindex: device.index,
            ifname: device.name.clone(),
            port: port.port,
            subnet_prefix: port.subnet_prefix.map(prefix),
            lid: port.lid,
            sm_lid: port.sm_lid,
            lmc: port.lmc,
            state: port.state.name().unwrap_or("UNKNOWN"),
            physical_state: phys_state(port.phys_state),
            netdev: port.netdev.clone(),
            netdev_index: port.netdev_index,
        }
    }

    /// The line of `rdma link`, the blank at its end included.
    fn line(&self) -> String {
        let mut line = format!("link {}/{} ", self.ifname, self.port);
        let mut field = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = write!(line, "{name} {value} ");
            }
        };
        field("subnet_prefix", self.subnet_prefix.clone());
        field("lid", self.lid.map(|lid| lid.to_string()));
        field("sm_lid", self.sm_lid.map(|lid| lid.to_string()));
        field("lmc", self.lmc.map(|lmc| lmc.to_string()));
        field("state", Some(self.state.into()));
        field("physical_state", Some(self.physical_state.into()));
        field("netdev", self.netdev.clone());
        line.push('\n');
        line
    }
}

/// Names of physical states as `rdma link` prints them; they differ from the kernel's and from `ibv_devinfo`'s.
fn phys_state(state: PhysState) -> &'static str {
    match state {
        PhysState::SLEEP => "SLEEP",
        PhysState::POLLING => "POLLING",
        PhysState::DISABLED => "DISABLED",
        PhysState::PORT_CONFIGURATION_TRAINING => "ARMED",
        PhysState::LINK_UP => "LINK_UP",
        PhysState::LINK_ERROR_RECOVERY => "LINK_ERROR_RECOVER",
        PhysState::PHY_TEST => "PHY_TEST",
        PhysState(0) => "NOP",
        PhysState(9) => "OPA_OFFLINE",
        PhysState(11) => "OPA_TEST",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_rdma_link() {
        let rxe = Link {
            ifname: "rxe0".into(),
            port: 1,
            state: "ACTIVE",
            physical_state: phys_state(PhysState::LINK_UP),
            netdev: Some("eth0".into()),
            netdev_index: Some(2),
            ..Link::default()
        };
        assert_eq!(rxe.line(), "link rxe0/1 state ACTIVE physical_state LINK_UP netdev eth0 \n");
        let ib = Link {
            ifname: "mlx4_0".into(),
            port: 1,
            subnet_prefix: Some("fe80:0000:0000:0000".into()),
            lid: Some(13399),
            sm_lid: Some(49151),
            lmc: Some(0),
            state: "ACTIVE",
            physical_state: "LINK_UP",
            ..Link::default()
        };
        assert_eq!(
            ib.line(),
            "link mlx4_0/1 subnet_prefix fe80:0000:0000:0000 lid 13399 sm_lid 49151 lmc 0 state ACTIVE \
             physical_state LINK_UP \n"
        );
        let value = serde_json::to_value(&rxe).unwrap();
        assert_eq!(value["netdev_index"], 2);
        assert!(value.get("lid").is_none());
    }

    #[test]
    fn a_name_is_taken_as_it_was_given() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(text(OsStr::new("réseau")), Ok("réseau"));
        let refused = text(OsStr::from_bytes(b"x\xff")).unwrap_err();
        assert_eq!(refused.line("link").as_deref(), Some("link: \"x\\xFF\": the name is not UTF-8"));
    }

    #[test]
    fn a_link_is_a_device_or_a_port_of_it() {
        assert_eq!(Wanted::parse("rxe0"), Ok(Wanted { device: "rxe0", port: None }));
        assert_eq!(Wanted::parse("rxe0/2"), Ok(Wanted { device: "rxe0", port: Some(2) }));
        for bad in ["rxe0/", "rxe0/0", "rxe0/x", "rxe0/1/1", "rxe0/99999999999"] {
            assert_eq!(Wanted::parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
