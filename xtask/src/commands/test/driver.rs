//! bareverbs on the emulated ConnectX-3: its tools beside rdma-core's, in one guest and between two, and its suite.
//!
//! The card is strict: what a driver may not do fails the run, whatever the tools said.

use std::time::{Duration, Instant};

use super::{Arguments, libtest};
use crate::commands::bench::measure;
use crate::progress::human;
use crate::tally::Tally;
use crate::vm::{Guests, Mlx4, Output, Run, Vm};
use crate::{Result, cargo, process};

/// The TCP port of the pingpongs' exchange.
const PORT: u16 = 18515;
/// For one pair, and for the suite, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Tests of `tests/vm` that say nothing of rxe or of Ethernet. Of a queue that overflows the kernel complains, as it should: that
/// is among `cards`.
const SUITE: [&str; 6] = [
    "opcodes::",
    "queues::",
    "sixteen_queue_pairs",
    "--skip=port_events",
    "--skip=nothing_stays",
    "--skip=overflows",
];

/// Of a service: ours and C's tool, and options that change the wire or the queues.
const SERVICES: [(&str, &[&str]); 5] = [
    (
        "rc",
        &["-n 200", "-s 1 -n 100", "-s 8388608 -n 2 -r 4", "-s 65536 -n 20 -m 2048 -e", "-n 50 -l 3 -g 0"],
    ),
    ("uc", &["-n 200", "-s 100000 -n 20 -e"]),
    ("ud", &["-n 200 -s 1000", "-n 50 -s 2000 -e"]),
    ("srq", &["-n 200 -q 4", "-n 100 -q 8 -e"]),
    ("xsrq", &["-n 200", "-n 50 -e"]),
];

/// Runs everything on every kernel.
pub(crate) fn suite(arguments: &Arguments) -> Result<Tally> {
    let tests =
        cargo::only(cargo::build(&["test", "--no-run", "--package", "bareverbs", "--test", "vm"])?, "vm")?;
    let binary = cargo::release_binary()?;
    let mut tally = Tally::default();
    for kernel in arguments.kernels() {
        let place = format!("ours on mlx4 {kernel}");
        let vm = Vm::new(kernel.clone())
            .nodes(2)
            .c_tools(true)
            .file(&tests, "/bin/vm")
            .file(&binary, "/bin/bareverbs")
            .lifetime(Duration::from_secs(900))
            .mlx4(Mlx4::default());
        super::part(&mut tally, &place, || {
            let started = Instant::now();
            let guests = vm.boot()?;
            let mut counted = Tally::default();
            let mut check = |name: &str, run: &dyn Fn() -> Result<()>| {
                let name = format!("{place}: {name}");
                if arguments.filter.as_ref().is_none_or(|filter| name.contains(filter)) {
                    counted.check(&name, run());
                }
            };
            check("devinfo", &|| devinfo(&guests));
            for (service, variants) in SERVICES {
                for options in variants {
                    for (server, client) in [("ours", "ours"), ("c", "ours"), ("ours", "c")] {
                        for nodes in [1, 2] {
                            let name = format!("{service} {options}: {server} <- {client}, {nodes} guests");
                            check(&name, &|| pair(&guests, nodes, service, options, server, client));
                        }
                    }
                }
            }
            check("no system call of a polled iteration", &|| silent(&guests));
            if arguments.filter.as_ref().is_none_or(|filter| place.contains(filter) || filter == "suite") {
                super::part(&mut counted, &place, || on_guest(&guests, &place, &kernel.to_string()));
            }
            // The kernels' logs and the emulator's exit code.
            super::part(&mut counted, &place, || guests.shutdown().map(|()| Tally::default()));
            println!("{place}: {counted} ({})", human(started.elapsed()));
            Ok(counted)
        });
    }
    Ok(tally)
}

/// What our tool prints is what C's prints.
fn devinfo(guests: &Guests) -> Result<()> {
    for options in ["", "-v", "-d mlx4_0 -i 1", "-l"] {
        let said = |tool: &str| -> Result<String> {
            let line = format!("{tool} {options}");
            Ok(guests.node(1).run(Run::new(line.split_whitespace()))?.ok()?.text())
        };
        let (ours, c) = (said("bareverbs devinfo")?, said("ibv_devinfo")?);
        if ours != c {
            return Err(format!("devinfo {options}: {ours:?} where C says {c:?}"));
        }
    }
    Ok(())
}

fn tool(who: &str, service: &str) -> String {
    match who {
        "c" => format!("ibv_{service}_pingpong"),
        _ => format!("bareverbs pingpong {service}"),
    }
}

fn pair(
    guests: &Guests,
    nodes: usize,
    service: &str,
    options: &str,
    server: &str,
    client: &str,
) -> Result<()> {
    let address = if nodes == 1 { "127.0.0.1" } else { "10.0.0.1" };
    let run = |text: &str| Run::new(text.split_whitespace()).timeout(PATIENCE);
    let serving = guests.node(1).spawn(run(&format!("{} {options}", tool(server, service))))?;
    if !guests.node(1).await_port_of(&serving, PORT)? {
        return Err(format!(
            "the server: {}",
            serving.wait()?.ok().map_or_else(|e| e, |output| output.text())
        ));
    }
    let asking = guests.node(nodes).run(run(&format!("{} {options} {address}", tool(client, service))))?;
    if !asking.success() {
        // A server whose client failed may wait for ever.
        serving.signal(9)?;
    }
    let outputs: [Output; 2] = [asking.ok()?, serving.wait()?.ok()?];
    // C's tool for XRC prints no times.
    match outputs.iter().find(|output| service != "xsrq" && !output.text().contains("usec/iter")) {
        Some(output) => Err(format!("{}: no usec/iter in {:?}", output.command, output.text())),
        None => Ok(()),
    }
}

/// More iterations are not more system calls.
fn silent(guests: &Guests) -> Result<()> {
    let calls = |iterations: u32| -> Result<f64> {
        let common = format!("bareverbs pingpong rc --poll -n {iterations}");
        let run = |text: &str| Run::new(text.split_whitespace()).timeout(PATIENCE);
        let serving = guests.node(1).spawn(run(&common))?;
        if !guests.node(1).await_port_of(&serving, PORT)? {
            return Err("the server is gone".into());
        }
        let asking = guests.node(1).run(run(&format!("strace -f -c {common} 127.0.0.1")))?.ok()?;
        serving.wait()?.ok()?;
        measure::traced_calls(&asking)
    };
    let (few, many) = (calls(100)?, calls(1100)?);
    // Its timer may go off, and the exchange may come in pieces.
    if many <= few + 8.0 { Ok(()) } else { Err(format!("{few} calls of 100 iterations, {many} of 1100")) }
}

/// The suite, on one guest.
fn on_guest(guests: &Guests, place: &str, kernel: &str) -> Result<Tally> {
    let words = ["/bin/vm", "--ignored", "--test-threads=1"].into_iter().chain(SUITE);
    let run = Run::new(words)
        .env("BAREVERBS_BIN", "/bin/bareverbs")
        .env("BAREVERBS_KERNEL", kernel)
        .timeout(PATIENCE);
    let job = guests.node(1).spawn(run)?;
    let output = job.wait().inspect_err(|_| {
        // The last line names the test that the guest did not survive.
        println!("{}", process::last_lines(&job.stdout_so_far(), 20));
    })?;
    let tally = libtest::count(place, &output.text(), output.success(), true);
    if !tally.good() {
        println!("{}", process::last_lines(&output.stdout, 200));
        println!("{}", process::last_lines(&output.stderr, 60));
    }
    Ok(tally)
}
