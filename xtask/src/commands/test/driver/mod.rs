//! bareverbs on the emulated ConnectX card: its tools beside rdma-core's, in one guest and between two, and its suite.
//!
//! The card is strict: what a driver may not do fails the run, whatever the tools said. A family of checks is a file with a
//! function that takes [`Checks`].

mod calls;
mod faults;
mod library;
mod scripts;
mod tools;
mod transcript;

use std::time::Duration;

use super::checks::Checks;
use super::{Arguments, Work, examples};
use crate::vm::{Mlx4, Run, Vm};
use crate::{Result, cargo, checker};

/// The TCP port of the pingpongs' exchange.
const PORT: u16 = 18515;
/// For one pair, and for the suite, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs everything on every kernel.
pub(super) fn suite(arguments: &Arguments) -> Result<Vec<Work<'_>>> {
    let tests =
        cargo::only(cargo::build(&["test", "--no-run", "--package", "bareverbs", "--test", "vm"])?, "vm")?;
    let binary = cargo::release_binary()?;
    let player = cargo::release_example("script_player")?;
    let judge = checker::build()?;
    let examples = examples::build()?;
    let mut list = Vec::new();
    for kernel in arguments.kernels() {
        let vm = Vm::new(kernel.clone())
            .c_tools(true)
            .file(&tests, "/bin/vm")
            .file(&binary, "/bin/bareverbs")
            .file(&player, "/bin/script_player")
            .file(&judge, format!("/bin/{}", checker::NAME))
            .lifetime(Duration::from_secs(900));
        let vm = examples::add(vm, &examples);
        let mut on = |place: String, vm: Vm, run: fn(&mut Checks<'_>)| {
            let kernel = kernel.clone();
            list.push(Work::new(place.clone(), move || {
                let mut checks = Checks::new(&vm, &kernel, &place, arguments);
                run(&mut checks);
                checks.finish()
            }));
        };
        on(format!("ours on mlx4 {kernel}"), vm.clone().nodes(2).mlx4(Mlx4::default()), |checks| {
            tools::devinfo(checks);
            tools::encodings(checks);
            tools::doctor(checks);
            tools::pingpongs(checks);
            tools::asyncwatch(checks);
            tools::rping(checks);
            calls::none_of_a_polled_iteration(checks);
            scripts::random(checks, 10, 1000);
            examples::quiet(checks, &examples::CONNECTX);
            library::suite(checks, "auto", library::CONNECTX3);
            library::suite(checks, "write", library::BY_WRITE);
            library::suite(checks, "ioctl", library::BY_IOCTL);
            checks.nothing_is_left(2);
        });
        let older = Mlx4::default().connectx2().faults();
        on(format!("ours on ConnectX-2 {kernel}"), vm.nodes(2).mlx4(older), |checks| {
            transcript::reference(checks);
            scripts::random(checks, 2, 500);
            library::suite(checks, "auto", library::CONNECTX2);
            examples::loud(checks, &examples::CONNECTX);
            faults::all(checks);
        });
    }
    Ok(list)
}

/// A command line in words.
fn words(line: &str) -> Run {
    Run::new(line.split_whitespace()).timeout(PATIENCE)
}
