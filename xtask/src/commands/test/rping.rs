//! rping between two guests, over IPv4 and IPv6.

use std::time::{Duration, Instant};

use super::Arguments;
use crate::Result;
use crate::tally::Tally;
use crate::vm::{Guests, Run};

const PORT: u16 = 7174;
/// Of guest 1, which has the servers.
const SERVERS: [&str; 2] = ["10.0.0.1", "fd00::1"];

const OURS: &str = "bareverbs rping";
const C: &str = "rping";

/// Plays every pair, and a persistent server with eight clients at once.
pub(super) fn pairs(guests: &Guests, place: &str, arguments: &Arguments, tally: &mut Tally) {
    let wanted = |name: &str| arguments.filter.as_ref().is_none_or(|filter| name.contains(filter));
    let mut ready = None;
    for (server, client) in [(OURS, OURS), (C, OURS), (OURS, C)] {
        for address in SERVERS {
            let name = format!("{place}: {server} {address} <- {client}");
            if wanted(&name) {
                let ready = ready.get_or_insert_with(|| ipv6(guests));
                tally.check(&name, ready.clone().and_then(|()| pair(guests, server, client, address)));
            }
        }
    }
    let name = format!("{place}: {OURS} -P <- 8 clients at once");
    if wanted(&name) {
        tally.check(&name, at_once(guests));
    }
}

/// Gives each guest an IPv6 address, and waits for its GID.
fn ipv6(guests: &Guests) -> Result<()> {
    for n in [1, 2] {
        let node = guests.node(n);
        node.run(words(&format!("ip -6 addr add fd00::{n}/64 dev eth0 nodad")))?.ok()?;
        let end = Instant::now() + Duration::from_secs(20);
        let table = "/init cat /sys/class/infiniband/rxe0/ports/1/gids/2";
        while !node.run(words(table))?.text().starts_with("fd00:") {
            if Instant::now() > end {
                return Err(format!("guest {n} has no GID of fd00::{n} after 20 s"));
            }
        }
    }
    Ok(())
}

fn pair(guests: &Guests, server: &str, client: &str, address: &str) -> Result<()> {
    let serving = guests.node(1).spawn(words(&format!("{server} -s -v -a {address}")))?;
    if let Err(error) = guests.node(1).await_cm_port(PORT) {
        serving.signal(9)?;
        let said = serving.wait()?.ok().map_or_else(|error| error, |output| output.text());
        return Err(format!("{error}; the server: {said}"));
    }
    let asking = guests.node(2).run(words(&format!("{client} -c -v -V -C 20 -a {address}")))?;
    if !asking.success() {
        // A server whose client failed may wait for ever.
        serving.signal(9)?;
    }
    let served = serving.wait()?;
    for (output, before) in [(asking.ok()?, "ping data"), (served.ok()?, "server ping data")] {
        let text = output.text();
        if text.lines().count() != 20 || !text.contains(&format!("{before}: rdma-ping-19: TUVW")) {
            return Err(format!("{}: not the 20 lines that were due: {text:?}", output.command));
        }
    }
    Ok(())
}

fn at_once(guests: &Guests) -> Result<()> {
    let serving = guests.node(1).spawn(words(&format!("{OURS} -s -P")))?;
    let asked = guests.node(1).await_cm_port(PORT).and_then(|()| {
        let clients = (0..8).map(|n| {
            let client = [OURS, C][n % 2];
            guests.node(2).spawn(words(&format!("{client} -c -V -C 100 -a {}", SERVERS[0])))
        });
        let clients = clients.collect::<Result<Vec<_>>>()?;
        clients.iter().try_for_each(|client| client.wait()?.ok().map(drop))
    });
    serving.signal(15)?;
    let served = serving.wait()?;
    asked?;
    let left = String::from_utf8_lossy(&served.stderr).matches("wait for RDMA_READ_ADV state 10").count();
    if left == 8 { Ok(()) } else { Err(format!("the server saw {left} clients leave, not 8")) }
}

fn words(command: &str) -> Run {
    Run::new(command.split_whitespace()).timeout(Duration::from_secs(60))
}
