//! `cargo xtask test`: everything that must hold, from formatting to every kernel.
//!
//! | file | what it checks |
//! |---|---|
//! | [`ready`] | that this machine has what the rest needs |
//! | [`host`] | formatting, lints, unit and golden tests, the other architecture, Miri |
//! | [`guest`], [`nodes`], [`bare`] | rxe: in one guest, between two, and a guest without any RDMA |
//! | [`siw`] | iWARP in a guest |
//! | [`driver`], [`roce`] | our driver and tools on emulated ConnectX cards, on InfiniBand and on Ethernet |
//! | [`judges`] | the emulator itself, by stock drivers, rdma-core and perftest |
//!
//! They are built from [`work`] (what runs at the same time), [`checks`] (the checks of one boot), [`pair`] (a server and a client),
//! [`pingpong`], [`rping`] and [`examples`].

mod api;
mod bare;
mod checks;
mod driver;
mod examples;
mod guest;
mod host;
mod judges;
mod libtest;
mod nodes;
mod packages;
mod pair;
mod pingpong;
mod programs;
mod ready;
mod roce;
mod rping;
mod siw;
mod work;

use std::num::NonZero;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use clap::{Parser, ValueEnum};

use self::programs::Programs;
use self::work::{Queue, Work};
use crate::Result;
use crate::tally::Tally;
use crate::vm::Kernel;

/// A part of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Formatting, clippy, unit and golden tests, the other architecture
    Host,
    /// Structures and numbers against the kernel's headers
    Abi,
    /// The code that shares memory with the kernel and devices, under Miri
    Miri,
    /// The suite in a guest with rxe, on each kernel, in both command encodings; a guest without RDMA
    Vm,
    /// iWARP: the operations and the tools in a guest with siw, on one kernel (on each with --full)
    Siw,
    /// Pingpong and rping between two guests with rxe, on each kernel
    Nodes,
    /// The emulator's own judges: faults on request under the kernel's driver, on each kernel
    Cards,
    /// The emulator's own judges: rdma-core's tools, perftest and the verbs checker, on each kernel
    Mlx4,
    /// Our driver for ConnectX on the emulated cards, beside rdma-core's, on each kernel
    Driver,
}

/// What a run without `--full` checks on no kernel.
const LEFT_OUT_EVERYWHERE: &[(Part, &str)] = &[
    (Part::Host, "unit tests of the library, the tools and the emulator with the host's own C library"),
    (
        Part::Vm,
        "the release binary in guests: they run one that is built faster and has all debug assertions",
    ),
    (
        Part::Nodes,
        "every pingpong option in every pairing between two guests with rxe: all but the plain runs have one pairing there",
    ),
    (Part::Driver, "every pingpong option of ConnectX both in one guest and between two: they alternate"),
    (
        Part::Driver,
        "every pingpong option and persistent rping servers on Ethernet; persistent ones on IP over InfiniBand",
    ),
    (
        Part::Driver,
        "10 random scripts of 1000 requests on ConnectX-3, 2 of 500 on ConnectX-2: 3 of 500 and 1 of 300 run",
    ),
    (Part::Siw, "rping -q over iWARP"),
    (Part::Driver, "on ConnectX, the tests of rping's and pingpong's output and odd peers, which rxe has"),
];

/// What a run without `--full` checks on the first kernel only.
const LEFT_OUT_OF_BRIEF_KERNELS: &[(Part, &str)] = &[
    (Part::Vm, "asyncwatch, doctor, link, odd peers, every option of the tools, RDMA-CM beyond a connection"),
    (Part::Vm, "a guest without RDMA"),
    (Part::Nodes, "two guests with rxe, and the examples"),
    (
        Part::Driver,
        "every option of the pingpongs, random scripts, the examples, asyncwatch, doctor, RDMA-CM on ConnectX",
    ),
    (Part::Driver, "ConnectX-2's transcript and completions; cards on Ethernet"),
    (Part::Mlx4, "rdma-core's tools, perftest and the checker on the emulator"),
    (Part::Cards, "faults under the kernel's own driver"),
];

/// How much of the matrix of options, pairings and guests is checked on a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Each service once in each pairing.
    Brief,
    /// Every option in every pairing, alternately in one guest and between two.
    Wide,
    /// Every option in every pairing, in one guest and between two.
    Full,
}

/// Run every check; the last line is `N passed, N failed`.
///
/// Without --full, the first kernel has every option; the others have all operations, faults and encodings, and each service once in each
/// pairing. The emulator's own judges run on the first kernel, unless they passed before with this emulator and this kernel. The end of
/// the output lists what was not checked.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// The whole matrix on every kernel, with the release binary
    #[arg(long)]
    full: bool,
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
    /// Show the guest tests' output as it comes, and the time of each check
    #[arg(long)]
    verbose: bool,
}

impl Arguments {
    fn kernels(&self) -> Vec<Kernel> {
        if self.kernel.is_empty() { Kernel::lines() } else { self.kernel.clone() }
    }

    /// The kernels of what one kernel is enough for without `--full`.
    fn first_kernel(&self) -> Vec<Kernel> {
        let mut kernels = self.kernels();
        if !self.full {
            kernels.truncate(1);
        }
        kernels
    }

