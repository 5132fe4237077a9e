//! `bareverbs asyncwatch`, `ibv_asyncwatch`: asynchronous events of a device and its ports.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};

use bareverbs::{AsyncEvent, AsyncEventType as Type, EventSource};
use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::Serialize;

use super::devices;
use super::getopt::{Getopt, Spec};
use super::outcome::{Failure, Outcome, ending};
use super::output::Tool;

const EXAMPLES: &str = "\
Examples:
  bareverbs asyncwatch -d rxe0     print a line for each event of rxe0 and its ports, until interrupted
  bareverbs asyncwatch --json      print each event as a JSON object on a line";

/// What `bareverbs asyncwatch` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Watch this RDMA device (the first by default)
    #[arg(short = 'd', long, value_name = "DEVICE")]
    ib_dev: Option<OsString>,
    /// Print each event as an object
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub(crate) fn run(tool: &Tool, arguments: &Arguments) -> Outcome {
    watch(tool, arguments.ib_dev.as_deref(), arguments.json)
}

/// The options of `ibv_asyncwatch`.
pub(crate) const OPTIONS: &[Spec] = &[Spec::value('d', "ib-dev"), Spec::flag('h', "help")];

/// Runs `ibv_asyncwatch`, which reads no operands.
pub(crate) fn as_c(tool: &Tool, arguments: Vec<OsString>) -> Outcome {
    let mut device = None;
    for given in Getopt::new(OPTIONS, arguments) {
        match given {
            Ok(('d', name)) => device = Some(name),
            Ok(_) => return usage(tool, 0),
            Err(complaint) => {
                tool.complain(&complaint);
                return usage(tool, 1);
            }
        }
    }
    watch(tool, device.as_deref(), false).map_err(|failure| failure.unnamed(1))
}

fn usage(tool: &Tool, code: u8) -> Outcome {
    let name = tool.name();
    let printed = tool.print(&format!(
        "Usage:
  {name}            start an asyncwatch process

Options:
  -d, --ib-dev=<dev>     use IB device <dev> (default first device found)
  -h, --help             print a help text and exit
"
    ));
    ending(printed, code)
}

/// Prints what happens until the device goes or somebody ends it.
fn watch(tool: &Tool, name: Option<&OsStr>, json: bool) -> Outcome {
    // C's puts the name that it was not given between two spaces.
    let ctx = devices::open(name, "IB device  not found")?;
    let device = &ctx.info().name;
    let events = ctx.async_events()?;
    if !json {
        tool.print(&format!("{}: async event FD {}\n", device, events.as_fd().as_raw_fd()))?;
    }
    loop {
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::new(format!("poll: {} ({errno:?})", errno.desc()))),
        }
        while let Some(event) = events.next_event()? {
            tool.print(&if json { object(device, &event)? } else { line(&event) })?;
            // The kernel says nothing after that, not even that nothing comes any more.
            if event.event_type == Type::DEVICE_FATAL {
                return Err(Failure::new(format!("{device}: the device has failed or is gone")));
            }
        }
    }
}

/// The C tool's line.
fn line(event: &AsyncEvent) -> String {
    // The C tool names no event of a queue, and prints the lower half of whatever the event is about.
    let name = match event.source() {
        EventSource::Port(_) | EventSource::Device => event.event_type.name(),
        _ => None,
    };
    let name = name.unwrap_or("unexpected");
    let number = u32::from(event.event_type);
    format!("  event_type {name} ({number}), port {}\n", event.element as i32)
}

#[derive(Serialize)]
struct Object<'a> {
    device: &'a str,
    event: super::json::Named,
    port: Option<u8>,
}

fn object(device: &str, event: &AsyncEvent) -> Result<String, Failure> {
    let port = match event.source() {
        EventSource::Port(port) => Some(port.get()),
        _ => None,
    };
    let number = u32::from(event.event_type);
    let event = super::json::Named { value: number.into(), name: event.event_type.name() };
    let object = Object { device, event, port };
    let mut text = serde_json::to_string(&object).map_err(|error| Failure::new(error.to_string()))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_c_tool() {
        let event = AsyncEvent::new;
        for (event, text) in [
            (event(Type::PORT_ERR, 1), "  event_type IBV_EVENT_PORT_ERR (10), port 1\n"),
            (event(Type::PORT_ACTIVE, 2), "  event_type IBV_EVENT_PORT_ACTIVE (9), port 2\n"),
            (event(Type::DEVICE_FATAL, 0), "  event_type IBV_EVENT_DEVICE_FATAL (8), port 0\n"),
            (event(Type::GID_CHANGE, 1), "  event_type IBV_EVENT_GID_CHANGE (18), port 1\n"),
            (event(Type::CQ_ERR, 1), "  event_type unexpected (0), port 1\n"),
            (event(Type(77), 3), "  event_type unexpected (77), port 3\n"),
        ] {
            assert_eq!(line(&event), text);
        }
    }

    #[test]
    fn objects_name_the_port() {
        let event = AsyncEvent::new(Type::PORT_ERR, 1);
        assert_eq!(
            object("rxe0", &event).unwrap(),
            "{\"device\":\"rxe0\",\"event\":{\"value\":10,\"name\":\"IBV_EVENT_PORT_ERR\"},\"port\":1}\n"
        );
    }
}
