//! The emulated ConnectX-3, by rdma-core's tools: what it takes until it can be used, and what a message costs.

use std::time::{Duration, Instant};

use super::Results;
use super::measure::{self, Mode, Side, latency, rc};
use super::table::{Row, Samples};
use crate::Result;
use crate::vm::{Guests, Kernel, Mlx4, Output, Prepared, Vm};

/// The port of perftest's exchange.
const PORT: u16 = 18515;
/// Iterations of a latency.
const ITERATIONS: u32 = 1000;

/// All rows, in a guest of two processors.
pub(super) fn rows(kernel: &Kernel, repeat: u32, results: &mut Results) -> Result<()> {
    let place = format!("{kernel}, mlx4");
    let vm = Vm::new(kernel.clone()).c_tools(true).mlx4(Mlx4::default()).lifetime(Duration::from_secs(3600));
    let prepared = vm.prepare()?;
    // Boots and long runs take a quarter of a minute each.
    let few = repeat.min(2);
    let boots: Result<Vec<f64>> = (0..few).map(|_| first_ping(&prepared)).collect();
    take(results, "s from QEMU's start to the first ping", &place, boots);
    let guests = prepared.boot()?;
    for (name, options) in [("polling", ""), ("-e", "-e")] {
        let mode = rc(options);
        let samples = (0..repeat).map(|_| latency(&guests, Side::C, mode, ITERATIONS)).collect();
        take(results, &format!("µs/iter, rc, {name}"), &place, samples);
    }
    let rates: Result<Vec<f64>> = (0..repeat).map(|_| bandwidth(&guests)).collect();
    take(results, "MB/s, ib_write_bw of 64 KiB", &place, rates);
    for (name, options) in [("polling", ""), ("-e", "-e")] {
        let mode = rc(options);
        let samples = (0..few).map(|_| processor(&guests, mode)).collect();
        take(results, &format!("µs of the emulator per message, {name}"), &place, samples);
    }
    guests.shutdown()
}

/// There is one number, of C's tools: nothing here is bareverbs's.
fn take(results: &mut Results, what: &str, place: &str, samples: Result<Vec<f64>>) {
    let row = |c| Row::of_samples(what, place, Samples { c, ours: Vec::new() }, None);
    results.take(what, samples.map(row));
}

/// Seconds from the start of QEMU until a pingpong has ended.
fn first_ping(prepared: &Prepared<'_>) -> Result<f64> {
    let start = Instant::now();
    let guests = prepared.boot()?;
    latency(&guests, Side::C, rc(""), 1)?;
    let seconds = start.elapsed().as_secs_f64();
    guests.shutdown()?;
    Ok(seconds)
}

/// MB/s of writes of 64 KiB, as perftest tells.
fn bandwidth(guests: &Guests) -> Result<f64> {
    let command = "ib_write_bw -F -s 65536 -n 1000";
    let output = measure::pair(guests, command, &format!("{command} 127.0.0.1"), PORT)?;
    average(&output).ok_or_else(|| format!("{command}: no rate in {:?}", output.text()))
}

/// The fourth number behind the table's head: size, iterations, peak, average.
fn average(output: &Output) -> Option<f64> {
    let text = output.text();
    let line = text.lines().skip_while(|line| !line.trim_start().starts_with("#bytes")).nth(1)?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Microseconds of processor time that the emulator takes for a message: the slope between two runs. An iteration has a
/// message each way.
fn processor(guests: &Guests, mode: Mode) -> Result<f64> {
    const FEW: u32 = 500;
    const MANY: u32 = 3500;
    let spent = |iterations| -> Result<Duration> {
        let before = guests.emulator()?.processor_time()?;
        latency(guests, Side::C, mode, iterations)?;
        Ok(guests.emulator()?.processor_time()?.saturating_sub(before))
    };
    let few = spent(FEW)?;
    let more = spent(MANY)?.saturating_sub(few);
    Ok(more.as_secs_f64() * 1e6 / f64::from(2 * (MANY - FEW)))
}
