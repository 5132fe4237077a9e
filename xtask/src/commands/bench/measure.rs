//! Single measurements in a guest.

use std::time::Duration;

use crate::Result;
use crate::vm::{Guests, Output, Run};

/// The TCP port of pingpong's exchange.
const PORT: u16 = 18515;
/// The guest's address.
const ADDRESS: &str = "10.0.0.1";
const PATIENCE: Duration = Duration::from_secs(180);

/// The same tool, C's or ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// rdma-core's.
    C,
    /// bareverbs.
    Ours,
}

impl Side {
    /// The command of a tool.
    fn tool(self, name: &str) -> String {
        match (self, name) {
            (Self::C, "rping") => "rping".into(),
            (Self::C, name) => match name.strip_prefix("pingpong ") {
                Some(service) => format!("ibv_{service}_pingpong"),
                None => format!("ibv_{name}"),
            },
            (Self::Ours, name) => format!("bareverbs {name}"),
        }
    }
}

/// System calls of a whole run of a tool.
pub(super) fn system_calls(guests: &Guests, side: Side, tool: &str) -> Result<f64> {
    let command = format!("strace -f -c {}", side.tool(tool));
    traced_calls(&guests.node(1).run(words(&command))?.ok()?)
}

/// What is measured of a pingpong: its service, and its options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    pub(super) service: &'static str,
    pub(super) options: &'static str,
}

/// A reliable connection with these options.
pub(super) const fn rc(options: &'static str) -> Mode {
    Mode { service: "rc", options }
}

/// System calls per iteration of a client: the slope between two runs.
pub(super) fn calls_per_iteration(guests: &Guests, side: Side, mode: Mode) -> Result<f64> {
    slope(|iterations| traced_calls(&pingpong(guests, side, mode, iterations, "strace -f -c ")?))
}

/// Heap allocations per iteration of our library's loop, as its example counts them, in whichever way of waiting has most.
pub(super) fn allocations_per_iteration(guests: &Guests) -> Result<f64> {
    let text = guests.node(1).run(words("allocations"))?.ok()?.text();
    let line = text.lines().find_map(|line| line.strip_suffix(" allocations per iteration at the most"));
    line.and_then(|count| count.parse().ok()).ok_or_else(|| format!("allocations: no count in {text:?}"))
}

/// User-space instructions per iteration of a client: the slope between two runs.
pub(super) fn instructions_per_iteration(guests: &Guests, side: Side, mode: Mode) -> Result<f64> {
    slope(|iterations| instructions(&pingpong(guests, side, mode, iterations, CALLGRIND)?))
}

/// Counts the instructions of a program.
pub(super) const CALLGRIND: &str = "valgrind --tool=callgrind --callgrind-out-file=/dev/null ";

/// What callgrind has counted.
pub(super) fn instructions(output: &Output) -> Result<f64> {
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    line.and_then(|(_, count)| count.trim().parse().ok())
        .ok_or_else(|| format!("{}: no count from callgrind", output.command))
}

