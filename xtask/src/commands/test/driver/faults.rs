//! What goes wrong on request: each fault becomes the documented status or event, and every program ends by itself.
//!
//! A peer without a receive, or one that does not allow an access, needs no fault of the card: those are in `tests/vm`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Checks, words};
use crate::Result;
use crate::commands::test::pair::{PINGPONG, Port, RPING, serve};
use crate::commands::test::pingpong::{Who, pair};
use crate::vm::{Guests, Job, Output};

/// How long a driver may take to notice: it looks for a catastrophe every five seconds.
const PATIENCE: Duration = Duration::from_secs(60);

const OURS: [Who; 2] = [Who::Ours; 2];

/// Ways of waiting for the peer, and a TCP port for a pair of each.
const WAYS: [(&str, u16); 3] = [("--poll", PINGPONG), ("-e", PINGPONG + 1), ("", PINGPONG + 2)];

/// The error of a side that has sent, and of one that only waits.
const UNANSWERED: &str = "Failed status transport retry counter exceeded (12) for wr_id 2";
const SILENT: &str = "nothing has come from the peer for 3 s";

/// For guests whose cards may fail. The last of these leaves them with cards that were reset.
pub(super) fn all(checks: &mut Checks<'_>) {
    checks.check("lost and doubled packets are not noticed", lost);
    checks.check("a card without a clock", no_clock);
    checks.check("a server stays until its last replies have arrived", late_reply);
    checks.check("a wrong byte that the card does not see is noticed", flipped);
    checks.check("a peer that does not answer", unanswered);
    checks.check("a cable is pulled and plugged in", cable);
    checks.check("a completion queue overruns", overrun);
    checks.check("a completion queue overruns under a pingpong", overrun_of_a_pingpong);
    checks.check("a persistent rping server loses its device", lone_server);
    checks.check("a catastrophe", catastrophe);
}

fn control(guests: &Guests, order: &str) -> Result<()> {
    guests.emulator()?.control(order).map(drop)
}

/// Runs a pair while these things happen to packets, and sees that each of them has happened.
fn suffering<T>(guests: &Guests, faults: &[&str], run: impl FnOnce() -> Result<T>) -> Result<T> {
    faults.iter().try_for_each(|fault| control(guests, fault))?;
    let ran = run();
    let left = guests.emulator()?.control("faults")?;
    control(guests, "clear")?;
    let ran = ran?;
    if left.trim().is_empty() { Ok(ran) } else { Err(format!("it has not happened: {left}")) }
}

/// With `-c` every byte of the last message is compared. Two messages of twenty packets go each way, so 40 packets precede it.
fn lost(guests: &Guests) -> Result<()> {
    const COUNTER: &str = "/init cat /sys/class/infiniband/mlx4_0/hw_counters/rq_num_oos";
    const MANY: &[&str] =
        &["drop rc send skip 5", "drop rc ack skip 20", "duplicate rc send skip 60 count 3"];
    const TWO: &str = "-n 2 -c -e -s 20000";
    for (nodes, options, faults) in [
        (1, "-n 200 -c --poll", MANY),
        (2, "-n 200 -c -e", MANY),
        (2, "-n 200 -c -s 20000", MANY),
        (2, TWO, &["drop rc send skip 45 count 2"]),
        (2, TWO, &["drop rc ack"]),
        (2, TWO, &["duplicate rc send skip 45 count 3"]),
        (2, TWO, &["delay 30 rc send skip 45 count 3"]),
        (2, TWO, &["corrupt rc send skip 45 count 3"]),
    ] {
        suffering(guests, faults, || pair(guests, nodes, "rc", options, OURS))
            .map_err(|error| format!("{options}, {faults:?}: {error}"))?;
    }
    // Of a message whose first packets were lost, the next came out of sequence.
    let count = guests.node(1).run(words(COUNTER))?.ok()?.text();
    if count.trim() == "0" { Err("no packet was lost".into()) } else { Ok(()) }
}

/// The kernel says that ConnectX-2 has a clock, and passes the request on.
fn no_clock(guests: &Guests) -> Result<()> {
    failed(&guests.node(1).run(words("bareverbs pingpong rc -t"))?, "has this device a clock")
}

