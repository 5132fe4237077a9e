//! `bareverbs devinfo`, `ibv_devinfo`: what devices and their ports say of themselves.
//!
//! [`report`] asks the kernel, [`text`] and [`json`] show the answers; these two are functions of the answers alone, so
//! that tests can pass them what no available device has.

mod flags;
mod json;
mod names;
mod port;
mod report;
#[cfg(test)]
mod sample;
mod text;

use std::ffi::OsString;
use std::fmt::Write;

use bareverbs::Device;
use clap::Args;

use super::getopt::{Getopt, Spec};
use super::outcome::{Failure, Outcome, ending};
use super::output::{Manner, Tool};
use super::{devices, number};
use report::{Problem, Report};

const EXAMPLES: &str = "\
Examples:
  bareverbs devinfo                  every device, in short
  bareverbs devinfo -d rxe0 -i 1 -v  all of one device and one port, GIDs included
  bareverbs devinfo -l               names only
  bareverbs devinfo --json | jq '.[].ports[].state.name'";

/// What `bareverbs devinfo` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Only this device
    #[arg(short = 'd', long, value_name = "DEVICE")]
    ib_dev: Option<OsString>,
    /// Only this port of each device
    #[arg(short = 'i', long, value_name = "PORT", value_parser = port_number)]
    ib_port: Option<u32>,
    /// Print the devices' names alone
    #[arg(short, long)]
    list: bool,
    /// Print every attribute, and the GID tables
    #[arg(short, long)]
    verbose: bool,
    /// Print an array of objects, GID tables included (with --list, of names)
    #[arg(long)]
    json: bool,
}

fn port_number(text: &str) -> Result<u32, String> {
    number::between(text, 1, 255)
}

/// What both doors want.
#[derive(Debug, Default)]
struct Wanted {
    port: Option<u32>,
    verbose: bool,
    json: bool,
}

/// Runs the subcommand.
pub(crate) fn run(tool: &Tool, arguments: &Arguments) -> Outcome {
    if arguments.list {
        let devices = devices::reachable(tool, Device::list()?);
        let text = if arguments.json {
            super::json::text(&devices.iter().map(Device::name).collect::<Vec<_>>())?
        } else {
            list(&devices)
        };
        return tool.print(&text);
    }
    let devices = match &arguments.ib_dev {
        Some(name) => vec![Device::by_name(&name.to_string_lossy())?],
        None => Device::list()?,
    };
    if devices.is_empty() {
        // The error says how to fix it.
        Device::first()?;
    }
    show(
        tool,
        &devices,
        &Wanted {
            port: arguments.ib_port,
            verbose: arguments.verbose || arguments.json,
            json: arguments.json,
        },
    )
}

/// The options of `ibv_devinfo`.
pub(crate) const OPTIONS: &[Spec] = &[
    Spec::value('d', "ib-dev"),
    Spec::value('i', "ib-port"),
    Spec::flag('l', "list"),
    Spec::flag('v', "verbose"),
];

/// What C's `return -1` from `main` comes to.
const MINUS_ONE: u8 = 255;

/// Runs `ibv_devinfo`, which acts on `-l` and on mistakes as soon as it reads them.
pub(crate) fn as_c(tool: &Tool, arguments: Vec<OsString>) -> Outcome {
    let mut wanted = Wanted::default();
    let mut name = None;
    for given in Getopt::new(OPTIONS, arguments) {
        match given {
            Ok(('d', value)) => name = Some(value),
            Ok(('i', value)) => match number::integer(&value.to_string_lossy()) {
                // A number that no device has as a port is refused when the device has been asked.
                Ok(port @ 1..) => wanted.port = Some(u32::try_from(port).unwrap_or(u32::MAX)),
                Ok(_) => return usage(tool, 1),
                Err(why) => {
                    tool.complain(&format!("port {why}"));
                    return usage(tool, 1);
                }
            },
            Ok(('l', _)) => {
                let devices = devices::list_as_c().map_err(|failure| failure.code(MINUS_ONE))?;
                return tool.print(&list(&devices::reachable(tool, devices)));
            }
            Ok(_) => wanted.verbose = true,
            Err(complaint) => {
                tool.complain(&complaint);
                return usage(tool, MINUS_ONE);
            }
        }
    }
    let devices = devices::list_as_c().map_err(|failure| failure.code(MINUS_ONE))?;
    let devices = match &name {
        Some(name) => vec![named(devices, &name.to_string_lossy())?],
        None => devices::reachable(tool, devices),
    };
    if devices.is_empty() {
        return Err(Failure::bare("No IB devices found").code(MINUS_ONE));
    }
    show(tool, &devices, &wanted)
}

/// The device of that name, if it can be reached; if not, why it cannot follows C's words.
fn named(devices: Vec<Device>, name: &str) -> Result<Device, Failure> {
    let refused = |why: &str| Failure::bare(format!("IB device '{name}' wasn't found{why}")).code(MINUS_ONE);
    let device = devices.into_iter().find(|device| device.name() == name).ok_or_else(|| refused(""))?;
    match devices::obstacle(device.info()) {
        None => Ok(device),
        Some(why) => Err(refused(&format!(": {why}"))),
    }
}

fn usage(tool: &Tool, code: u8) -> Outcome {
    let printed = tool.print(&format!(
        "Usage: {}             print the ca attributes\n\
         \n\
         Options:\n  \
         -d, --ib-dev=<dev>     use IB device <dev> (default first device found)\n  \
         -i, --ib-port=<port>   use port <port> of IB device (default all ports)\n  \
         -l, --list             print only the IB devices names\n  \
         -v, --verbose          print all the attributes of the IB device(s)\n",
        tool.name()
    ));
    ending(printed, code)
}

fn list(devices: &[Device]) -> String {
    let plural = if devices.len() == 1 { "" } else { "s" };
    let mut out = format!("{} HCA{plural} found:\n", devices.len());
    for device in devices {
        let _ = writeln!(out, "\t{}", device.name());
    }
    out.push('\n');
    out
}

/// Shows what the devices answer, then complains of what they did not.
fn show(tool: &Tool, devices: &[Device], wanted: &Wanted) -> Outcome {
    let mut reports: Vec<Report> = Vec::with_capacity(devices.len());
    let mut problems: Vec<Problem> = Vec::new();
    for device in devices {
        let (report, problem) = Report::gather(device, wanted.port, wanted.verbose);
        reports.extend(report);
        problems.extend(problem);
    }
    let text = if wanted.json {
        json::text(&reports)?
    } else {
        reports.iter().map(|report| text::device(report, wanted.verbose)).collect()
    };
    let printed = tool.print(&text);
    let mut code = 0;
    for problem in problems {
        match tool.manner() {
            Manner::Ours => {
                tool.complain(&problem.to_string());
                code = 1;
            }
            Manner::C => {
                tool.say(&problem.as_c());
                code |= problem.code_of_c();
            }
        }
    }
    ending(printed, code)
}
