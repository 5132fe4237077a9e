//! Pingpong and rping between two guests: ours with ours, and ours with C's in both directions.

use std::time::{Duration, Instant};

use super::{Arguments, Work, rping};
use crate::progress::human;
use crate::tally::Tally;
use crate::vm::{Guests, Run, Vm};
use crate::{Result, cargo};

/// The TCP port of pingpong's exchange.
const PORT: u16 = 18515;
const SERVER: &str = "10.0.0.1";

/// Each service, and options that change its wire or its queues, the same on both sides.
const SERVICES: [(&str, &[&str]); 4] = [
    (
        "rc",
        &[
            "-s 1 -n 100",
            "-s 4096 -n 100 -e",
            "-s 65536 -n 20 -m 4096 -e",
            "-s 8388608 -n 2 -r 4",
            "-n 50 -l 3 -m 2048 -e",
        ],
    ),
    ("uc", &["-n 50 -s 4096", "-n 50 -s 10000 -e"]),
    ("ud", &["-n 50", "-n 50 -s 1 -e"]),
    ("srq", &["-n 50 -q 1", "-n 100 -q 16 -e"]),
];

/// Runs every pair on every kernel.
pub(super) fn suite(arguments: &Arguments) -> Result<Vec<Work<'_>>> {
    let binary = cargo::release_binary()?;
    let mut list = Vec::new();
    for kernel in arguments.kernels() {
        let vm = Vm::new(kernel.clone()).nodes(2).c_tools(true).file(&binary, "/bin/bareverbs");
        list.push(Work::new(format!("nodes {kernel}"), move || {
            let started = Instant::now();
            let guests = vm.boot()?;
            let mut counted = Tally::default();
            for (service, options) in SERVICES {
                let (ours, c) = (format!("bareverbs pingpong {service}"), format!("ibv_{service}_pingpong"));
                for (server, client) in [(&ours, &ours), (&c, &ours), (&ours, &c)] {
                    for options in options {
                        let name = format!("nodes {kernel}: {server} {options} <- {client}");
                        if arguments.wants(&name) {
                            counted.check(&name, pair(&guests, server, client, options));
                        }
                    }
                }
            }
            rping::ours(&guests, &rping::WIRE, &mut |name, run| {
                let name = format!("nodes {kernel}: {name}");
                if arguments.wants(&name) {
                    counted.check(&name, run());
                }
            });
            super::part(&mut counted, &format!("nodes {kernel}"), || {
                guests.shutdown().map(|()| Tally::default())
            });
            println!("nodes {kernel}: {counted} ({})", human(started.elapsed()));
            Ok(counted)
        }));
    }
    Ok(list)
}

fn pair(guests: &Guests, server: &str, client: &str, options: &str) -> Result<()> {
    let run = |text: &str| Run::new(text.split_whitespace()).timeout(Duration::from_secs(60));
    let serving = guests.node(1).spawn(run(&format!("{server} -g 1 {options}")))?;
    if let Err(error) = guests.node(1).await_port(PORT) {
        serving.signal(9)?;
        let said = serving.wait()?.ok().map_or_else(|error| error, |output| output.text());
        return Err(format!("{error}; the server: {said}"));
    }
    let asking = guests.node(2).run(run(&format!("{client} -g 1 {options} {SERVER}")))?;
    if !asking.success() {
        // A server whose client failed may wait for ever.
        serving.signal(9)?;
    }
    let served = serving.wait()?;
    for output in [asking.ok()?, served.ok()?] {
        if !output.text().contains("usec/iter") {
            return Err(format!("{}: no usec/iter line in its output: {:?}", output.command, output.text()));
        }
    }
    Ok(())
}
