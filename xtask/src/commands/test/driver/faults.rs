//! What goes wrong on request: each fault becomes the documented status or event, and every program ends by itself.
//!
//! That a peer has no receive, or does not allow an access, needs no fault of the card's: those are in `tests/vm`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::tools::pair;
use super::{Checks, PORT, words};
use crate::Result;
use crate::vm::{Guests, Job, Output};

/// How long a driver may take to see what happened: it looks for a catastrophe every five seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// rping's port of the connection manager.
const RPING_PORT: u16 = 7174;

/// For guests whose cards may fail; the last of these leaves them with cards that were reset.
pub(super) fn all(checks: &mut Checks<'_>) {
    checks.check("lost and doubled packets are not noticed", lost);
    checks.check("a peer that does not answer", unanswered);
    checks.check("a cable is pulled and plugged in", cable);
    checks.check("a completion queue overruns", overrun);
    checks.check("a persistent rping server loses its device", lone_server);
    checks.check("a catastrophe", catastrophe);
}

fn control(guests: &Guests, order: &str) -> Result<()> {
    guests.emulator()?.control(order).map(drop)
}

fn lost(guests: &Guests) -> Result<()> {
    const COUNTER: &str = "/init cat /sys/class/infiniband/mlx4_0/hw_counters/rq_num_oos";
    for (nodes, options) in [(1, "-n 200 -c --poll"), (2, "-n 200 -c -e"), (2, "-n 200 -c -s 20000")] {
        for fault in ["drop rc send skip 5", "drop rc ack skip 20", "duplicate rc send skip 60 count 3"] {
            control(guests, fault)?;
        }
        let outputs = pair(guests, nodes, "rc", options, "ours", "ours")?;
        control(guests, "mend")?;
        if let Some(output) = outputs.iter().find(|output| output.text().contains("invalid data")) {
            return Err(format!("{}: {}", output.command, output.text()));
        }
    }
    // Of a message whose first packets were lost, the next came out of sequence.
    let count = guests.node(1).run(words(COUNTER))?.ok()?.text();
    if count.trim() == "0" { Err("no packet was lost".into()) } else { Ok(()) }
}

fn unanswered(guests: &Guests) -> Result<()> {
    control(guests, "drop rc count 1000000")?;
    let outputs = ends(guests, "bareverbs pingpong rc -n 100 --timeout 3", "127.0.0.1", |_| Ok(()));
    control(guests, "mend")?;
    let [server, client] = outputs?;
    failed(&client, "Failed status transport retry counter exceeded (12)")?;
    failed(&server, "nothing has come from the peer for 3 s")
}

/// What runs meanwhile ends; asyncwatch is told of elsewhere.
fn cable(guests: &Guests) -> Result<()> {
    let pulled = |guests: &Guests| control(guests, "port 1 down");
    let outputs = ends(guests, "bareverbs pingpong rc -n 100000000 --timeout 3", "10.0.0.1", pulled);
    control(guests, "port 1 up")?;
    for output in outputs? {
        failed(&output, "")?;
    }
    guests.node(1).run(words("/init await-active mlx4_0"))?.ok()?;
    pair(guests, 2, "rc", "-n 100", "ours", "ours").map(drop)
}

/// The event, and the completions that there was room for.
fn overrun(guests: &Guests) -> Result<()> {
    const TEST: &str = "queues::a_completion_queue_that_overflows_says_so";
    let output = guests.node(1).run(words(&format!("/bin/vm --ignored --exact {TEST}")))?;
    let text = output.text();
    if output.success() && text.contains("1 passed") { Ok(()) } else { Err(text) }
}

