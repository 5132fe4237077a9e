//! The suite of `tests/vm` in a guest with rxe: on each kernel, in both command encodings.

use std::time::Duration;

use super::programs::Programs;
use super::{Arguments, Depth, Work, libtest};
use crate::tally::Tally;
use crate::vm::{Guests, Kernel, Run, Vm};
use crate::{Result, process};

/// The command encodings that the library is held to, and the tests of each. Where a tool's own part begins, and where peers or devices
/// go away, all encodings are the same.
const ENCODINGS: [(&str, &str); 2] = [
    ("ioctl", ""),
    (
        "write",
        "asyncwatch:: datagrams:: devinfo:: memory:: opcodes:: queues:: srq:: pingpong::our pingpong::the_c pingpong::ways \
         faults::arguments faults::device_nodes faults::a_memlock",
    ),
];
/// For the whole suite in one encoding.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs the suite everywhere.
pub(super) fn suite<'a>(arguments: &'a Arguments, programs: &Programs) -> Result<Vec<Work<'a>>> {
    let mut list = Vec::new();
    for kernel in arguments.kernels() {
        let vm = programs.add(Vm::new(kernel.clone()).c_tools(true).lifetime(PATIENCE), "bareverbs")?;
        let vm = programs.add(vm, "vm")?;
        // A guest for each, so that a test that lost the device of one does not spoil the other.
        for (encoding, which) in ENCODINGS {
            let (vm, kernel) = (vm.clone(), kernel.clone());
            let place = format!("vm {kernel} {encoding}");
            let what = format!("the suite on rxe, commands by {encoding}");
            list.push(Work::new(place.clone(), what, move || {
                one(&vm, &kernel, &place, encoding, which, arguments)
            }));
        }
    }
    Ok(list)
}

fn one(
    vm: &Vm,
    kernel: &Kernel,
    place: &str,
    encoding: &str,
    which: &str,
    arguments: &Arguments,
) -> Result<Tally> {
    let guests = vm.boot()?;
    // A test that is named runs in both encodings.
    let which = arguments.filter.as_deref().unwrap_or(which);
    // rxe has no XRC: that is tested on the card.
    let mut tally = run(&guests, kernel, place, encoding, &format!("--skip=xsrq:: {which}"), arguments)?;
    tally.check(&format!("{place}: shutdown, kernel log"), guests.shutdown());
    Ok(tally)
}

/// Runs tests of the suite in guest 1, one after another, with commands in one encoding.
pub(super) fn run(
    guests: &Guests,
    kernel: &Kernel,
    place: &str,
    encoding: &str,
    which: &str,
    arguments: &Arguments,
) -> Result<Tally> {
    let words = ["/bin/vm", "--ignored", "--test-threads=1"];
    let mut run = Run::new(words.into_iter().chain(which.split_whitespace()))
        .env("BAREVERBS_ABI", encoding)
        .env("BAREVERBS_BIN", "/bin/bareverbs")
        .env("BAREVERBS_KERNEL", kernel.to_string())
        .timeout(PATIENCE);
    if arguments.depth(kernel) == Depth::Brief {
        run = run.env("BAREVERBS_BRIEF", "1");
    }
    if arguments.verbose {
        run = run.live();
    }
    let job = guests.node(1).spawn(run)?;
    let output = job.wait().inspect_err(|_| {
        // The last line names the test that the guest did not survive.
        println!("{}", process::last_lines(&job.stdout_so_far(), 20));
    })?;
    let mut tally = libtest::count(place, &output.text(), output.success(), arguments.filter.is_none());
    for (test, time) in libtest::times(output.lines_with_times()) {
        tally.took(format!("{place}: {test}"), time);
    }
    if !tally.good() && !arguments.verbose {
        println!("{}", process::last_lines(&output.stdout, 200));
        println!("{}", process::last_lines(&output.stderr, 60));
        println!("{place}: {}", output.ending());
    }
    Ok(tally)
}
