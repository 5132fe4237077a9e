//! Stock mlx4 drivers and rdma-core's tools on the emulated ConnectX-3, in one guest and between two.
//!
//! What passes shows that the card is one for those who know the real one. A second boot shows that the judges can say no.

use super::Judges;
use crate::commands::test::checks::Checks;
use crate::commands::test::pair::{PINGPONG, Port, pair, words};
use crate::commands::test::programs::Programs;
use crate::commands::test::{Arguments, Depth, Part, Work, pingpong, rping};
use crate::vm::{Guests, Mlx4, Output, Run, Vm};
use crate::{Result, checker, process};

/// The checker's TCP port.
pub(in crate::commands::test) const CHECKER_PORT: Port = Port::Tcp(18520);

/// The drivers, those that need others first.
const DRIVERS: [&str; 2] = ["mlx4_ib", "mlx4_core"];

const RC: &str = "ibv_rc_pingpong -n 50";

const PERFTEST: [&str; 8] = [
    "ib_send_lat",
    "ib_send_bw",
    "ib_write_lat",
    "ib_write_bw",
    "ib_read_lat",
    "ib_read_bw",
    "ib_atomic_lat",
    "ib_atomic_bw",
];

/// What the card must have, so that the checker leaves nothing out.
pub(in crate::commands::test) const REQUIRED: &str = "xrc,atomics,windows1,windows2,resize,multicast";

/// Ways in which the checker misbehaves as a driver, and the card's report of each.
const BREAKS: [(&str, &str, &str); 8] = [
    ("owner-bit", " SQ [0]: ", "a doorbell, and the owner bit says that there is no request"),
    ("request-size", " SQ [0]: ", "a request of 1008 bytes in entries of"),
    ("opcode", " SQ [0]: ", "opcode 0x1e"),
    ("headroom", " SQ [1]: ", "stale headroom that looks like a request"),
    ("prefetch", " SQ [5]: ", "stale headroom behind the last request"),
    ("blueflame", " SQ [0]: ", "BlueFlame differs from the queue at byte 31"),
    ("receive-record", " RQ [6]: ", "doorbell record goes back from 6 to 4"),
    ("cq-record", ": violation: CQ ", "doorbell record goes back"),
];

/// Runs everything on the first kernel, with `--full` on each, and the negative controls on the first.
pub(in crate::commands::test) fn suite<'a>(
    arguments: &'a Arguments,
    programs: &Programs,
) -> Result<Vec<Work<'a>>> {
    let mut list = Vec::new();
    for (at, kernel) in arguments.first_kernel().into_iter().enumerate() {
        let guest = programs.add(Vm::new(kernel.clone()).c_tools(true), checker::NAME)?;
        let judges = |name: &str| Judges::new(arguments, Part::Mlx4, &format!("{name}-{kernel}"), &kernel);
        let (vm, tested) = (guest.clone().nodes(2).mlx4(Mlx4::default()), kernel.clone());
        let what = "rdma-core's tools, perftest and the verbs checker on ConnectX-3";
        list.push(judges("mlx4")?.work(format!("mlx4 {kernel}"), what, move |place| {
            let mut checks = Checks::new(&vm, &tested, place, arguments);
            all(&mut checks);
            checks.finish()
        }));
        if at == 0 {
            let (vm, tested) = (guest.mlx4(Mlx4::default().faults()), kernel.clone());
            let what = "that the judges can say no";
            list.push(judges("controls")?.work(format!("mlx4 {kernel}, controls"), what, move |place| {
                let mut checks = Checks::new(&vm, &tested, place, arguments);
                controls(&mut checks);
                checks.finish_with(|ended, tally| {
                    let name = format!("{place}: the emulator's exit code");
                    if arguments.wants(&name) {
                        tally.check(&name, violated(ended));
                    }
                })
            }));
        }
    }
    Ok(list)
}

fn all(checks: &mut Checks<'_>) {
    checks.check("ibv_devinfo -v", devinfo);
    pingpong::c(checks, &pingpong::INFINIBAND);
    rping::c(checks, &rping::IPOIB);
    for mode in ["datagram", "connected"] {
        checks.check(&format!("TCP over IPoIB, {mode}"), |guests| tcp(guests, mode));
    }
    for tool in PERFTEST {
        checks.check(tool, |guests| perftest(guests, tool));
    }
    let scripts =
        if checks.depth() == Depth::Full { "--seeds 10 --ops 1000" } else { "--seeds 3 --ops 1000" };
    checks.check("verbscheck", |guests| judged(guests, scripts));
    checks.check("verbscheck between two", |guests| {
        let command = format!("{} --seeds 2 --ops 500", checker::NAME);
        let (server, client) = (format!("{command} --server"), format!("{command} --client 10.0.0.1"));
        let outputs = pair(guests, 2, &server, &client, CHECKER_PORT)?;
        outputs.iter().try_for_each(|output| good_verdict(output).map(drop))
    });
    checks.check("drivers unloaded and loaded", reload);
    checks.check("ibv_rc_pingpong after that", |guests| two(guests, RC, "10.0.0.1").map(drop));
    checks.check("verbscheck after that", |guests| judged(guests, "--seeds 1 --ops 500 windows random"));
    checks.nothing_is_left(2);
}

