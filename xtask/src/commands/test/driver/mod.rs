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
use super::pair::words;
use super::programs::Programs;
use super::{Arguments, Depth, Work, examples, pingpong, rping};
use crate::vm::{Mlx4, Vm};
use crate::{Result, checker};

/// Runs everything on every kernel.
pub(super) fn suite<'a>(arguments: &'a Arguments, programs: &Programs) -> Result<Vec<Work<'a>>> {
    let mut list = Vec::new();
    for kernel in arguments.kernels() {
        let mut vm = Vm::new(kernel.clone()).nodes(2).c_tools(true).lifetime(Duration::from_secs(900));
        for name in ["bareverbs", "vm", checker::NAME] {
            vm = programs.add(vm, name)?;
        }
        let vm = examples::add(vm, programs)?;
        let mut on = |place: String, what: &str, vm: Vm, run: fn(&mut Checks<'_>, &Arguments)| {
            let kernel = kernel.clone();
            list.push(Work::new(place.clone(), what, move || {
                let mut checks = Checks::new(&vm, &kernel, &place, arguments);
                run(&mut checks, arguments);
                Ok(checks.finish())
            }));
        };
        let newer = vm.clone().mlx4(Mlx4::default());
        on(format!("ours on mlx4 {kernel}"), "our tools and library on ConnectX-3", newer, connectx3);
        let older = vm.mlx4(Mlx4::default().connectx2().faults());
        on(
            format!("ours on ConnectX-2 {kernel}"),
            "the same on ConnectX-2, and faults on request",
            older,
            connectx2,
        );
    }
    Ok(list)
}

fn connectx3(checks: &mut Checks<'_>, arguments: &Arguments) {
    let brief = checks.depth() == Depth::Brief;
    tools::devinfo(checks);
    tools::encodings(checks);
    tools::doctor(checks);
    pingpong::ours(checks, &pingpong::INFINIBAND);
    tools::more_pingpongs(checks);
    tools::asyncwatch(checks);
    rping::ours(checks, &rping::IPOIB);
    calls::none_of_a_polled_iteration(checks);
    let seeds = if brief { 3 } else { 10 };
    scripts::random(checks, seeds, 1000);
    examples::quiet(checks, &examples::CONNECTX);
    library::suite(checks, arguments, "auto", library::CONNECTX3);
    library::suite(checks, arguments, "write", library::BY_WRITE);
    library::suite(checks, arguments, "ioctl", library::BY_IOCTL);
    checks.nothing_is_left(2);
}

fn connectx2(checks: &mut Checks<'_>, arguments: &Arguments) {
    transcript::reference(checks);
    scripts::random(checks, 2, 500);
    library::suite(checks, arguments, "auto", library::CONNECTX2);
    examples::loud(checks, &examples::CONNECTX);
    faults::all(checks);
}
