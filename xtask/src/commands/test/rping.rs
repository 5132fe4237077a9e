//! rping in one guest and between two, over IPv4 and IPv6.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use super::checks::Checks;
use crate::Result;
use crate::vm::{Guests, Output, Run};

const PORT: u16 = 7174;

/// What the guests find each other by.
pub(super) struct Network {
    /// The addresses of guest 1, which has the servers.
    servers: [&'static str; 2],
    /// What is to be done before they are used.
    prepare: fn(&Guests) -> Result<()>,
}

/// The wire, with a software device on it.
pub(super) const WIRE: Network = Network { servers: ["10.0.0.1", "fd00::1"], prepare: ipv6 };
/// Cards that are network devices.
pub(super) const ETHERNET: Network =
    Network { servers: ["10.0.0.1", "fd00::1"], prepare: |guests| await_gids(guests, "mlx4_0") };
/// IP over InfiniBand.
pub(super) const IPOIB: Network = Network { servers: ["10.1.0.1", "fd01::1"], prepare: |_| Ok(()) };

const OURS: &str = "bareverbs rping";
const C: &str = "rping";

/// Plays every pair between two guests with ours on one side at least, and persistent servers: ours with twenty clients one after
/// another and eight at once, C's with twenty of ours.
pub(super) fn ours(checks: &mut Checks<'_>, network: &Network) {
    let ready = OnceCell::new();
    for (server, client) in [(OURS, OURS), (C, OURS), (OURS, C)] {
        for address in network.servers {
            checks.check(&format!("{server} {address} <- {client}"), |guests| {
                ready.get_or_init(|| (network.prepare)(guests)).clone()?;
                pair(guests, 2, server, client, address)
            });
        }
    }
    checks.check(&format!("{OURS} -P <- 20 clients, 8 at once"), |guests| {
        persistent(guests, OURS, [OURS, C], 8, network.servers[0])
    });
    // At once is too much for it: it forgets a request when the next comes before it has seen to it.
    checks.check(&format!("{C} -P <- 20 clients of ours"), |guests| {
        persistent(guests, C, [OURS, OURS], 0, network.servers[0])
    });
}

/// Plays C's with itself, in one guest and between two.
pub(super) fn c(checks: &mut Checks<'_>, network: &Network) {
    let ready = OnceCell::new();
    for nodes in [1, 2] {
        for address in network.servers {
            checks.check(&format!("{C} {address}, {nodes} guests"), |guests| {
                ready.get_or_init(|| (network.prepare)(guests)).clone()?;
                pair(guests, nodes, C, C, address)
            });
        }
    }
}

/// Gives each guest an IPv6 address, and waits for its GID.
fn ipv6(guests: &Guests) -> Result<()> {
    for n in [1, 2] {
        let node = guests.node(n);
        node.run(words(&format!("ip -6 addr add fd00::{n}/64 dev eth0 nodad")))?.ok()?;
    }
    await_gids(guests, "rxe0")
}

/// Waits for the GID of each guest's IPv6 address.
fn await_gids(guests: &Guests, device: &str) -> Result<()> {
    for n in [1, 2] {
        let node = guests.node(n);
        let end = Instant::now() + Duration::from_secs(20);
        let table = format!("/init cat /sys/class/infiniband/{device}/ports/1/gids/2");
        while !node.run(words(&table))?.text().starts_with("fd00:") {
            if Instant::now() > end {
                return Err(format!("guest {n} has no GID of fd00::{n} after 20 s"));
            }
        }
    }
    Ok(())
}

fn pair(guests: &Guests, nodes: usize, server: &str, client: &str, address: &str) -> Result<()> {
    let serving = guests.node(1).spawn(words(&format!("{server} -s -v -a {address}")))?;
    if let Err(error) = guests.node(1).await_cm_port(PORT) {
        serving.signal(9)?;
        let said = serving.wait()?.ok().map_or_else(|error| error, |output| output.text());
        return Err(format!("{error}; the server: {said}"));
    }
    let asking = guests.node(nodes).run(words(&format!("{client} -c -v -V -C 20 -a {address}")))?;
    if !asking.success() && !raced(&asking) {
        // A server whose client failed may wait for ever.
        serving.signal(9)?;
    }
    let served = serving.wait()?;
    for (output, before) in [(ended(asking)?, "ping data"), (served.ok()?, "server ping data")] {
        let text = output.text();
        if text.lines().count() != 20 || !text.contains(&format!("{before}: rdma-ping-19: TUVW")) {
            return Err(format!("{}: not the 20 lines that were due: {text:?}", output.command));
        }
    }
    Ok(())
}

/// A server that stays, and clients of two kinds: twenty one after another, then some at once.
fn persistent(
    guests: &Guests,
    server: &str,
    clients: [&str; 2],
    at_once: usize,
    address: &str,
) -> Result<()> {
    let client = |n: usize, count| words(&format!("{} -c -V -C {count} -a {address}", clients[n % 2]));
    let serving = guests.node(1).spawn(words(&format!("{server} -s -P")))?;
    let asked = guests.node(1).await_cm_port(PORT).and_then(|()| {
        (0..20).try_for_each(|n| ended(guests.node(2).run(client(n, 3))?).map(drop))?;
        let clients =
            (0..at_once).map(|n| guests.node(2).spawn(client(n, 100))).collect::<Result<Vec<_>>>()?;
        clients.iter().try_for_each(|client| ended(client.wait()?).map(drop))
    });
    serving.signal(15)?;
    let served = serving.wait()?;
    asked?;
    let left = String::from_utf8_lossy(&served.stderr).matches("wait for RDMA_READ_ADV state 10").count();
    let due = 20 + at_once;
    if left == due { Ok(()) } else { Err(format!("the server saw {left} clients leave, not {due}")) }
}

/// What a client said, where all was well.
fn ended(client: Output) -> Result<Output> {
    if raced(&client) { Ok(client) } else { client.ok() }
}

/// Whether it is C's client that closed its event channel at its end while a thread of its own still asked for events, which then
/// ends the process. It has said nothing else: nothing else went wrong.
fn raced(client: &Output) -> bool {
    const WORDS: &[u8] = b"client DISCONNECT EVENT...\nrdma_get_cm_event: Bad file descriptor\n";
    client.command.starts_with("rping ") && client.code() == 255 && client.stderr == WORDS
}

fn words(command: &str) -> Run {
    Run::new(command.split_whitespace()).timeout(Duration::from_secs(60))
}
