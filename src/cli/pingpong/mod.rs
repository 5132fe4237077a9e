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

pub(crate) use args::Args;

use std::process::ExitCode;

use bareverbs::{Endpoint, RcAttr, ServiceLevel};

use self::play::End;
use self::setup::Setup;
use crate::cli::signals;

/// Runs a reliable-connection pingpong. An error is one line that says all.
pub(crate) fn rc(args: &Args) -> Result<ExitCode, String> {
    if let Some(why) = args.contradiction() {
        return Err(why.to_owned());
    }
    let mut setup = Setup::new(args)?;
    setup.post_first_receives()?;
    let local = setup.local;
    if !args.json {
        report::endpoint("local", &local)?;
    }

    let attr = RcAttr::new().mtu(args.mtu).sl(ServiceLevel(args.sl)).hop_limit(1);
    let peer = match &args.server {
        Some(host) => {
            let peer = exchange::connect(host, args.port, args.timeout(), &local)?;
            join(&mut setup, &peer, attr)?;
            peer
        }
        None => {
            let listener = exchange::listen(args.port)?;
            exchange::accept(&listener, args.timeout(), &local, |peer| join(&mut setup, peer, attr))?
        }
    };
    if !args.json {
        report::endpoint("remote", &peer)?;
    }

    signals::watch();
    let score = play::run(&mut setup, args);
    if score.done > 0 || matches!(score.end, End::Complete) {
        report::score(args, &local, &peer, &score)?;
    }
    match score.end {
        End::Complete => setup.check_received(args).map(|()| ExitCode::SUCCESS),
        End::Interrupted => {
            eprintln!("interrupted after {} of {} iterations", score.done, args.iters);
            Ok(ExitCode::from(130))
        }
        End::Failed(why) => Err(why),
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