    fn depth(&self, kernel: &Kernel) -> Depth {
        match self.kernels().first() {
            _ if self.full => Depth::Full,
            Some(first) if first == kernel => Depth::Wide,
            _ => Depth::Brief,
        }
    }

    fn wants_part(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Whether a part is asked for by its name.
    fn names_part(&self, part: Part) -> bool {
        self.only.contains(&part)
    }

    /// Whether a test of this name is asked for.
    fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter))
    }

    /// How many guests run at once. Each takes about one processor, and 1 GiB for itself and as much for its peer.
    fn jobs(&self) -> usize {
        const MOST: usize = 4;
        let processors = || thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
        self.jobs.map_or_else(processors, NonZero::get)
    }

    /// Adds what a run without `--full` does not check.
    fn say_what_is_brief(&self, tally: &mut Tally) {
        if self.full {
            return;
        }
        for (part, what) in LEFT_OUT_EVERYWHERE {
            if self.wants_part(*part) {
                tally.leave_out(format!("{what}; --full does"));
            }
        }
        let brief: Vec<String> = self.kernels().iter().skip(1).map(Kernel::to_string).collect();
        if brief.is_empty() {
            return;
        }
        for (part, what) in LEFT_OUT_OF_BRIEF_KERNELS {
            if self.wants_part(*part) {
                tally.leave_out(format!("on {}: {what}; --full does", brief.join(", ")));
            }
        }
    }
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let mut tally = Tally::default();
    let missing = ready::missing(arguments);
    if missing.is_empty() {
        let done = work::run(arguments.jobs(), |queue| tally = list(arguments, queue));
        tally.add(done);
        if let Some(filter) = arguments.filter.as_ref().filter(|_| tally.is_empty()) {
            tally.fail(format!("no test has {filter:?} in its name (--full has more of them)"));
        }
        arguments.say_what_is_brief(&mut tally);
    }
    missing.into_iter().for_each(|what| tally.fail(what));
    tally.conclude(Some(started.elapsed()));
    Ok(if tally.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts everything that is asked for into the queue, and runs cargo in the meantime.
///
/// Miri runs while the guests' programs are built, the checks that need no guest while guests run. All of them use cargo, which
/// locks its folder, so one follows the other here, and none takes a worker from the guests.
fn list<'a>(arguments: &'a Arguments, queue: Queue<'a>) -> Tally {
    let mut tally = Tally::default();
    if arguments.wants_part(Part::Miri) {
        queue.put(host::miri());
    }
    guests(arguments, &queue, &mut tally);
    drop(queue);
    if arguments.wants_part(Part::Host) {
        // Some depend on time, so they do not have to wait for guests as the others below.
        host::tests(arguments).into_iter().for_each(|work| tally.add(work.run()));
    }
    work::give_way();
    if arguments.wants_part(Part::Host) {
        host::lints().into_iter().for_each(|work| tally.add(work.run()));
        let what = "the files, metadata and documentation of each package, and a build from it";
        tally.add(Work::new("packages", what, || Ok(packages::checks())).run());
        tally.add(host::loom().run());
    }
    if arguments.wants_part(Part::Abi) {
        let what = "structures and numbers against the kernel's headers";
        tally.add(Work::new("abi", what, super::abi::check).run());
    }
    tally
}

/// Builds what the guests run, and puts the wanted checks in guests into the queue.
fn guests<'a>(arguments: &'a Arguments, queue: &Queue<'a>, tally: &mut Tally) {
    type Suite = for<'a> fn(&'a Arguments, &Programs) -> Result<Vec<Work<'a>>>;
    // The longest first: at the end, the others wait for a short one only.
    let suites: [(&[Part], &str, Suite); 8] = [
        (&[Part::Driver], "driver", driver::suite),
        (&[Part::Mlx4], "mlx4", judges::mlx4),
        (&[Part::Vm], "vm", guest::suite),
        (&[Part::Driver, Part::Mlx4], "roce", roce::suite),
        (&[Part::Nodes], "nodes", nodes::suite),
        (&[Part::Siw], "siw", siw::suite),
        (&[Part::Cards], "cards", judges::cards),
        (&[Part::Vm], "vm bare", bare::suite),
    ];
    let wanted = |parts: &[Part]| parts.iter().any(|part| arguments.wants_part(*part));
    let mut suites = suites.into_iter().filter(|(parts, ..)| wanted(parts)).peekable();
    if suites.peek().is_none() {
        return;
    }
    let programs = match Programs::build(arguments) {
        Ok(programs) => programs,
        Err(error) => {
            tally.fail(format!("programs for the guests: {error}"));
            return;
        }
    };
    for (_, name, suite) in suites {
        match suite(arguments, &programs) {
            Ok(works) => works.into_iter().for_each(|work| queue.put(work)),
            Err(error) => tally.fail(format!("{name}: {error}")),
        }
    }
}

/// Adds the counts of a part; one that could not be done is one failure.
fn part(tally: &mut Tally, name: &str, run: impl FnOnce() -> Result<Tally>) {
    match run() {
        Ok(counted) => tally.add(counted),
        Err(error) => tally.fail(format!("{name}: {error}")),
    }
}
