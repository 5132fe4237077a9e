//! Pingpong and rping between two guests: ours with ours, and ours with C's in both directions. The examples in one.

use std::time::Duration;

use super::checks::Checks;
use super::{Arguments, Work, examples, of_c, rping};
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
            "-n 50 --poll",
        ],
    ),
    ("uc", &["-n 50 -s 4096", "-n 50 -s 10000 -e", "-n 50 --poll"]),
    ("ud", &["-n 50", "-n 50 -s 1 -e", "-n 50 --poll"]),
    ("srq", &["-n 50 -q 1", "-n 100 -q 16 -e", "-n 100 -q 16 --poll", "-n 50 -q 1 -e"]),
];

/// Runs every pair on every kernel.
pub(super) fn suite(arguments: &Arguments) -> Result<Vec<Work<'_>>> {
    let binary = cargo::release_binary()?;
    let examples = examples::build()?;
    let mut list = Vec::new();
    for kernel in arguments.kernels() {
        let vm = Vm::new(kernel.clone()).nodes(2).c_tools(true).file(&binary, "/bin/bareverbs");
        let vm = examples::add(vm, &examples);
        let place = format!("nodes {kernel}");
        list.push(Work::new(place.clone(), move || {
            let mut checks = Checks::new(&vm, &kernel, &place, arguments);
            pingpongs(&mut checks);
            rping::ours(&mut checks, &rping::WIRE);
            examples::quiet(&mut checks, &examples::RXE);
            checks.nothing_is_left(2);
            checks.finish()
        }));
    }
    Ok(list)
}

/// Ours with ours, and with C's on either side.
fn pingpongs(checks: &mut Checks<'_>) {
    for (service, options) in SERVICES {
        let (ours, c) = (format!("bareverbs pingpong {service}"), format!("ibv_{service}_pingpong"));
        for (server, client) in [(&ours, &ours), (&c, &ours), (&ours, &c)] {
            for options in options {
                let [server, client] = [server, client].map(|tool| {
                    let options = if *tool == c { of_c(options) } else { (*options).to_owned() };
                    format!("{tool} -g 1 {options}")
                });
                let name = format!("{server} <- {client}");
                checks.check(&name, |guests| pair(guests, &server, &client));
            }
        }
    }
}

fn pair(guests: &Guests, server: &str, client: &str) -> Result<()> {
    let run = |text: &str| Run::new(text.split_whitespace()).timeout(Duration::from_secs(60));
    let serving = guests.node(1).spawn(run(server))?;
    if let Err(error) = guests.node(1).await_port(PORT) {
        serving.signal(9)?;
        let said = serving.wait()?.ok().map_or_else(|error| error, |output| output.text());
        return Err(format!("{error}; the server: {said}"));
    }
    let asking = guests.node(2).run(run(&format!("{client} {SERVER}")))?;
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
