//! Emulated ConnectX-3 cards on Ethernet, two guests: TCP over their network devices, RoCE with rdma-core's tools and
//! with ours.
//!
//! The guests have no other network device, so every pingpong's exchange goes by the cards too.

use std::time::Duration;

use super::checks::Checks;
use super::mlx4::{Where, pair};
use super::{Arguments, Work, rping};
use crate::vm::{Guests, Mlx4, Run, Vm};
use crate::{Result, cargo, checker};

/// For one pair, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The TCP port of the pingpongs' exchange, and those of the checker and of rstream.
const PORT: u16 = 18515;
const CHECKER_PORT: u16 = 18520;
const STREAM_PORT: u16 = 7471;

/// What the card must have on Ethernet: nothing of the checker's may be left out.
const REQUIRED: &str = "xrc,atomics,windows1,windows2,resize,multicast";

/// Of rdma-core's pingpongs: the service with its options, and in how many guests.
const C_TOOLS: [(&str, usize); 8] = [
    ("rc -g 1 -n 50", 1),
    ("rc -g 0 -n 50 -e", 2),
    ("rc -g 1 -n 5 -s 1000000 -m 4096", 2),
    ("uc -g 1 -n 50", 2),
    ("ud -g 1 -n 50 -s 1000", 1),
    ("ud -g 0 -n 50 -s 1000 -e", 2),
    ("srq -g 1 -n 50 -q 4", 2),
    ("xsrq -g 1 -n 50", 2),
];

/// Of ours, each with C's at either end.
const SERVICES: [(&str, usize); 6] = [
    ("rc -g 1 -n 50", 2),
    ("rc -g 0 -n 20 -s 1000000 -e", 1),
    ("uc -g 1 -n 50", 1),
    ("ud -g 1 -n 50 -s 1000", 2),
    ("srq -g 1 -n 50 -q 4", 2),
    ("xsrq -g 1 -n 50", 1),
];

/// Which tools' checks are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tools {
    /// rdma-core's alone.
    pub(super) c: bool,
    /// Ours, beside them.
    pub(super) ours: bool,
}

/// Runs the wanted checks on every kernel, in one boot each.
pub(super) fn suite(arguments: &Arguments, tools: Tools) -> Result<Vec<Work<'_>>> {
    let binary = tools.ours.then(cargo::release_binary).transpose()?;
    let program = tools.c.then(checker::build).transpose()?;
    let mut list = Vec::new();
    for kernel in arguments.kernels() {
        let place = format!("roce {kernel}");
        let mut vm = Vm::new(kernel.clone()).nodes(2).c_tools(true).mlx4(Mlx4::default().ethernet());
        for (file, name) in [(&binary, "bareverbs"), (&program, checker::NAME)] {
            if let Some(file) = file {
                vm = vm.file(file, format!("/bin/{name}"));
            }
        }
        list.push(Work::new(place.clone(), move || {
            let mut checks = Checks::new(&vm, &kernel, &place, arguments);
            if tools.c {
                c(&mut checks);
            }
            if tools.ours {
                ours(&mut checks);
            }
            checks.nothing_is_left(2);
            checks.finish()
        }));
    }
    Ok(list)
}

/// rdma-core's tools alone.
fn c(checks: &mut Checks<'_>) {
    checks.check("ibv_devinfo -v", devinfo);
    checks.check("TCP over the network device", stream);
    for (options, nodes) in C_TOOLS {
        checks.check(&format!("c {options}, {nodes} guests"), |guests| {
            pingpong(guests, nodes, options, ["c", "c"])
        });
    }
    checks.check("verbscheck", judged);
    rping::c(checks, &rping::ETHERNET);
}

/// Ours, beside them.
fn ours(checks: &mut Checks<'_>) {
    checks.check("devinfo", same_devinfo);
    checks.check("doctor", doctor);
    for (options, nodes) in SERVICES {
        for who in [["ours", "ours"], ["c", "ours"], ["ours", "c"]] {
            let name = format!("{options}: {} <- {}, {nodes} guests", who[0], who[1]);
            checks.check(&name, |guests| pingpong(guests, nodes, options, who));
        }
    }
    rping::ours(checks, &rping::ETHERNET);
}

fn run(line: &str) -> Run {
    Run::new(line.split_whitespace()).timeout(PATIENCE)
}

