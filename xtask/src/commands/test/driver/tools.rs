//! devinfo, the pingpongs and rping, ours beside rdma-core's.

use super::{Checks, PORT, words};
use crate::Result;
use crate::commands::test::rping;
use crate::vm::{Guests, Output};

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

/// What our devinfo prints is what C's prints.
pub(super) fn devinfo(checks: &mut Checks<'_>) {
    checks.check("devinfo", |guests| {
        for options in ["", "-v", "-d mlx4_0 -i 1", "-l"] {
            let said = |tool: &str| -> Result<String> {
                Ok(guests.node(1).run(words(&format!("{tool} {options}")))?.ok()?.text())
            };
            let (ours, c) = (said("bareverbs devinfo")?, said("ibv_devinfo")?);
            if ours != c {
                return Err(format!("devinfo {options}: {ours:?} where C says {c:?}"));
            }
        }
        Ok(())
    });
}

/// rping between two guests, each side ours once, and several clients of a server.
pub(super) fn rping(checks: &mut Checks<'_>) {
    let guests = checks.guests;
    rping::ours(guests, &rping::IPOIB, &mut |name, run| checks.check(name, |_| run()));
}

/// Every service, each side ours once, in one guest and between two.
pub(super) fn pingpongs(checks: &mut Checks<'_>) {
    for (service, variants) in SERVICES {
        for options in variants {
            for (server, client) in [("ours", "ours"), ("c", "ours"), ("ours", "c")] {
                for nodes in [1, 2] {
                    let name = format!("{service} {options}: {server} <- {client}, {nodes} guests");
                    checks.check(&name, |guests| {
                        pair(guests, nodes, service, options, server, client).map(drop)
                    });
                }
            }
        }
    }
}

fn tool(who: &str, service: &str) -> String {
    match who {
        "c" => format!("ibv_{service}_pingpong"),
        _ => format!("bareverbs pingpong {service}"),
    }
}

/// Runs a server and a client to their ends; both must succeed.
pub(super) fn pair(
    guests: &Guests,
    nodes: usize,
    service: &str,
    options: &str,
    server: &str,
    client: &str,
) -> Result<[Output; 2]> {
    let address = if nodes == 1 { "127.0.0.1" } else { "10.0.0.1" };
    let serving = guests.node(1).spawn(words(&format!("{} {options}", tool(server, service))))?;
    if !guests.node(1).await_port_of(&serving, PORT)? {
        return Err(format!(
            "the server: {}",
            serving.wait()?.ok().map_or_else(|e| e, |output| output.text())
        ));
    }
    let asking = guests.node(nodes).run(words(&format!("{} {options} {address}", tool(client, service))))?;
    if !asking.success() {
        // A server whose client failed may wait for ever.
        serving.signal(9)?;
    }
    let outputs: [Output; 2] = [asking.ok()?, serving.wait()?.ok()?];
    // C's tool for XRC prints no times.
    match outputs.iter().find(|output| service != "xsrq" && !output.text().contains("usec/iter")) {
        Some(output) => Err(format!("{}: no usec/iter in {:?}", output.command, output.text())),
        None => Ok(outputs),
    }
}
