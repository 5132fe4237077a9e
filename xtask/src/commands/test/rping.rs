//! rping in one guest and between two, over IPv4 and IPv6.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use super::Depth;
use super::checks::Checks;
use super::pair::{self, RPING, words};
use super::pingpong::{PAIRINGS, Who};
use crate::Result;
use crate::vm::{Guests, Output};

/// How the guests reach each other.
pub(super) struct Network {
    /// The addresses of guest 1, which has the servers: IPv4 and IPv6.
    servers: [&'static str; 2],
    /// What has to be done before they are used.
    prepare: fn(&Guests) -> Result<()>,
    /// Whether servers persist here without `--full`. One network is enough for what does not depend on it.
    wide: bool,
}

/// The wire, with a software device on it.
pub(super) const WIRE: Network = Network { servers: ["10.0.0.1", "fd00::1"], prepare: ipv6, wide: true };
/// Cards that are network devices.
pub(super) const ETHERNET: Network =
    Network { servers: ["10.0.0.1", "fd00::1"], prepare: |guests| await_gids(guests, "mlx4_0"), wide: false };
/// IP over InfiniBand.
pub(super) const IPOIB: Network =
    Network { servers: ["10.1.0.1", "fd01::1"], prepare: |_| Ok(()), wide: false };

fn tool(who: Who) -> &'static str {
    match who {
        Who::Ours => "bareverbs rping",
        Who::C => "rping",
    }
}

/// Runs every pairing with ours on one side at least between two guests. Where the kernel is checked in brief each pairing has one
/// address family; elsewhere each has both, and on one network servers persist: ours with twenty clients one after another and eight at once, C's
/// with twenty of ours.
pub(super) fn ours(checks: &mut Checks<'_>, network: &Network) {
    let ready = OnceCell::new();
    let brief = checks.depth() == Depth::Brief;
    for (row, who) in PAIRINGS.into_iter().enumerate() {
        for (column, address) in network.servers.into_iter().enumerate() {
            if brief && (row + column) % 2 == 1 {
                continue;
            }
            checks.check(&format!("rping {address}: {:?} <- {:?}", who[0], who[1]), |guests| {
                ready.get_or_init(|| (network.prepare)(guests)).clone()?;
                pair(guests, 2, who, address)
            });
        }
    }
    if brief || (!network.wide && checks.depth() != Depth::Full) {
        return;
    }
    checks.check("rping -P: 20 clients, then 8 at once", |guests| {
        persistent(guests, Who::Ours, [Who::Ours, Who::C], 8, network.servers[0])
    });
    // Several at once are too much for C's server: it forgets a request when the next comes before it has handled it.
    checks.check("C's rping -P: 20 clients of ours", |guests| {
        persistent(guests, Who::C, [Who::Ours; 2], 0, network.servers[0])
    });
}

/// Runs C's with itself, in one guest and between two.
pub(super) fn c(checks: &mut Checks<'_>, network: &Network) {
    let ready = OnceCell::new();
    for nodes in [1, 2] {
        for address in network.servers {
            checks.check(&format!("C's rping {address}, {nodes} guests"), |guests| {
                ready.get_or_init(|| (network.prepare)(guests)).clone()?;
                pair(guests, nodes, [Who::C; 2], address)
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

fn pair(guests: &Guests, node: usize, who: [Who; 2], address: &str) -> Result<()> {
    let [server, client] = who.map(tool);
    let server = format!("{server} -s -v -a {address}");
    let client = format!("{client} -c -v -V -C 20 -a {address}");
    let [served, asked] = pair::pair_unless(guests, node, &server, &client, RPING, raced)?;
    for (output, before) in [(asked, "ping data"), (served, "server ping data")] {
        let text = output.text();
        if text.lines().count() != 20 || !text.contains(&format!("{before}: rdma-ping-19: TUVW")) {
            return Err(format!("{}: not the 20 lines that were expected: {text:?}", output.command));
        }
    }
    Ok(())
}

/// A persistent server and clients of two kinds: twenty one after another, then `at_once` together.
fn persistent(guests: &Guests, server: Who, clients: [Who; 2], at_once: usize, address: &str) -> Result<()> {
    let client = |n: usize, count| words(&format!("{} -c -V -C {count} -a {address}", tool(clients[n % 2])));
    let serving = pair::serve(guests, &format!("{} -s -P", tool(server)), RPING)?;
    let ended = |client: Output| if raced(&client) { Ok(()) } else { client.ok().map(drop) };
    let asked = (0..20).try_for_each(|n| ended(guests.node(2).run(client(n, 3))?)).and_then(|()| {
        let clients =
            (0..at_once).map(|n| guests.node(2).spawn(client(n, 100))).collect::<Result<Vec<_>>>()?;
        clients.iter().try_for_each(|client| ended(client.wait()?))
    });
    serving.signal(15)?;
    let served = serving.wait()?;
    asked?;
    let left = String::from_utf8_lossy(&served.stderr).matches("wait for RDMA_READ_ADV state 10").count();
    let expected = 20 + at_once;
    if left == expected {
        Ok(())
    } else {
        Err(format!("the server saw {left} clients leave, not {expected}"))
    }
}

/// Whether this is C's client that failed by a race of its own: it closes its event channel at its end while its thread still asks
/// for events, which may end the process. It printed nothing else, so nothing else went wrong.
fn raced(client: &Output) -> bool {
    const WORDS: &[u8] = b"client DISCONNECT EVENT...\nrdma_get_cm_event: Bad file descriptor\n";
    client.command.starts_with("rping ") && client.code() == 255 && client.stderr == WORDS
}
