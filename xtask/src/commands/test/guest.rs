//! The suite of `tests/vm` in a guest with rxe: on each kernel, in both command encodings, one after the other.

use std::time::Duration;

use super::checks::Checks;
use super::programs::Programs;
use super::{Arguments, Depth, Work, libtest};
use crate::tally::Tally;
use crate::vm::{Guests, Kernel, Run, Vm};
use crate::{Result, process};

/// An encoding of commands, and the tests of the suite that are run with it.
struct Encoding {
    name: &'static str,
    /// Every test, or all those whose result may depend on the encoding.
    tests: &'static str,
    /// What a kernel is held to that is checked in brief: operations, queues, memory, faults, and each service of the tools once in
    /// each pairing.
    brief: &'static str,
}

/// The encodings that the library is held to. Where a tool's own part begins, and where peers or devices go away, all encodings are the
/// same.
const ENCODINGS: [Encoding; 2] = [
    Encoding {
        name: "ioctl",
        tests: "",
        brief: "opcodes:: queues:: srq:: datagrams:: memory:: faults:: fork:: cm:: devinfo::output pingpong::our pingpong::the_c \
                pingpong::uc_ud_srq pingpong::on_demand rping::our rping::the_c",
    },
    Encoding {
        name: "write",
        tests: "asyncwatch:: datagrams:: devinfo:: memory:: opcodes:: queues:: srq:: pingpong::our pingpong::the_c pingpong::ways \
                faults::arguments faults::device_nodes faults::a_memlock",
        brief: "opcodes:: queues:: srq:: datagrams:: memory:: asyncwatch:: faults::arguments faults::device_nodes \
                faults::a_memlock",
    },
];
/// For the whole suite in one encoding.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs the suite everywhere.
pub(super) fn suite<'a>(arguments: &'a Arguments, programs: &Programs) -> Result<Vec<Work<'a>>> {
    let mut list = Vec::new();
    for kernel in arguments.kernels() {
        let lifetime = PATIENCE * ENCODINGS.len() as u32;
        let vm = programs.add(Vm::new(kernel.clone()).c_tools(true).lifetime(lifetime), "bareverbs")?;
        let vm = programs.add(vm, "vm")?;
        let place = format!("vm {kernel}");
        let what = "the suite on rxe, commands by ioctl, then by write";
        list.push(Work::new(place.clone(), what, move || {
            let mut checks = Checks::new(&vm, &kernel, &place, arguments);
            for encoding in &ENCODINGS {
                checks.suite("suite", |guests| one(guests, &kernel, &place, encoding, arguments));
            }
            checks.nothing_is_left(1);
            Ok(checks.finish())
        }));
    }
    Ok(list)
}

fn one(
    guests: &Guests,
    kernel: &Kernel,
    place: &str,
    encoding: &Encoding,
    arguments: &Arguments,
) -> Result<Tally> {
    let place = format!("{place} {}", encoding.name);
    let which = if arguments.depth(kernel) == Depth::Brief { encoding.brief } else { encoding.tests };
    // A test that is named runs in both encodings.
    let which = arguments.filter.as_deref().unwrap_or(which);
    // rxe has no XRC, which is tested on the card, and siw has a guest of its own.
    let which = format!("--skip=xsrq:: --skip=siw:: {which}");
    run(guests, kernel, &place, encoding.name, &which, arguments)
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
