//! `cargo xtask test`: everything that must hold, from formatting to every kernel.

mod api;
mod bare;
mod cards;
mod checks;
mod driver;
mod examples;
mod guest;
mod host;

mod libtest;
mod mlx4;
mod nodes;
mod roce;
mod rping;
mod work;

use std::num::NonZero;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use clap::{Parser, ValueEnum};

use self::work::{Queue, Work};
use crate::Result;
use crate::progress::human;
use crate::tally::Tally;
use crate::vm::Kernel;

/// A part of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Formatting, clippy, unit and golden tests, the other architecture
    Host,
    /// Structures and numbers against the kernel's headers
    Abi,
    /// The ring code under Miri
    Miri,
    /// The suite in a guest, on each kernel, in both command encodings
    Vm,
    /// Pingpong between two guests, on each kernel
    Nodes,
    /// What goes wrong on request with the emulated ConnectX card, under the kernel's own driver, on each kernel
    Cards,
    /// rdma-core's tools, perftest and the verbs checker on the emulated ConnectX-3, on each kernel
    Mlx4,
    /// Our driver for ConnectX on the emulated card, beside rdma-core's, on each kernel
    Driver,
}

/// Run every check; the last line is `N passed, N failed`.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Only this part (may be repeated)
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Only this kernel (may be repeated)
    #[arg(long)]
    kernel: Vec<Kernel>,
    /// Only tests whose names contain this
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// How many guests, or pairs of them, run at once [default: as many as there are processors, at most 4]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Show the guest tests' output as it comes
    #[arg(long)]
    verbose: bool,
}

impl Arguments {
    fn kernels(&self) -> Vec<Kernel> {
        if self.kernel.is_empty() { Kernel::lines() } else { self.kernel.clone() }
    }

    /// Whether a test of this name is asked for.
    fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter))
    }

    /// How many guests run at once. Each takes a little more than a processor, and 1 GiB for itself and as much for its peer.
    fn jobs(&self) -> usize {
        const MOST: usize = 4;
        let processors = || thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
        self.jobs.map_or_else(processors, NonZero::get)
    }
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let mut tally = Tally::default();
    let done = work::run(arguments.jobs(), |queue| tally = list(arguments, queue));
    tally.add(done);
    println!("took {}", human(started.elapsed()));
    tally.conclude();
    Ok(if tally.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts everything that is asked for into the queue, and does here what builds: guests start when nothing is built any more.
fn list<'a>(arguments: &'a Arguments, queue: Queue<'a>) -> Tally {
    type Suite = for<'a> fn(&'a Arguments) -> Result<Vec<Work<'a>>>;
    let mut tally = Tally::default();
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    // Long, and on one processor only: it begins first.
    if wanted(Part::Miri) {
        queue.put(Work::new("miri", || Ok(host::miri())));
    }
    if wanted(Part::Host) {
        tally.add(host::checks(arguments.filter.as_deref()));
    }
    if wanted(Part::Abi) {
        part(&mut tally, "abi", super::abi::check);
    }
    let mut works = Vec::new();
    let mut add = |name: &str, works_of: Result<Vec<Work<'a>>>| match works_of {
        Ok(more) => works.extend(more),
        Err(error) => tally.fail(format!("{name}: {error}")),
    };
    // The longest first: at the end a short one keeps the others waiting a short time.
    let suites: [(Part, &str, Suite); 6] = [
        (Part::Driver, "driver", driver::suite),
        (Part::Vm, "vm", guest::suite),
        (Part::Mlx4, "mlx4", mlx4::suite),
        (Part::Nodes, "nodes", nodes::suite),
        (Part::Cards, "cards", cards::suite),
        (Part::Vm, "vm bare", bare::suite),
    ];
    for (_, name, suite) in suites.into_iter().filter(|(part, ..)| wanted(*part)) {
        add(name, suite(arguments));
    }
    let tools = roce::Tools { c: wanted(Part::Mlx4), ours: wanted(Part::Driver) };
    if tools.c || tools.ours {
        add("roce", roce::suite(arguments, tools));
    }
    works.into_iter().for_each(|work| queue.put(work));
    tally
}

/// Options of our pingpong as C's takes them, which polls unless it is told `-e`.
fn of_c(options: &str) -> String {
    options.replace("--poll", "")
}

/// Counts a part; one that could not be done is one failure.
fn part(tally: &mut Tally, name: &str, run: impl FnOnce() -> Result<Tally>) {
    match run() {
        Ok(counted) => tally.add(counted),
        Err(error) => tally.fail(format!("{name}: {error}")),
    }
}