/// While one queue pair's reply is retransmitted, the others take all remaining messages.
fn late_reply(guests: &Guests) -> Result<()> {
    let fault = ["drop from 1 rc send skip 60"];
    suffering(guests, &fault, || pair(guests, 2, "srq", "-n 100 -s 64", OURS)).map(drop)
}

/// What the checks above rely on: `-c` sees one wrong byte in 20000.
fn flipped(guests: &Guests) -> Result<()> {
    let line = "bareverbs pingpong rc -n 1 -c -s 20000";
    let fault = ["flip rc send skip 5"];
    let [server, client] = suffering(guests, &fault, || ends(guests, line, "10.0.0.1", |_| Ok(())))?;
    client.ok()?;
    failed(&server, "1 pages were not received as they were sent")
}

fn unanswered(guests: &Guests) -> Result<()> {
    control(guests, "drop rc count 1000000")?;
    let outputs = ends(guests, "bareverbs pingpong rc -n 100 --timeout 3", "127.0.0.1", |_| Ok(()));
    control(guests, "clear")?;
    let [server, client] = outputs?;
    failed(&client, UNANSWERED)?;
    failed(&server, SILENT)
}

/// In each pair, the side that sent last gets no answer; the other may have nothing under way. asyncwatch is checked elsewhere.
fn cable(guests: &Guests) -> Result<()> {
    let pairs = playing(guests, "--timeout 3", "10.0.0.1")?;
    control(guests, "port 1 down")?;
    let ended = pairs.iter().try_for_each(|pair| either_failed(pair, UNANSWERED, SILENT));
    control(guests, "port 1 up")?;
    ended?;
    guests.node(1).run(words("/init await-active mlx4_0"))?.ok()?;
    pair(guests, 2, "rc", "-n 100", OURS).map(drop)
}

/// The event comes, and so do the completions for which there was room.
fn overrun(guests: &Guests) -> Result<()> {
    const TEST: &str = "queues::a_completion_queue_that_overflows_says_so";
    let output = guests.node(1).run(words(&format!("/bin/vm --ignored --exact {TEST}")))?;
    let text = output.text();
    if output.success() && text.contains("1 passed") { Ok(()) } else { Err(text) }
}

/// Every completion queue of three pairs fails on request, and no side waits until its peer has been silent for long. The kernel reports
/// this to the owner of the queue only, so asyncwatch has nothing to print.
fn overrun_of_a_pingpong(guests: &Guests) -> Result<()> {
    let pairs = playing(guests, "--timeout 30", "127.0.0.1")?;
    let emulator = guests.emulator()?;
    // The first numbers are reserved, the next belong to the kernel, the last to the six programs.
    let theirs = (0x80..0x100).rev().filter(|cqn| emulator.control(&format!("overrun 1 {cqn}")).is_ok());
    if theirs.take(6).count() < 6 {
        return Err("no completion queues are there to overrun".into());
    }
    let start = Instant::now();
    // A side whose queue fails a moment later may get an error from its peer's queue pair first.
    pairs
        .iter()
        .try_for_each(|pair| either_failed(pair, "the completion queue has overflowed", "Failed status"))?;
    soon(start, 10)?;
    pair(guests, 1, "rc", "-n 100", OURS).map(drop)
}

/// asyncwatch prints the event and ends; programs that poll or sleep end too; the driver brings the device back.
fn catastrophe(guests: &Guests) -> Result<()> {
    let watcher = guests.node(1).spawn(words("bareverbs asyncwatch").timeout(PATIENCE))?;
    await_line(&watcher, "async event FD")?;
    // Its server waits for one more client. A program that polls reads no channel that could fail.
    let [lonely, waiting] = begun(guests, "bareverbs pingpong xsrq --poll -c 2", "127.0.0.1", PINGPONG + 3)?;
    let pairs = playing(guests, "--timeout 50", "127.0.0.1")?;
    control(guests, "catastrophe 1")?;
    let start = Instant::now();
    for job in pairs.iter().flatten().chain([&waiting]) {
        let output = job.wait()?;
        failed(&output, "the device has failed or is gone").or_else(|error| {
            // The driver takes the channels away after it has reported the event.
            failed(&output, "the device was removed or its driver reset it").map_err(|_| error)
        })?;
    }
    soon(start, 25)?;
    lonely.signal(15)?;
    lonely.wait()?;
    let watched = watcher.wait()?;
    failed(&watched, "mlx4_0: the device has failed or is gone")?;
    if events(&watched) != ["event_type IBV_EVENT_DEVICE_FATAL (8), port 0"] {
        return Err(format!("asyncwatch: {}", watched.text()));
    }
    await_reset(guests)?;
    pair(guests, 1, "rc", "-n 100", OURS).map(drop)
}

