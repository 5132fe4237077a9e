//! `bareverbs pingpong`: messages to a peer and back, as `ibv_rc_pingpong` and its sisters do it.
//!
//! | file | what it holds |
//! |---|---|
//! | `service` | in what the five differ: options, defaults, words |
//! | `args` | the options as `bareverbs pingpong` takes them |
//! | `plan` | what is to be played; the C tools' command lines |
//! | `limits` | the options against what the device can do |
//! | `setup` | device, region, queues: what a run needs |
//! | `exchange` | how the two sides tell each other their endpoints |
//! | `dest` | the same for `xsrq` |
//! | `cycles` | what the time of completions says |
//! | `play` | the loop that is measured, of four of them |
//! | `xsrq` | the fifth, which has several clients and measures nothing |
//! | `report` | what is printed |

mod args;
mod cycles;
mod dest;
mod exchange;
mod limits;
mod plan;
mod play;
mod report;
mod service;
mod setup;
mod xsrq;

pub(crate) use args::SERVICES;
pub(crate) use service::Kind;

use std::ffi::OsString;

use self::plan::Plan;
use self::play::End;
use self::setup::Setup;
use crate::outcome::{Failure, Outcome};
use crate::output::Tool;
use crate::signals;

/// Runs the C tool of a kind.
pub(crate) fn as_c(kind: Kind, tool: &Tool, arguments: Vec<OsString>) -> Outcome {
    start(tool, &Plan::as_c(kind, tool, arguments)?).map_err(|failure| failure.unnamed(1))
}

/// The exit code after an interrupt.
const INTERRUPTED: u8 = Failure::INTERRUPTED;

fn start(tool: &Tool, plan: &Plan) -> Outcome {
    if let Some(why) = plan.contradiction() {
        return Err(Failure::new(why));
    }
    match plan.kind {
        Kind::Xsrq => xsrq::run(tool, plan),
        _ => measured(tool, plan),
    }
}

fn measured(tool: &Tool, plan: &Plan) -> Outcome {
    let mut setup = Setup::new(plan)?;
    if let Some(warning) = setup.warning.take() {
        tool.say(&warning);
    }
    setup.post_first_receives()?;
    let local = setup.local.clone();
    if !plan.json {
        tool.report(&report::endpoints(plan.kind, "local", &local))?;
    }

    let wire = plan.kind.endpoints_on_wire();
    let peer = match plan.host() {
        Some(host) => {
            let peer = exchange::connect(&host, plan.port, plan.timeout, &local, wire)?;
            setup.join(plan, &peer)?;
            peer
        }
        None => {
            let listener = exchange::listen(plan.port)?;
            exchange::accept(&listener, plan.timeout, &local, wire, |peer| setup.join(plan, peer))?
        }
    };
    if !plan.json {
        tool.report(&report::endpoints(plan.kind, "remote", &peer))?;
    }

    signals::watch();
    let score = play::run(&mut setup, plan);
    if score.done > 0 {
        tool.report(&report::score(plan, &local, &peer, &score)?)?;
    }
    match score.end {
        End::Complete => setup.check_received(tool, plan),
        End::Interrupted => {
            tool.say(&format!("interrupted after {} of {} iterations", score.done, plan.iters));
            Err(Failure::said(INTERRUPTED))
        }
        End::Failed(why) => Err(Failure::new(why)),
    }
}
