//! The tools: `bareverbs SUBCOMMAND`, or a C tool's name by `argv[0]`.
//!
//! Each tool has two command lines. [`TOOLS`] is ours: clap's options, `--json`, one line for every error. [`OLD_NAMES`] is
//! for scripts written for the C tools: the same options, output and exit codes. Both run the same code; a [`Tool`] says which
//! of them was used.
//!
//! | file | what it holds |
//! |---|---|
//! | `outcome` | how a tool ends: exit code and error message |
//! | `output` | writing to standard output and standard error |
//! | `ours` | our command line |
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
mod ours;
mod outcome;
mod output;
mod pingpong;
mod rping;
mod signals;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Command};

use getopt::Spec;
use ours::{Entry, Is, call};
use outcome::Outcome;
use output::{Manner, Tool};
use pingpong::Kind;

const EXAMPLES: &str = "\
Examples:
  bareverbs devices             list the RDMA devices
  bareverbs devinfo -d rxe0 -v  the attributes of a device and its ports
  bareverbs devinfo --json      the same for programs
  bareverbs pingpong rc -g 1    wait for a client on this node; then, on another:
  bareverbs pingpong rc -g 1 node1
  bareverbs rping -s            find the device by IP address: wait for a client; then, on another:
  bareverbs rping -c -a 10.0.0.1 -C 20 -v

Called as ibv_devices, ibv_devinfo, ibv_asyncwatch, rping, or ibv_rc_pingpong (also uc, ud, srq, xsrq), for instance through a
symbolic link, it behaves like that C tool.
BAREVERBS_ABI=ioctl or =write restricts it to one of the kernel's two command interfaces.";

/// What follows `bareverbs`.
const TOOLS: &[Entry] = &[
    Entry {
        name: "asyncwatch",
        about: "Print asynchronous events of a device and its ports",
        is: Is::Tool {
            takes: asyncwatch::Arguments::augment_args,
            run: |tool, given| call(tool, given, asyncwatch::run),
        },
    },
    Entry {
        name: "devices",
        about: "List the RDMA devices",
        is: Is::Tool {
            takes: devices::Arguments::augment_args,
            run: |tool, given| call(tool, given, devices::run),
        },
    },
    Entry {
        name: "devinfo",
        about: "Show the attributes of devices and their ports",
        is: Is::Tool {
            takes: devinfo::Arguments::augment_args,
            run: |tool, given| call(tool, given, devinfo::run),
        },
    },
    Entry {
        name: "doctor",
        about: "Find what keeps RDMA from working on this machine, and how to fix it",
        is: Is::Tool {
            takes: doctor::Arguments::augment_args,
            run: |tool, given| call(tool, given, doctor::run),
        },
    },
    Entry {
        name: "link",
        about: "Add, delete and show links: software devices on network devices, and the state of ports",
        is: Is::Tool { takes: link::takes, run: link::run },
    },
    Entry {
        name: "pingpong",
        about: "Exchange messages with a peer and measure the time",
        is: Is::Family(pingpong::SERVICES),
    },
    Entry {
        name: "rping",
        about: "Connect by IP address and exchange messages by RDMA read and write, like rping",
        is: Is::Tool {
            takes: rping::Arguments::augment_args,
            run: |tool, given| call(tool, given, rping::run),
        },
    },
    Entry {
        name: "completions",
        about: "Print or install completions for a shell",
        is: Is::Tool {
            takes: documents::Completions::augment_args,
            run: |tool, given| call(tool, given, documents::completions),
        },
    },
    Entry {
        name: "man",
        about: "Print or install man pages",
        is: Is::Tool {
            takes: documents::Manual::augment_args,
            run: |tool, given| call(tool, given, documents::manual),
        },
    },
];

/// Runs a tool with the arguments of its C counterpart, without `argv[0]`.
type OldTool = fn(&Tool, Vec<OsString>) -> Outcome;

/// A C tool that this binary replaces.
struct OldName {
    name: &'static str,
    run: OldTool,
    /// Its options.
    options: &'static [Spec],
    /// The equivalent subcommand.
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

/// musl's allocator maps and unmaps a page for nearly every size class that a short run uses; this one maps 64 KiB once.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Runs the tool that `argv` names.
fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().map(OsString::as_os_str).unwrap_or_default();
    match old_tool(name) {
        Some(run) => {
            let tool = Tool::new(name.to_string_lossy(), Manner::C);
            let outcome = run(&tool, arguments.into_iter().skip(1).collect());
            tool.conclude(outcome)
        }
        None => ours::main(command(), TOOLS, &arguments),
    }
}

fn old_tool(name: &OsStr) -> Option<OldTool> {
    let name = Path::new(name).file_name()?;
    OLD_NAMES.iter().find(|old| name == old.name).map(|old| old.run)
}

/// The definition of our command line.
fn command() -> Command {
    let command = Command::new("bareverbs")
        .about("RDMA tools on the bare kernel ABI")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .infer_long_args(true)
        .after_help(EXAMPLES);
    ours::with(command, TOOLS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn old_names_are_known_by_their_last_component() {
        assert!(old_tool(OsStr::new("/usr/bin/ibv_devinfo")).is_some());
        assert!(old_tool(OsStr::new("bareverbs")).is_none());
        assert!(old_tool(OsStr::new("")).is_none());
    }
}
