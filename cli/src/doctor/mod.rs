//! `bareverbs doctor`: what keeps RDMA from working on this machine, and how to fix it.
//!
//! [`gather`] reads the machine's state once. Each check is a function of the resulting [`snapshot`], so tests can describe
//! machines that are broken in any way.
//!
//! | file | what it holds |
//! |---|---|
//! | `gather`, `netfilter` | reading the machine's state |
//! | `snapshot` | that state |
//! | `modules`, `devices`, `ports`, `limits`, `firewall` | the checks, by family |
//! | `ping` | a message through each port |
//! | `finding` | the result of a check, and how it is printed |

mod devices;
mod finding;
mod firewall;
mod gather;
mod limits;
mod modules;
mod netfilter;
mod ping;
mod ports;
#[cfg(test)]
mod sample;
mod snapshot;

use clap::Args;

use super::json;
use super::outcome::{Outcome, ending};
use super::output::Tool;
use finding::{Finding, Report};
use snapshot::Snapshot;

const EXAMPLES: &str = "\
Examples:
  bareverbs doctor          check modules, nodes, ports, GIDs and limits, and print commands that fix what is wrong
  bareverbs doctor --ping   also send a message through each port
  bareverbs doctor --json | jq '.findings[] | select(.level != \"ok\")'

Exit code: 0 no problem, 1 warnings, 2 failures. It changes nothing itself.";

/// What `bareverbs doctor` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Send a message through each port, to this host and back
    #[arg(long)]
    ping: bool,
    /// Print an object
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub(crate) fn run(tool: &Tool, arguments: &Arguments) -> Outcome {
    let snapshot = gather::gather();
    let mut findings = check(&snapshot);
    if arguments.ping {
        findings.extend(ping::check(&snapshot));
    }
    let text = if arguments.json { json::text(&Report::new(&findings))? } else { finding::text(&findings) };
    ending(tool.print(&text), finding::exit_code(&findings))
}

/// Every check that looks and does not touch.
fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let families = [modules::check, devices::check, ports::check, limits::check, firewall::check];
    families.iter().flat_map(|family| family(snapshot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healthy_machine_has_nothing_to_fix() {
        let findings = check(&sample::healthy());
        assert_eq!(finding::exit_code(&findings), 0, "{findings:#?}");
        assert!(findings.iter().all(|finding| finding.fix.is_none()));
    }

    #[test]
    fn a_machine_without_rdma_is_told_all_at_once() {
        let findings = check(&sample::no_modules());
        assert_eq!(finding::exit_code(&findings), 2);
        let fixes: Vec<&str> = findings.iter().filter_map(|finding| finding.fix.as_deref()).collect();
        assert_eq!(fixes.len(), 4, "{findings:#?}");
    }
}