/// Microseconds per iteration, as the client tells; of xsrq, where C's tells nothing, the slope between two runs.
pub(super) fn latency(guests: &Guests, side: Side, mode: Mode, iterations: u32) -> Result<f64> {
    if mode.service == "xsrq" {
        let time = |iterations| Ok(microseconds(&pingpong(guests, side, mode, iterations, "")?));
        return slope_over(iterations, time);
    }
    let output = pingpong(guests, side, mode, iterations, "")?;
    let text = output.text();
    let line = text.lines().find_map(|line| line.trim_end().strip_suffix(" usec/iter"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .ok_or_else(|| format!("{}: no usec/iter line", output.command))
}

/// Microseconds per iteration of an rping client: the slope between two runs.
pub(super) fn rping(guests: &Guests, side: Side) -> Result<f64> {
    const RPING_PORT: u16 = 7174;
    let tool = side.tool("rping");
    slope(|iterations| {
        let client = format!("{tool} -c -C {iterations} -a {ADDRESS}");
        Ok(microseconds(&over_cm(guests, &format!("{tool} -s"), RPING_PORT, &client)?))
    })
}

/// How long a program ran.
fn microseconds(output: &Output) -> f64 {
    output.usage.wall.as_secs_f64() * 1e6
}

/// Microseconds from making a connection's id to its end, as one of a hundred that take every step together.
pub(super) fn connection(guests: &Guests, side: Side) -> Result<f64> {
    const CMTIME_PORT: u16 = 7471;
    const COUNT: u32 = 100;
    let (server, client) = match side {
        Side::C => ("cmtime".to_owned(), format!("cmtime -s {ADDRESS} -c {COUNT}")),
        Side::Ours => {
            (format!("cm_time 0.0.0.0:{CMTIME_PORT}"), format!("cm_time {ADDRESS}:{CMTIME_PORT} {COUNT}"))
        }
    };
    let text = over_cm(guests, &server, CMTIME_PORT, &client)?.text();
    // "connect      :       12.34 …": the milliseconds of a step.
    let step = |line: &str| line.split_once(':')?.1.split_whitespace().next()?.parse::<f64>().ok();
    let steps: Vec<f64> = text.lines().filter_map(step).collect();
    match steps.len() {
        7 => Ok(steps.iter().sum::<f64>() * 1e3 / f64::from(COUNT)),
        n => Err(format!("{client}: {n} steps in {text:?}, not 7")),
    }
}

/// Runs a client to its end, with a server that may have to be told to go.
fn over_cm(guests: &Guests, server: &str, port: u16, client: &str) -> Result<Output> {
    let node = guests.node(1);
    let server = node.spawn(words(server))?;
    let asked = node.await_cm_port(port).and_then(|()| node.run(words(client))?.ok());
    // It may have ended with its client.
    let _ = server.signal(9);
    server.wait()?;
    asked
}

/// Runs a server and a client of one side in one guest; the client under `tracer`.
///
/// Where there are two processors, each has one. Which of them the scheduler gives to whom is chance, and says more of a time
/// than who is measured: those who share one while they poll run at its pace, and wake faster when they sleep.
fn pingpong(guests: &Guests, side: Side, mode: Mode, iterations: u32, tracer: &str) -> Result<Output> {
    let tool = side.tool(&format!("pingpong {}", mode.service));
    // RoCE has no LIDs; the first of its GIDs is not reachable in one guest.
    let gid = if guests.emulator().is_ok() { "" } else { "-g 1 " };
    let command = format!("{tool} {gid}-n {iterations} {}", mode.options);
    ends(guests, words(&command).cpu(0), words(&format!("{tracer}{command} 127.0.0.1")).cpu(1), PORT)
}

/// Runs a server and its client in one guest: what the client said.
pub(super) fn pair(guests: &Guests, server: &str, client: &str, port: u16) -> Result<Output> {
    ends(guests, words(server), words(client), port)
}

fn ends(guests: &Guests, server: Run, client: Run, port: u16) -> Result<Output> {
    let node = guests.node(1);
    let server = node.spawn(server)?;
    let client = node.await_port(port).and_then(|()| node.run(client)?.ok());
    if client.is_err() {
        // It may wait for a client that never comes.
        server.signal(9)?;
    }
    let server = server.wait()?;
    match client {
        Ok(output) => server.ok().map(|_| output),
        Err(error) if server.stderr.is_empty() => Err(error),
        Err(error) => Err(format!("{error}; its server: {}", String::from_utf8_lossy(&server.stderr).trim())),
    }
}

pub(super) fn words(command: &str) -> Run {
    Run::new(command.split_whitespace()).timeout(PATIENCE).held()
}

/// What one iteration adds.
fn slope(count: impl Fn(u32) -> Result<f64>) -> Result<f64> {
    slope_over(1000, count)
}

/// The same, from so many iterations.
fn slope_over(iterations: u32, count: impl Fn(u32) -> Result<f64>) -> Result<f64> {
    const FEW: u32 = 200;
    Ok((count(FEW + iterations)? - count(FEW)?) / f64::from(iterations))
}

/// The calls on strace's total line.
fn traced_calls(output: &Output) -> Result<f64> {
    let said = String::from_utf8_lossy(&output.stderr);
    total(&said).ok_or_else(|| format!("{}: no total from strace", output.command))
}

fn total(summary: &str) -> Option<f64> {
    let line = summary.lines().rev().find(|line| line.trim_end().ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn a_total_is_read_with_and_without_errors() {
        assert_eq!(total("100.00    0.028701         181       158        24 total\n"), Some(158.0));
        assert_eq!(total("100.00    0.028701         181       158           total\n"), Some(158.0));
        assert_eq!(total("no such file\n"), None);
    }
}