/// It loses its client and keeps serving.
fn lone_server(guests: &Guests) -> Result<()> {
    let server = serve(guests, "bareverbs rping -s -P", RPING)?;
    let client = guests.node(1).spawn(words("bareverbs rping -c -v -a 10.1.0.1").timeout(PATIENCE))?;
    await_line(&client, "ping data: rdma-ping-9:")?;
    control(guests, "catastrophe 1")?;
    let asked = client.wait()?;
    await_reset(guests)?;
    server.signal(15)?;
    let served = server.wait()?;
    match (asked.code(), served.code()) {
        // The exit code of an interrupted server.
        (1, 130) => Ok(()),
        codes => Err(format!("client and server: {codes:?}: {}", String::from_utf8_lossy(&served.stderr))),
    }
}

/// Starts a server and a client for each way of waiting, in a run that has no end.
fn playing<'g>(guests: &'g Guests, options: &str, address: &str) -> Result<Vec<[Job<'g>; 2]>> {
    let line = format!("bareverbs pingpong rc -n 100000000 {options}");
    WAYS.into_iter().map(|(way, port)| begun(guests, &format!("{line} {way}"), address, port)).collect()
}

/// Fails if more than `seconds` have passed since `start`: what has failed must be noticed, not timed out.
fn soon(start: Instant, seconds: u64) -> Result<()> {
    let took = start.elapsed();
    if took < Duration::from_secs(seconds) { Ok(()) } else { Err(format!("it took {took:?}")) }
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

/// Runs a server and a client that both fail by themselves; `meanwhile` is called once they are connected.
fn ends(
    guests: &Guests,
    line: &str,
    address: &str,
    meanwhile: impl FnOnce(&Guests) -> Result<()>,
) -> Result<[Output; 2]> {
    let [server, client] = begun(guests, line, address, PINGPONG)?;
    meanwhile(guests)?;
    Ok([server.wait()?, client.wait()?])
}

/// Starts a server and a client and waits until they have exchanged addresses.
fn begun<'g>(guests: &'g Guests, line: &str, address: &str, port: u16) -> Result<[Job<'g>; 2]> {
    let line = format!("{line} -p {port}");
    let server = serve(guests, &line, Port::Tcp(port))?;
    let node = if address == "127.0.0.1" { 1 } else { 2 };
    let client = guests.node(node).spawn(words(&format!("{line} {address}")).timeout(PATIENCE))?;
    await_line(&client, "remote")?;
    Ok([server, client])
}

/// Checks that a program failed with one line that contains `reason` and exit code 1.
fn failed(output: &Output, reason: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    if output.code() == 1 && said.lines().count() == 1 && said.contains(reason) {
        Ok(())
    } else {
        let text = output.text();
        Err(format!("{}: {}, not by {reason:?}: {said:?} after {text:?}", output.command, output.ending()))
    }
}

/// Checks that one side of a pair failed for `reason`, and the other for the same or for one that follows from it.
fn either_failed(pair: &[Job<'_>; 2], reason: &str, follows: &str) -> Result<()> {
    let [one, other] = [pair[0].wait()?, pair[1].wait()?];
    let (one, other) = if failed(&one, reason).is_ok() { (one, other) } else { (other, one) };
    failed(&one, reason)?;
    failed(&other, reason).or_else(|_| failed(&other, follows))
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

/// The events that a watcher printed.
fn events(output: &Output) -> Vec<String> {
    output.text().lines().skip(1).map(|line| line.trim().to_owned()).collect()
}
