//! The tools: `bareverbs SUBCOMMAND`, or a C tool's name by `argv[0]`.
//!
//! A tool has two doors. [`Command`] is ours: clap's options, `--json`, one clear line for every error. [`OLD_NAMES`] is
//! for scripts that know the C tools: the same options, output and exit codes. Behind the doors is the same code; a
//! [`Tool`] tells which one it came through.
//!
//! | file | what it holds |
//! |---|---|
//! | `outcome` | how a tool ends: exit code and last words |
//! | `output` | writing to standard output and standard error |
//! | `getopt` | the C library's option parser |
//! | `number` | numbers as the C tools read them |
//! | `json` | values for programs |
//! | `documents` | completions and man pages |
//! | `asyncwatch`, `devices`, `devinfo`, `doctor`, `link`, `pingpong`, `rping` | one tool each |

mod asyncwatch;
mod devices;
mod devinfo;
mod doctor;
mod documents;
mod getopt;
mod json;
mod link;
mod number;
mod outcome;
mod output;
mod pingpong;
mod rping;
mod signals;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use getopt::Spec;
use outcome::{Failure, Outcome};
use output::{Manner, Tool};
use pingpong::Kind;

const EXAMPLES: &str = "\
Examples:
  bareverbs devices             which RDMA devices there are
  bareverbs devinfo -d rxe0 -v  all that a device and its ports say of themselves
  bareverbs devinfo --json      the same for programs
  bareverbs pingpong rc -g 1    wait for a client on this node; then, on another:
  bareverbs pingpong rc -g 1 node1
  bareverbs rping -s            the same without telling where the device is: wait for a client; then, on another:
  bareverbs rping -c -a 10.0.0.1 -C 20 -v

Called as ibv_devices, ibv_devinfo, ibv_asyncwatch, rping, or ibv_rc_pingpong and its sisters uc, ud, srq and xsrq (by a link
of that name), it behaves as the C tool does.
BAREVERBS_ABI=ioctl or =write keeps it to one of the kernel's two command interfaces.";

/// RDMA tools on the bare kernel ABI
#[derive(Debug, Parser)]
#[command(name = "bareverbs", version, propagate_version = true, infer_long_args = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch what happens to a device and its ports
    Asyncwatch(asyncwatch::Arguments),
    /// List the RDMA devices
    Devices(devices::Arguments),
    /// Show what devices and their ports say of themselves
    Devinfo(devinfo::Arguments),
    /// Find what stands between this machine and RDMA, and what mends it
    Doctor(doctor::Arguments),
    /// Make, remove and show links: software devices over network devices, and the state of ports
    Link(link::Arguments),
    /// Send messages to a peer and back, and measure
    #[command(subcommand)]
    Pingpong(pingpong::Service),
    /// Connect by IP address and let the server read and write, as rping does
    Rping(rping::Arguments),
    /// Print or install completions for a shell
    Completions(documents::Completions),
    /// Print or install man pages
    Man(documents::Manual),
}

/// A tool behind the name of a C tool; it gets the arguments without `argv[0]`.
type OldTool = fn(&Tool, Vec<OsString>) -> Outcome;

/// A C tool that this binary stands in for.
struct OldName {
    name: &'static str,
    run: OldTool,
    /// Its options.
    options: &'static [Spec],
    /// Our subcommand that does the same.
    twin: &'static [&'static str],
}

const OLD_NAMES: &[OldName] = &[
    OldName {
        name: "ibv_asyncwatch",
        run: asyncwatch::as_c,
        options: asyncwatch::OPTIONS,
        twin: &["asyncwatch"],
    },
    OldName { name: "ibv_devices", run: devices::as_c, options: &[], twin: &["devices"] },
    OldName { name: "ibv_devinfo", run: devinfo::as_c, options: devinfo::OPTIONS, twin: &["devinfo"] },
    OldName {
        name: "ibv_rc_pingpong",
        run: |tool, arguments| pingpong::as_c(Kind::Rc, tool, arguments),
        options: Kind::Rc.options(),
        twin: &["pingpong", "rc"],
    },
    OldName {
        name: "ibv_srq_pingpong",
        run: |tool, arguments| pingpong::as_c(Kind::Srq, tool, arguments),
        options: Kind::Srq.options(),
        twin: &["pingpong", "srq"],
    },
    OldName {
        name: "ibv_uc_pingpong",
        run: |tool, arguments| pingpong::as_c(Kind::Uc, tool, arguments),
        options: Kind::Uc.options(),
        twin: &["pingpong", "uc"],
    },
    OldName {
        name: "ibv_ud_pingpong",
        run: |tool, arguments| pingpong::as_c(Kind::Ud, tool, arguments),
        options: Kind::Ud.options(),
        twin: &["pingpong", "ud"],
    },
    OldName {
        name: "ibv_xsrq_pingpong",
        run: |tool, arguments| pingpong::as_c(Kind::Xsrq, tool, arguments),
        options: Kind::Xsrq.options(),
        twin: &["pingpong", "xsrq"],
    },
    OldName { name: "rping", run: rping::as_c, options: rping::OPTIONS, twin: &["rping"] },
];