/// Who watches is told and then finds no device; who polls and who sleeps ends too; the driver brings the device back.
fn catastrophe(guests: &Guests) -> Result<()> {
    let watcher = guests.node(1).spawn(words("bareverbs asyncwatch").timeout(PATIENCE))?;
    await_line(&watcher, "async event FD")?;
    let line = |how: &str| format!("bareverbs pingpong rc -n 100000000 --timeout 3 {how}");
    let polling = begun(guests, &line("--poll"), "127.0.0.1", PORT)?;
    let sleeping = begun(guests, &line("-e"), "127.0.0.1", PORT + 1)?;
    control(guests, "catastrophe 1")?;
    for job in polling.iter().chain(&sleeping) {
        failed(&job.wait()?, "")?;
    }
    let watched = watcher.wait()?;
    failed(&watched, "mlx4_0")?;
    if events(&watched) != ["event_type IBV_EVENT_DEVICE_FATAL (8), port 0"] {
        return Err(format!("asyncwatch: {}", watched.text()));
    }
    await_reset(guests)?;
    pair(guests, 1, "rc", "-n 100", "ours", "ours").map(drop)
}

/// It loses the client that it has, and serves on.
fn lone_server(guests: &Guests) -> Result<()> {
    let server = guests.node(1).spawn(words("bareverbs rping -s -P").timeout(PATIENCE))?;
    guests.node(1).await_cm_port(RPING_PORT)?;
    let client = guests.node(1).spawn(words("bareverbs rping -c -v -a 10.1.0.1").timeout(PATIENCE))?;
    await_line(&client, "ping data: rdma-ping-9:")?;
    control(guests, "catastrophe 1")?;
    let asked = client.wait()?;
    await_reset(guests)?;
    server.signal(15)?;
    let served = server.wait()?;
    match (asked.code(), served.code()) {
        // What an interrupted one exits with.
        (1, 130) => Ok(()),
        codes => Err(format!("client and server: {codes:?}: {}", String::from_utf8_lossy(&served.stderr))),
    }
}

fn await_reset(guests: &Guests) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while guests.emulator()?.control("status")?.contains("broken down") {
        if Instant::now() > end {
            return Err("the driver has not reset the card".into());
        }
        sleep(Duration::from_millis(50));
    }
    guests.node(1).run(words("/init await-active mlx4_0"))?.ok().map(drop)
}

/// Runs a server and a client that both fail by themselves; `meanwhile` is done when they have begun.
fn ends(
    guests: &Guests,
    line: &str,
    address: &str,
    meanwhile: impl FnOnce(&Guests) -> Result<()>,
) -> Result<[Output; 2]> {
    let [server, client] = begun(guests, line, address, PORT)?;
    meanwhile(guests)?;
    Ok([server.wait()?, client.wait()?])
}

/// A server and a client that have begun.
fn begun<'g>(guests: &'g Guests, line: &str, address: &str, port: u16) -> Result<[Job<'g>; 2]> {
    let line = format!("{line} -p {port}");
    let server = guests.node(1).spawn(words(&line).timeout(PATIENCE))?;
    if !guests.node(1).await_port_of(&server, port)? {
        return server.wait()?.ok().and(Err("the server ended before its client came".into()));
    }
    let node = if address == "127.0.0.1" { 1 } else { 2 };
    let client = guests.node(node).spawn(words(&format!("{line} {address}")).timeout(PATIENCE))?;
    await_line(&client, "remote address")?;
    Ok([server, client])
}

/// A failure of its own: one line, exit code 1.
fn failed(output: &Output, reason: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    if output.code() == 1 && said.lines().count() == 1 && said.contains(reason) {
        Ok(())
    } else {
        let text = output.text();
        Err(format!("{}: {}, not by {reason:?}: {said:?} after {text:?}", output.command, output.ending()))
    }
}

fn await_line(job: &Job<'_>, wanted: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = String::from_utf8_lossy(&job.stdout_so_far()).into_owned();
        if text.lines().any(|line| line.contains(wanted)) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("no {wanted:?} in {text:?}"));
        }
        sleep(Duration::from_millis(20));
    }
}

/// What a watcher has told.
fn events(output: &Output) -> Vec<String> {
    output.text().lines().skip(1).map(|line| line.trim().to_owned()).collect()
}
