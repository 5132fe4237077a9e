//! `bareverbs pingpong`: messages to a peer and back, as `ibv_rc_pingpong` and its sisters do it.
//!
//! | file | what it holds |
//! |---|---|
//! | `args` | the options |
//! | `setup` | device, region, queues: what a run needs |
//! | `exchange` | how the two sides tell each other their endpoints |
//! | `play` | the loop that is measured |
//! | `report` | what is printed |

mod args;
mod exchange;
mod play;
mod report;
mod setup;

pub(crate) use args::{Arguments, OPTIONS};

use std::ffi::OsString;

use bareverbs::{Endpoint, RcAttr};
use clap::Subcommand;

use self::args::Plan;
use self::play::End;
use self::setup::Setup;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::output::Tool;
use crate::cli::signals;

/// Which service the messages travel by.
#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Reliable connection: ibv_rc_pingpong
    Rc(Arguments),
}

impl Service {
    /// The tool's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rc(_) => "bareverbs pingpong rc",
        }
    }
}

/// Runs the subcommand.
pub(crate) fn run(tool: &Tool, service: &Service) -> Outcome {
    match service {
        Service::Rc(arguments) => rc(tool, &arguments.into()),
    }
}

/// Runs `ibv_rc_pingpong`.
pub(crate) fn rc_as_c(tool: &Tool, arguments: Vec<OsString>) -> Outcome {
    rc(tool, &Plan::as_c(tool, arguments)?)
}

/// The exit code after an interrupt.
const INTERRUPTED: u8 = 130;

fn rc(tool: &Tool, plan: &Plan) -> Outcome {
    if let Some(why) = plan.contradiction() {
        return Err(Failure::new(why));
    }
    let mut setup = Setup::new(plan)?;
    if let Some(warning) = setup.warning.take() {
        tool.say(&warning);
    }
    setup.post_first_receives()?;
    let local = setup.local;
    if !plan.json {
        tool.print(&report::endpoint("local", &local))?;
    }

    let attr = RcAttr::new().mtu(plan.mtu).sl(plan.sl).hop_limit(1);
    let peer = match plan.host() {
        Some(host) => {
            let peer = exchange::connect(&host, plan.port, plan.timeout, &local)?;
            join(&mut setup, &peer, attr)?;
            peer
        }
        None => exchange::listen(plan.port).and_then(|listener| {
            exchange::accept(&listener, plan.timeout, &local, |peer| join(&mut setup, peer, attr))
        })?,
    };
    if !plan.json {
        tool.print(&report::endpoint("remote", &peer))?;
    }

    signals::watch();
    let score = play::run(&mut setup, plan);
    if score.done > 0 {
        tool.print(&report::score(plan, &local, &peer, &score)?)?;
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

fn join(setup: &mut Setup, peer: &Endpoint, attr: RcAttr) -> Result<(), String> {
    setup.qp.connect(peer, attr).map_err(|e| {
        let mtu = attr.mtu.and_then(bareverbs::Mtu::bytes).unwrap_or_default();
        match setup.active_mtu.bytes() {
            Some(active) if active < mtu => {
                format!("{e}; MTU {mtu} (-m) is over the port's active MTU of {active}")
            }
            _ => e.to_string(),
        }
    })
}