/// Runs the tool that the command line asks for.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().map(OsString::as_os_str).unwrap_or_default();
    match old_tool(name) {
        Some(run) => {
            let tool = Tool::new(name.to_string_lossy(), Manner::C);
            let outcome = run(&tool, arguments.into_iter().skip(1).collect());
            tool.conclude(outcome)
        }
        None => ours(&arguments),
    }
}

fn old_tool(name: &OsStr) -> Option<OldTool> {
    let name = Path::new(name).file_name()?;
    OLD_NAMES.iter().find(|old| name == old.name).map(|old| old.run)
}

fn ours(arguments: &[OsString]) -> ExitCode {
    let (name, outcome) = match Cli::try_parse_from(arguments).map(|cli| cli.command) {
        Ok(Command::Asyncwatch(arguments)) => {
            run("bareverbs asyncwatch", |tool| asyncwatch::run(tool, &arguments))
        }
        Ok(Command::Devices(arguments)) => run("bareverbs devices", |tool| devices::run(tool, &arguments)),
        Ok(Command::Devinfo(arguments)) => run("bareverbs devinfo", |tool| devinfo::run(tool, &arguments)),
        Ok(Command::Doctor(arguments)) => run("bareverbs doctor", |tool| doctor::run(tool, &arguments)),
        Ok(Command::Link(arguments)) => run("bareverbs link", |tool| link::run(tool, &arguments)),
        Ok(Command::Pingpong(service)) => run(service.name(), |tool| pingpong::run(tool, &service)),
        Ok(Command::Rping(arguments)) => run("bareverbs rping", |tool| rping::run(tool, &arguments)),
        Ok(Command::Completions(arguments)) => {
            run("bareverbs completions", |tool| documents::completions(tool, &arguments))
        }
        Ok(Command::Man(arguments)) => run("bareverbs man", |tool| documents::manual(tool, &arguments)),
        Err(error) => run(&named(arguments), |tool| unparsed(tool, &error)),
    };
    name.conclude(outcome)
}

fn run(name: &str, body: impl FnOnce(&Tool) -> Outcome) -> (Tool, Outcome) {
    let tool = Tool::new(name, Manner::Ours);
    let outcome = body(&tool);
    (tool, outcome)
}

/// What errors begin with where the arguments could not be read as a whole.
fn named(arguments: &[OsString]) -> String {
    let cli = Cli::command();
    let mut name = cli.get_name().to_owned();
    let subcommand = arguments.get(1).and_then(|first| cli.find_subcommand(first));
    if let Some(subcommand) = subcommand {
        name = format!("{name} {}", subcommand.get_name());
    }
    name
}

/// What clap has to say instead of arguments: the help that was asked for, or a refusal, which becomes one line.
fn unparsed(tool: &Tool, error: &clap::Error) -> Outcome {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => tool.print(&text),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Err(Failure::new(format!("no command; try: {} --help", tool.name())).code(Failure::USAGE))
        }
        _ => {
            let first = text.split("\n\n").next().unwrap_or_default();
            let words: Vec<&str> = first.trim_start_matches("error: ").split_whitespace().collect();
            let line = format!("{}; try: {} --help", words.join(" "), tool.name());
            Err(Failure::new(line).code(Failure::USAGE))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn old_names_are_known_by_their_last_component() {
        assert!(old_tool(OsStr::new("/usr/bin/ibv_devinfo")).is_some());
        assert!(old_tool(OsStr::new("bareverbs")).is_none());
        assert!(old_tool(OsStr::new("")).is_none());
    }
}
