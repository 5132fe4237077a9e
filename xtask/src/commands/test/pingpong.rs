//! Pingpongs: one table of services and options for every network, and the pairings of our tools with rdma-core's.

use super::Depth;
use super::checks::Checks;
use super::pair::{self, PINGPONG, Port};
use crate::Result;
use crate::vm::{Guests, Output};

/// Whose program plays a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Ours,
    C,
}

/// Server and client, at least one of them ours.
pub(super) const PAIRINGS: [[Who; 2]; 3] = [[Who::Ours, Who::Ours], [Who::C, Who::Ours], [Who::Ours, Who::C]];

/// The options of each service, the same on both sides: sizes, depths and ways of waiting. The first is the service's plain run,
/// which no kernel and no network goes without. Of two `-g`, the last counts.
const OPTIONS: [(&str, &[&str]); 5] = [
    (
        "rc",
        &[
            "-n 50",
            "-n 100 -s 1 --poll",
            "-n 50 -s 1 -e",
            "-n 50 -s 4096 -l 3 -g 0 --poll",
            "-n 20 -s 65536 -m 2048 -e",
            "-n 20 -s 100000 -m 4096",
            LARGEST,
        ],
    ),
    ("uc", &["-n 50", "-n 50 --poll", "-n 20 -s 100000 -e"]),
    ("ud", &["-n 50 -s 1000", "-n 50 --poll", "-n 50 -s 2000 -e", "-n 50 -s 1 -g 0 -e"]),
    ("srq", &["-n 50 -q 4", "-n 50 -q 1 --poll", "-n 50 -q 1 -e", "-n 100 -q 16 --poll", "-n 100 -q 16 -e"]),
    ("xsrq", &["-n 50", "-n 50 --poll", "-n 50 -e"]),
];

/// Messages of 8 MiB, the only options that take seconds: run in one pairing only.
const LARGEST: &str = "-n 2 -s 8388608 -r 4 -e";

/// What pingpongs run over.
pub(super) struct Network {
    /// Options that every side needs.
    options: &'static str,
    /// Whether its device has XRC.
    xrc: bool,
    /// Whether pairs in one guest are run here too. rxe's are in the suite that runs inside a guest.
    in_one: bool,
    /// Whether every option is run without `--full` on the kernel that is checked in depth. Where the same driver has them all on another
    /// network, the plain runs are enough.
    wide: bool,
}

/// rxe, one in each of two guests.
pub(super) const RXE: Network = Network { options: "-g 1", xrc: false, in_one: false, wide: true };
/// Emulated cards on InfiniBand.
pub(super) const INFINIBAND: Network = Network { options: "", xrc: true, in_one: true, wide: true };
/// Emulated cards on Ethernet.
pub(super) const ROCE: Network = Network { options: "-g 1", xrc: true, in_one: true, wide: false };

/// Runs the table with ours on one side at least: the plain run of each service on every kernel, all options where the kernel is run
/// in depth.
pub(super) fn ours(checks: &mut Checks<'_>, network: &Network) {
    let depth = match checks.depth() {
        Depth::Wide if !network.wide => Depth::Brief,
        depth => depth,
    };
    for (service, options) in services(network) {
        let options = if depth == Depth::Brief { &options[..1] } else { options };
        for (row, options) in options.iter().enumerate() {
            let pairings =
                if *options == LARGEST && depth != Depth::Full { &PAIRINGS[..1] } else { &PAIRINGS[..] };
            for (column, who) in pairings.iter().enumerate() {
                // The suite in a guest has every option in every pairing.
                if depth == Depth::Wide && !network.in_one && row > 0 && column != row % pairings.len() {
                    continue;
                }
                for &node in clients(depth, network, row + column) {
                    check(checks, network, node, service, options, *who);
                }
            }
        }
    }
}

/// Runs rdma-core's tools alone, polling and with events, between two guests, and in one where the network is checked in depth.
pub(super) fn c(checks: &mut Checks<'_>, network: &Network) {
    let nodes: &[usize] = if network.wide || checks.depth() == Depth::Full { &[1, 2] } else { &[2] };
    for (service, options) in services(network) {
        for events in ["", " -e"] {
            for &node in nodes {
                check(checks, network, node, service, &format!("{}{events}", options[0]), [Who::C, Who::C]);
            }
        }
    }
}

fn services(network: &Network) -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    OPTIONS.into_iter().filter(|(service, _)| network.xrc || *service != "xsrq")
}

/// The guests in which a pair's client runs. In a wide run the cells of the table alternate, like the fields of a chessboard.
fn clients(depth: Depth, network: &Network, cell: usize) -> &'static [usize] {
    match depth {
        _ if !network.in_one => &[2],
        Depth::Brief => &[2],
        Depth::Wide => [&[2], &[1]][cell % 2],
        Depth::Full => &[1, 2],
    }
}

fn check(
    checks: &mut Checks<'_>,
    network: &Network,
    node: usize,
    service: &str,
    options: &str,
    who: [Who; 2],
) {
    let options = format!("{} {options}", network.options);
    let place = if node == 1 { "in one guest" } else { "in two guests" };
    let name = format!("{service} {}: {:?} <- {:?}, {place}", options.trim(), who[0], who[1]);
    checks.check(&name, |guests| pair(guests, node, service, &options, who).map(drop));
}

/// Runs one pair; each side must report its time.
pub(super) fn pair(
    guests: &Guests,
    node: usize,
    service: &str,
    options: &str,
    who: [Who; 2],
) -> Result<[Output; 2]> {
    let [server, client] = who.map(|who| tool(who, service, options));
    let address = if node == 1 { "127.0.0.1" } else { "10.0.0.1" };
    let outputs = pair::pair(guests, node, &server, &format!("{client} {address}"), Port::Tcp(PINGPONG))?;
    // C's tool for XRC prints no times.
    match outputs.iter().find(|output| service != "xsrq" && !output.text().contains("usec/iter")) {
        Some(output) => Err(format!("{}: no usec/iter in {:?}", output.command, output.text())),
        None => Ok(outputs),
    }
}

/// A side's command line. C's tools poll unless `-e` is given and have no option for it.
pub(super) fn tool(who: Who, service: &str, options: &str) -> String {
    match who {
        Who::C => format!("ibv_{service}_pingpong {}", options.replace("--poll", "")),
        Who::Ours => format!("bareverbs pingpong {service} {options}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_run_has_each_option_in_one_guest_and_in_two() {
        for row in 0..7 {
            let nodes: Vec<usize> = (0..PAIRINGS.len())
                .flat_map(|column| clients(Depth::Wide, &INFINIBAND, row + column))
                .copied()
                .collect();
            assert!(nodes.contains(&1) && nodes.contains(&2), "{nodes:?}");
        }
    }

    #[test]
    fn the_plain_runs_neither_poll_nor_wait_for_events_only() {
        for (service, options) in OPTIONS {
            assert!(!options[0].contains("--poll") && !options[0].contains("-e"), "{service}");
        }
    }
}
