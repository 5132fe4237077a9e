//! `cargo xtask bench`: bareverbs against the C tools, in the same guest.
//!
//! Times under emulation compare only within one guest, so each measurement alternates between C's tool and ours.

mod emulator;
mod measure;
mod posting;
mod scale;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use self::measure::{
    Mode, Side, allocations_per_iteration, calls_per_iteration, connection, instructions_per_iteration,
    latency, rc, rping, system_calls,
};
use self::table::{Bound, Row, Samples, Verdict, head, median};
use crate::image;
use crate::progress::human;
use crate::vm::{Guests, Kernel, Vm};
use crate::{Result, cargo};

/// A group of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The binary against the C tool and its libraries
    Size,
    /// System calls of whole runs and per iteration
    Calls,
    /// User-space instructions per iteration
    Instructions,
    /// Microseconds per iteration, on one and two processors
    Latency,
    /// RDMA-CM: rping's microseconds per iteration, and those of a connection
    Connections,
    /// Microseconds per iteration of uc, ud and srq, on two processors
    Family,
    /// The emulated ConnectX-3 with the C tools: boot, latency, rate, its processor time per message
    Emulator,
    /// mlx4 beside libmlx4 on the emulated ConnectX-3: instructions of posting and polling, microseconds per iteration
    Posting,
    /// 10,000 queue pairs on one completion queue beside libibverbs, on rxe and the emulated ConnectX-3: time and memory of each,
    /// polling the completions of 4096
    Scale,
}

/// The pingpongs besides rc. The device has no XRC.
const FAMILY: [&str; 3] = ["uc", "ud", "srq"];

/// Iterations of each measured run, the tools' own default. On a machine with varying speed, many short alternating runs tell more
/// than a few long ones.
const LENGTH: u32 = 1000;

