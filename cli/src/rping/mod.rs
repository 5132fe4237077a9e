//! `bareverbs rping`: texts to a server and back, over a connection of RDMA-CM, as librdmacm's `rping` does it.
//!
//! The client advertises a text; the server reads it, says so, receives the address to write it back to, writes it there and says
//! so. Nobody but the peers' devices copies it.
//!
//! | file | what it holds |
//! |---|---|
//! | `args` | the options |
//! | `wire` | the message that names memory |
//! | `session` | one connection: what it is made of |
//! | `client`, `server` | whose turn it is, on each side |
//! | `run` | connections begun and ended |
//! | `play` | the loop that plays them, on one thread |
//! | `report` | what was measured |

mod args;
mod client;
mod play;
mod report;
mod run;
mod server;
mod session;
mod wire;
mod wires;

pub(crate) use args::{Arguments, OPTIONS};

use std::ffi::OsString;

use self::args::Plan;
use crate::outcome::Outcome;
use crate::output::Tool;
use crate::signals;

/// Runs the subcommand.
pub(crate) fn run(tool: &Tool, arguments: &Arguments) -> Outcome {
    let plan = Plan::ours(arguments)?;
    signals::watch();
    run::run(tool, &plan)
}

/// Runs `rping`. Its errors are -1 and have no name before them; an interrupt kills it.
pub(crate) fn as_c(tool: &Tool, arguments: Vec<OsString>) -> Outcome {
    let plan = Plan::as_c(tool, arguments)?;
    run::run(tool, &plan).map_err(|failure| failure.unnamed(255))
}