/// The port's link layer, and the GIDs of its network device's addresses.
fn devinfo(guests: &Guests) -> Result<()> {
    for node in [1, 2] {
        let text = guests.node(node).run(run("ibv_devinfo -v"))?.ok()?.text();
        let gid = format!("0000:0000:0000:0000:0000:ffff:0a00:000{node}, RoCE v1");
        for wanted in ["hca_id:\tmlx4_0", "PORT_ACTIVE (4)", "link_layer:\t\tEthernet", &gid] {
            if !text.contains(wanted) {
                return Err(format!("guest {node}: no {wanted:?} in {text:?}"));
            }
        }
    }
    Ok(())
}

fn same_devinfo(guests: &Guests) -> Result<()> {
    for options in ["", "-v"] {
        let said =
            |tool: &str| Ok::<_, String>(guests.node(1).run(run(&format!("{tool} {options}")))?.ok()?.text());
        let (ours, c) = (said("bareverbs devinfo")?, said("ibv_devinfo")?);
        if ours != c {
            return Err(format!("devinfo {options}: {ours:?} where C says {c:?}"));
        }
    }
    Ok(())
}

/// All is well with a card that knows RoCE v1 alone, and nothing is said of UDP, which that is not.
fn doctor(guests: &Guests) -> Result<()> {
    let text = guests.node(1).run(run("bareverbs doctor --ping"))?.ok()?.text();
    let wanted = [
        "ok       port mlx4_0/1: ACTIVE, RoCE over eth0\n",
        "ok       gid mlx4_0/1: -g 1: ::ffff:10.0.0.1, RoCE v1, which reaches the same Ethernet only\n",
        "ok       ping mlx4_0/1: 64 bytes there and back",
        " checks: all well\n",
    ];
    match wanted.iter().find(|part| !text.contains(**part)) {
        Some(part) => Err(format!("no {part:?} in {text:?}")),
        None if text.contains("firewall") => Err(format!("a word about packet filters in {text:?}")),
        None => Ok(()),
    }
}

fn pingpong(guests: &Guests, nodes: usize, options: &str, who: [&str; 2]) -> Result<()> {
    let address = if nodes == 1 { "127.0.0.1" } else { "10.0.0.1" };
    let [server, client] = who.map(|who| match who {
        "c" => format!("ibv_{}", options.replacen(' ', "_pingpong ", 1)),
        _ => format!("bareverbs pingpong {options}"),
    });
    let place = if nodes == 1 { Where::One } else { Where::Two };
    let outputs = pair(guests, place, &server, &format!("{client} {address}"), PORT)?;
    // C's tool for XRC prints no times.
    let quiet = options.starts_with("xsrq");
    match outputs.iter().find(|output| !quiet && !output.text().contains("usec/iter")) {
        Some(output) => Err(format!("{}: no usec/iter in {:?}", output.command, output.text())),
        None => Ok(()),
    }
}

/// 16 MiB there and back by plain sockets, in pieces of 1000 bytes and of 64 KiB, every byte of them looked at.
fn stream(guests: &Guests) -> Result<()> {
    for (size, count) in [(1000, 200), (65536, 250)] {
        let server = format!("rstream -T s -T v -S {size} -C {count}");
        pair(guests, Where::Two, &server, &format!("{server} -s 10.0.0.1"), STREAM_PORT)?;
    }
    Ok(())
}

/// The checker in one guest and between both.
fn judged(guests: &Guests) -> Result<()> {
    let command = format!("{} --gid 1 --require {REQUIRED}", checker::NAME);
    let alone = guests.node(1).run(run(&format!("{command} --seeds 1 --ops 200")))?;
    let (server, client) = (
        format!("{command} --seeds 1 --ops 200 --server"),
        format!("{command} --seeds 1 --ops 200 --client 10.0.0.1"),
    );
    let mut outputs = vec![alone];
    outputs.extend(pair(guests, Where::Two, &server, &client, CHECKER_PORT)?);
    for output in outputs {
        let text = output.text();
        let verdict = text.lines().last().unwrap_or_default();
        if !output.success() || !verdict.ends_with(" passed, 0 failed, 0 absent") {
            return Err(format!("{}: {}: {text}", output.command, output.ending()));
        }
    }
    Ok(())
}
