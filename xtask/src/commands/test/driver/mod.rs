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

/// Runs everything on the first kernel, with `--full` on each; operations, services and faults on every kernel.
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
    let depth = checks.depth();
    tools::devinfo(checks);
    tools::encodings(checks);
    pingpong::ours(checks, &pingpong::INFINIBAND);
    rping::ours(checks, &rping::IPOIB);
    if depth != Depth::Brief {
        tools::doctor(checks);
        tools::more_pingpongs(checks);
        tools::asyncwatch(checks);
        calls::none_of_a_polled_iteration(checks);
        let (seeds, ops) = if depth == Depth::Full { (10, 1000) } else { (3, 500) };
        scripts::random(checks, seeds, ops);
        examples::quiet(checks, &examples::CONNECTX);
    }
    let auto = match depth {
        Depth::Brief => library::BRIEF,
        Depth::Wide => library::CONNECTX3,
        Depth::Full => library::CONNECTX3_FULL,
    };
    library::suite(checks, arguments, "auto", auto);
    let write = if depth == Depth::Brief { library::BRIEF_BY_WRITE } else { library::BY_WRITE };
    library::suite(checks, arguments, "write", write);
    library::suite(checks, arguments, "ioctl", library::BY_IOCTL);
    checks.nothing_is_left(2);
}

fn connectx2(checks: &mut Checks<'_>, arguments: &Arguments) {
    let depth = checks.depth();
    if depth != Depth::Brief {
        transcript::reference(checks);
        let (seeds, ops) = if depth == Depth::Full { (2, 500) } else { (1, 300) };
        scripts::random(checks, seeds, ops);
        library::suite(checks, arguments, "auto", library::CONNECTX2);
        examples::loud(checks, &examples::CONNECTX);
    }
    faults::all(checks);
}
