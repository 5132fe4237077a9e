//! A server in guest 1 and its client, in the same guest or in guest 2.

use std::time::Duration;

use crate::vm::{Guests, Job, Output, Run};
use crate::{Result, process};

/// How long a command may take: guests are emulated, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(400);

/// Where a server listens. Once it does, its client may come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Port {
    /// A TCP port.
    Tcp(u16),
    /// A port of the RDMA connection manager.
    Cm(u16),
}

/// The port on which pingpongs and perftest's tools exchange addresses.
pub(super) const PINGPONG: u16 = 18515;
/// rping's port.
pub(super) const RPING: Port = Port::Cm(7174);

/// A command line, split at spaces.
pub(super) fn words(line: &str) -> Run {
    Run::new(line.split_whitespace()).timeout(PATIENCE)
}

/// Starts a server in guest 1 and waits until it listens.
pub(super) fn serve<'g>(guests: &'g Guests, server: &str, port: Port) -> Result<Job<'g>> {
    let node = guests.node(1);
    let serving = node.spawn(words(server))?;
    let listens = match port {
        Port::Tcp(port) => node.await_port_of(&serving, port),
        Port::Cm(port) => node.await_cm_port(port).map(|()| true),
    };
    match listens {
        Ok(true) => Ok(serving),
        Ok(false) => Err(format!("{server}: ended before its client came: {}", last_words(&serving.wait()?))),
        Err(error) => {
            // It may have ended meanwhile; its output tells.
            let _ = serving.signal(9);
            Err(format!("{error}; the server: {}", last_words(&serving.wait()?)))
        }
    }
}

/// Runs a server in guest 1 and a client in guest `node` to their ends, both of which must succeed. Returns their outputs in this order.
pub(super) fn pair(
    guests: &Guests,
    node: usize,
    server: &str,
    client: &str,
    port: Port,
) -> Result<[Output; 2]> {
    pair_unless(guests, node, server, client, port, |_| false)
}

/// Like [`pair`], but a client that failed is accepted if it is `excused`.
pub(super) fn pair_unless(
    guests: &Guests,
    node: usize,
    server: &str,
    client: &str,
    port: Port,
    excused: impl Fn(&Output) -> bool,
) -> Result<[Output; 2]> {
    let serving = serve(guests, server, port)?;
    let asked = guests.node(node).run(words(client))?;
    let good = asked.success() || excused(&asked);
    if !good {
        // A server whose client failed may wait for ever.
        serving.signal(9)?;
    }
    let served = serving.wait()?;
    if !good {
        return Err(format!("{}\nthe server: {}", last_words(&asked), last_words(&served)));
    }
    Ok([served.ok()?, asked])
}

/// How a command ended and the end of what it printed.
fn last_words(output: &Output) -> String {
    let end = |bytes: &[u8]| process::last_lines(bytes, 30);
    format!("{}: {}: {}{}", output.command, output.ending(), end(&output.stdout), end(&output.stderr))
}