/// Measure bareverbs against the C tools.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Only this part (may be repeated)
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Only this kernel (may be repeated)
    #[arg(long)]
    kernel: Vec<Kernel>,
    /// Write every number to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often each time is taken
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// The rows so far, and the measurements that failed.
#[derive(Default)]
struct Results {
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Results {
    fn take(&mut self, what: &str, row: Result<Row>) {
        match row {
            Ok(row) => {
                println!("{row}");
                self.rows.push(row);
            }
            Err(error) => {
                println!("{what}: FAILED: {error}");
                self.failures.push(format!("{what}: {error}"));
            }
        }
    }
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let kernels = if arguments.kernel.is_empty() { Kernel::lines() } else { arguments.kernel.clone() };
    let mut results = Results::default();
    warn_of_load();
    head();
    if arguments.only != [Part::Scale] {
        tools(arguments, &kernels, &mut results)?;
    }
    if arguments.wants(Part::Scale)
        // No kernel makes a difference to what grows with the number of queue pairs.
        && let Some(kernel) = kernels.first()
    {
        scale::rows(kernel, arguments.repeat, &mut results)?;
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&results.rows).map_err(|error| error.to_string())?;
        std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let count = |verdict| results.rows.iter().filter(|row| row.verdict == verdict).count();
    let (over, even) = (count(Verdict::Over), count(Verdict::Even));
    let failed = results.failures.len();
    println!(
        "{} measured, {over} over their bounds, {even} too close to tell, {failed} failed, in {}",
        results.rows.len(),
        human(started.elapsed())
    );
    Ok(if over + failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The parts that measure the tools.
fn tools(arguments: &Arguments, kernels: &[Kernel], results: &mut Results) -> Result<()> {
    let binary = cargo::release_binary()?;
    let counting = cargo::release_example("allocations")?;
    let connecting = cargo::release_example("cm_time")?;
    if arguments.wants(Part::Size) {
        results.take("size", size(&binary));
    }
    let vm = |kernel: &Kernel, cpus| {
        let lifetime = Duration::from_secs(3600);
        Vm::new(kernel.clone())
            .cpus(cpus)
            .c_tools(true)
            .file(&binary, "/bin/bareverbs")
            .file(&counting, "/bin/allocations")
            .file(&connecting, "/bin/cm_time")
            .lifetime(lifetime)
    };
    for (at, kernel) in kernels.iter().enumerate() {
        for cpus in [2, 1] {
            // Counts do not depend on the kernel, so one kernel is enough.
            let counts = at == 0 && cpus == 2;
            let wants_counts =
                counts && (arguments.wants(Part::Calls) || arguments.wants(Part::Instructions));
            let wants_family = cpus == 2 && arguments.wants(Part::Family);
            let wants_times =
                wants_family || arguments.wants(Part::Latency) || arguments.wants(Part::Connections);
            if !wants_counts && !wants_times {
                continue;
            }
            let guests = vm(kernel, cpus).boot()?;
            let place = format!("{kernel}, {cpus} vCPU");
            if counts && arguments.wants(Part::Calls) {
                calls(&guests, &place, results);
            }
            if counts && arguments.wants(Part::Instructions) {
                instructions(&guests, &place, results);
            }
            if arguments.wants(Part::Latency) {
                latencies(&guests, "rc", &place, cpus, arguments.repeat, results);
            }
            if arguments.wants(Part::Connections) {
                connections(&guests, &place, arguments.repeat, results);
            }
            for service in FAMILY.into_iter().filter(|_| wants_family) {
                latencies(&guests, service, &place, cpus, arguments.repeat, results);
            }
            guests.shutdown()?;
        }
    }
    if arguments.wants(Part::Emulator) {
        for kernel in kernels {
            emulator::rows(kernel, arguments.repeat, results)?;
        }
    }
    if arguments.wants(Part::Posting) {
        for (at, kernel) in kernels.iter().enumerate() {
            posting::rows(kernel, &binary, at == 0, arguments.repeat, results)?;
        }
    }
    Ok(())
}

/// Says so when the machine has other work, which the times would show.
fn warn_of_load() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let last_minute = load.split(' ').next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    if last_minute > 1.0 {
        println!(
            "the machine is busy (load {last_minute}): times will be worse than they are, and less alike"
        );
    }
}

fn size(binary: &std::path::Path) -> Result<Row> {
    const MEGABYTE: f64 = 1e6;
    let ours = std::fs::metadata(binary).map_err(|error| format!("{}: {error}", binary.display()))?.len();
    let c = image::tools::closure_size("ibv_rc_pingpong")?;
    let bound = Some(Bound::AtMost(1.5));
    Ok(Row::new(
        "size, MB (C: ibv_rc_pingpong's closure)",
        "",
        c as f64 / MEGABYTE,
        ours as f64 / MEGABYTE,
        bound,
    ))
}

fn calls(guests: &Guests, place: &str, results: &mut Results) {
    for (tool, limit) in [("devices", 30.0), ("devinfo", 40.0), ("devinfo -v", 60.0)] {
        let what = format!("system calls, {tool}");
        let both = system_calls(guests, Side::C, tool).and_then(|c| {
            Ok(Row::new(&what, place, c, system_calls(guests, Side::Ours, tool)?, Some(Bound::AtMost(limit))))
        });
        results.take(&what, both);
    }
    let what = "system calls per iteration, polling";
    let both = calls_per_iteration(guests, Side::C, rc("")).and_then(|c| {
        let ours = calls_per_iteration(guests, Side::Ours, rc("--poll"))?;
        // The doorbell, and room for a few calls that happen once in a while.
        Ok(Row::new(what, place, c, ours, Some(Bound::AtMost(1.01))))
    });
    results.take(what, both);
    let what = "heap allocations per iteration, the most";
    // A counting allocator cannot be put under C's tool: there is no number of its own beside ours.
    let ours = allocations_per_iteration(guests);
    results.take(what, ours.map(|ours| Row::new(what, place, f64::NAN, ours, Some(Bound::AtMost(0.0)))));
}

fn instructions(guests: &Guests, place: &str, results: &mut Results) {
    for service in std::iter::once("rc").chain(FAMILY) {
        let what = format!("user instructions per iteration, {service} -e");
        let mode = Mode { service, options: "-e" };
        let bound = if service == "rc" { Bound::AtMost(500.0) } else { Bound::Ratio(1.0) };
        let both = instructions_per_iteration(guests, Side::C, mode).and_then(|c| {
            let ours = instructions_per_iteration(guests, Side::Ours, mode)?;
            Ok(Row::new(&what, place, c, ours, Some(bound)))
        });
        results.take(&what, both);
    }
}

/// C's and ours in turn, and which is first in turn too, so that whatever slows the machine down slows both down.
fn in_turn(repeat: u32, measure: impl Fn(Side) -> Result<f64>) -> Result<Samples> {
    let mut samples = Samples::default();
    for at in 0..repeat {
        let order = [Side::C, Side::Ours];
        for side in if at % 2 == 0 { order } else { [order[1], order[0]] } {
            let sample = measure(side)?;
            if side == Side::C { &mut samples.c } else { &mut samples.ours }.push(sample);
        }
    }
    Ok(samples)
}

/// The times of a service in every mode, in turn and back again, so that whatever slows the machine down slows them all; those
/// that are compared stand side by side.
fn latencies(
    guests: &Guests,
    service: &'static str,
    place: &str,
    cpus: u32,
    repeat: u32,
    results: &mut Results,
) {
    const MODES: [(Side, &str); 5] =
        [(Side::Ours, "--poll"), (Side::C, ""), (Side::Ours, ""), (Side::Ours, "-e"), (Side::C, "-e")];
    let mut samples: [Vec<f64>; 5] = Default::default();
    for at in 0..repeat {
        for n in 0..MODES.len() {
            let n = if at % 2 == 0 { n } else { MODES.len() - 1 - n };
            let ((side, options), samples) = (MODES[n], &mut samples[n]);
            let mode = Mode { service, options };
            // Polling on one processor starves the peer, and takes milliseconds an iteration.
            let polls = options == "--poll" || (side == Side::C && options.is_empty());
            let iterations = if cpus == 1 && polls { 200 } else { LENGTH };
            match latency(guests, side, mode, iterations) {
                Ok(sample) => samples.push(sample),
                Err(error) => return results.take(&format!("µs/iter, {service}, {place}"), Err(error)),
            }
        }
    }
    let [poll, c_poll, adaptive, events, c_events] = samples;
    let even = Some(Bound::Ratio(1.0));
    let mut rows = vec![("default", c_poll.clone(), adaptive.clone(), even)];
    if median(&c_events) < median(&c_poll) {
        // Who sleeps while many messages are under way wakes to several: where that is C's better mode, nobody who polls reaches it.
        let bound = Some(Bound::Ratio(1.05)).filter(|_| service != "srq");
        rows.push(("default, C -e", c_events.clone(), adaptive, bound));
    }
    rows.extend([
        // What the scheduler makes of two that never sleep on one processor is no measure of either.
        ("polling", c_poll, poll, even.filter(|_| cpus > 1)),
        ("-e", c_events, events, even),
    ]);
    for (mode, c, ours, bound) in rows {
        let what = format!("µs/iter, {service}, {mode}");
        results.take("", Ok(Row::of_samples(&what, place, Samples { c, ours }, bound)));
    }
}

/// What is measured with RDMA-CM, C's and ours in turn.
fn connections(guests: &Guests, place: &str, repeat: u32, results: &mut Results) {
    type Measure = fn(&Guests, Side) -> Result<f64>;
    let rows: [(&str, Measure); 2] =
        [("µs/iter, rping", rping), ("µs/connection, cmtime's steps", connection)];
    for (what, measure) in rows {
        let taken = in_turn(repeat, |side| measure(guests, side));
        let row = taken.map(|samples| Row::of_samples(what, place, samples, Some(Bound::Ratio(1.0))));
        results.take(what, row);
    }
}
