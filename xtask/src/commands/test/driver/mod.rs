//! bareverbs on the emulated ConnectX card: its tools beside rdma-core's, in one guest and between two, and its suite.
//!
//! The card is strict: what a driver may not do fails the run, whatever the tools said. A family of checks is a file with a
//! function that takes [`Checks`].

mod calls;
mod examples;
mod faults;
mod library;
mod scripts;
mod tools;
mod transcript;

use std::time::{Duration, Instant};

use super::{Arguments, Work};
use crate::progress::human;
use crate::tally::Tally;
use crate::vm::{Guests, Kernel, Mlx4, Run, Vm};
use crate::{Result, cargo, checker};

/// The TCP port of the pingpongs' exchange.
const PORT: u16 = 18515;
/// For one pair, and for the suite, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Guests that run, and what was found in them so far.
struct Checks<'a> {
    guests: &'a Guests,
    kernel: &'a Kernel,
    /// What the names of the checks begin with.
    place: &'a str,
    filter: Option<&'a str>,
    tally: Tally,
}

impl Checks<'_> {
    fn wants(&self, name: &str) -> bool {
        self.filter.is_none_or(|filter| name.contains(filter))
    }

    /// Runs and counts a check, unless the command line names others.
    fn check(&mut self, name: &str, run: impl FnOnce(&Guests) -> Result<()>) {
        let name = format!("{}: {name}", self.place);
        if self.wants(&name) {
            self.tally.check(&name, run(self.guests));
        }
    }

    /// The same for a check that has parts.
    fn part(&mut self, name: &str, run: impl FnOnce(&Guests) -> Result<Tally>) {
        let name = format!("{}: {name}", self.place);
        if self.wants(&name) {
            super::part(&mut self.tally, &name, || run(self.guests));
        }
    }
}

/// Runs everything on every kernel.
pub(super) fn suite(arguments: &Arguments) -> Result<Vec<Work<'_>>> {
    let tests =
        cargo::only(cargo::build(&["test", "--no-run", "--package", "bareverbs", "--test", "vm"])?, "vm")?;
    let binary = cargo::release_binary()?;
    let player = cargo::release_example("script_player")?;
    let judge = checker::build()?;
    let examples = examples::build()?;
    let filter = arguments.filter.as_deref();
    let mut list = Vec::new();
    for kernel in arguments.kernels() {
        let vm = Vm::new(kernel.clone())
            .c_tools(true)
            .file(&tests, "/bin/vm")
            .file(&binary, "/bin/bareverbs")
            .file(&player, "/bin/script_player")
            .file(&judge, format!("/bin/{}", checker::NAME))
            .lifetime(Duration::from_secs(900));
        let vm = examples.iter().fold(vm, |vm, (name, path)| vm.file(path, examples::place(name)));
        let mut on = |place: String, vm: Vm, run: fn(&mut Checks<'_>)| {
            let kernel = kernel.clone();
            list.push(Work::new(place.clone(), move || boot(&kernel, &place, filter, &vm, run)));
        };
        on(format!("ours on mlx4 {kernel}"), vm.clone().nodes(2).mlx4(Mlx4::default()), |checks| {
            tools::devinfo(checks);
            tools::doctor(checks);
            tools::pingpongs(checks);
            tools::asyncwatch(checks);
            tools::rping(checks);
            calls::none_of_a_polled_iteration(checks);
            scripts::random(checks, 10, 1000);
            examples::quiet(checks);
            library::suite(checks, library::CONNECTX3);
        });
        let older = Mlx4::default().connectx2().faults();
        on(format!("ours on ConnectX-2 {kernel}"), vm.nodes(2).mlx4(older), |checks| {
            transcript::reference(checks);
            scripts::random(checks, 2, 500);
            library::suite(checks, library::CONNECTX2);
            examples::loud(checks);
            faults::all(checks);
        });
    }
    // Who names a place wants no other.
    if list.iter().any(|work| arguments.wants(work.name())) {
        list.retain(|work| arguments.wants(work.name()));
    }
    Ok(list)
}

/// Boots guests for some checks and shuts them down; the kernels' logs and the emulator's exit code count too.
fn boot(
    kernel: &Kernel,
    place: &str,
    filter: Option<&str>,
    vm: &Vm,
    run: fn(&mut Checks<'_>),
) -> Result<Tally> {
    let started = Instant::now();
    let guests = vm.boot()?;
    let mut checks = Checks { guests: &guests, kernel, place, filter, tally: Tally::default() };
    run(&mut checks);
    let mut tally = checks.tally;
    super::part(&mut tally, place, || guests.shutdown().map(|()| Tally::default()));
    println!("{place}: {tally} ({})", human(started.elapsed()));
    Ok(tally)
}

/// A command line in words.
fn words(line: &str) -> Run {
    Run::new(line.split_whitespace()).timeout(PATIENCE)
}