fn devinfo(guests: &Guests) -> Result<()> {
    for (node, lid) in [(1, 1), (2, 9)] {
        let text = guests.node(node).run(Run::new(["ibv_devinfo", "-v"]))?.ok()?.text();
        let lid = format!("port_lid:\t\t{lid}\n");
        for wanted in ["hca_id:\tmlx4_0", "PORT_ACTIVE (4)", "link_layer:\t\tInfiniBand", &lid] {
            if !text.contains(wanted) {
                return Err(format!("guest {node}: no {wanted:?} in {text:?}"));
            }
        }
    }
    Ok(())
}

/// A pingpong whose addresses are exchanged over IPoIB in this mode.
fn tcp(guests: &Guests, mode: &str) -> Result<()> {
    for node in [1, 2] {
        let write = Run::new(["/init", "write", "/sys/class/net/ib0/mode"]);
        guests.node(node).run(write.stdin(format!("{mode}\n")))?.ok()?;
    }
    two(guests, RC, "10.1.0.1").map(drop)
}

/// Runs the same tool in both guests.
fn two(guests: &Guests, tool: &str, address: &str) -> Result<[Output; 2]> {
    pair(guests, 2, tool, &format!("{tool} {address}"), Port::Tcp(PINGPONG))
}

fn perftest(guests: &Guests, tool: &str) -> Result<()> {
    // The frequencies of virtual processors mean nothing (-F).
    let [_, client] = two(guests, &format!("{tool} -F -n 100"), "10.0.0.1")?;
    let text = client.text();
    let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with("#bytes")).skip(1);
    let measured = lines.next().is_some_and(|line| line.split_whitespace().nth(1) == Some("100"));
    if measured { Ok(()) } else { Err(format!("{tool}: no line of 100 iterations in {text:?}")) }
}

/// Runs the checker in one guest.
fn run_checker(guests: &Guests, options: &str) -> Result<Output> {
    let command = format!("{} --require {REQUIRED} {options}", checker::NAME);
    guests.node(1).run(words(&command))
}

fn judged(guests: &Guests, options: &str) -> Result<()> {
    let output = run_checker(guests, options)?;
    good_verdict(&output)
        .map(drop)
        .map_err(|error| format!("{error}\n{}{}", output.text(), process::last_lines(&output.stderr, 5)))
}

/// Returns the checker's last line if nothing failed and nothing was left out.
pub(in crate::commands::test) fn good_verdict(output: &Output) -> Result<String> {
    let text = output.text();
    let verdict = text.lines().last().unwrap_or_default();
    if output.success() && verdict.ends_with(" passed, 0 failed, 0 absent") {
        Ok(verdict.to_owned())
    } else {
        Err(format!("{}: {}: {verdict}", output.command, output.ending()))
    }
}

fn reload(guests: &Guests) -> Result<()> {
    let init = |words: &[&str]| {
        let words = ["/init"].iter().chain(words).copied();
        guests.node(1).run(Run::new(words))?.ok().map(drop)
    };
    DRIVERS.iter().try_for_each(|module| init(&["unload", module]))?;
    let devices = guests.node(1).run(Run::new(["ibv_devices"]))?.text();
    if devices.contains("mlx4_0") {
        return Err(format!("mlx4_0 exists without its driver: {devices:?}"));
    }
    DRIVERS.iter().rev().try_for_each(|module| init(&["load", module]))?;
    init(&["await-active", "mlx4_0"])
}

/// Each judge finds fault: the checker with one wrong byte, the card with each bad driver.
fn controls(checks: &mut Checks<'_>) {
    checks.check("a byte flipped in memory is seen", |guests| {
        let output = run_checker(guests, "--flip opcodes")?;
        refused(&output, "1 of 262144 bytes differ")
    });
    checks.check("a byte flipped on the wire is seen", |guests| {
        guests.emulator()?.control("flip rc send count 1")?;
        let output = run_checker(guests, "--ops 100 random")?;
        refused(&output, "1 of 262144 bytes differ")
    });
    checks.check("a driver that rings by hand and does nothing wrong", |guests| {
        let before = violations(guests)?;
        judged(guests, "--break none")?;
        if violations(guests)? == before { Ok(()) } else { Err("the card reports a violation".into()) }
    });
    for (how, place, what) in BREAKS {
        checks.check(how, |guests| broken(guests, how, place, what));
    }
}

/// The checker misuses the card in this way, and the card reports it: which entry of which queue, and what is wrong.
fn broken(guests: &Guests, how: &str, place: &str, what: &str) -> Result<()> {
    let before = guests.emulator()?.said()?.len();
    let output = run_checker(guests, &format!("--break {how}"))?;
    let said = guests.emulator()?.said()?;
    let reports = said.get(before..).unwrap_or_default();
    if reports.lines().any(|line| line.contains(place) && line.contains(what)) {
        return Ok(());
    }
    let checker = output.text();
    Err(format!("no line with {place:?} and {what:?} in {reports:?}; the checker said: {checker}"))
}

/// The card's exit code must report violations, and nothing else may be wrong.
fn violated(ended: Result<()>) -> Result<()> {
    match ended {
        Err(error) if error.contains("violation") => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err("the emulator succeeded in spite of violations".into()),
    }
}

fn violations(guests: &Guests) -> Result<u64> {
    let answer = guests.emulator()?.control("violations")?;
    answer.trim().parse().map_err(|_| format!("the emulator's number of violations: {answer:?}"))
}

/// The checker failed, and for the right reason.
fn refused(output: &Output, reason: &str) -> Result<()> {
    let text = output.text();
    if !output.success() && text.contains(reason) {
        Ok(())
    } else {
        Err(format!("{}: {}, without {reason:?}: {text}", output.command, output.ending()))
    }
}
