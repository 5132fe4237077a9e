//! The suite of `tests/vm.rs` in a guest: on each kernel, in both command encodings.

use std::time::{Duration, Instant};

use super::{Arguments, Work, libtest};
use crate::progress::human;
use crate::tally::Tally;
use crate::vm::{Guests, Kernel, Run, Vm};
use crate::{Result, cargo, process};

/// The command encodings that the library is told to keep to, and what is tried with each: where a tool's own part begins, and
/// where peers or devices go, encodings are all the same.
const ENCODINGS: [(&str, &str); 2] = [
    ("ioctl", ""),
    (
        "write",
        "asyncwatch:: datagrams:: devinfo:: opcodes:: queues:: srq:: pingpong::our pingpong::the_c pingpong::ways \
         faults::arguments faults::device_nodes faults::a_memlock",
    ),
];
/// For the whole suite in one encoding.
const PATIENCE: Duration = Duration::from_secs(420);

/// Runs the suite everywhere.
pub(super) fn suite(arguments: &Arguments) -> Result<Vec<Work<'_>>> {
    let tests =
        cargo::only(cargo::build(&["test", "--no-run", "--package", "bareverbs", "--test", "vm"])?, "vm")?;
    let binary = cargo::release_binary()?;
    let mut list = Vec::new();
    for kernel in arguments.kernels() {
        let vm = Vm::new(kernel.clone())
            .c_tools(true)
            .file(&tests, "/bin/vm")
            .file(&binary, "/bin/bareverbs")
            .lifetime(PATIENCE);
        // A guest for each, so that a test which left the one without its device does not spoil the other.
        for (encoding, which) in ENCODINGS {
            let (vm, kernel) = (vm.clone(), kernel.clone());
            let name = format!("vm {kernel} {encoding}");
            list.push(Work::new(name, move || one(&vm, &kernel, encoding, which, arguments)));
        }
    }
    Ok(list)
}

fn one(vm: &Vm, kernel: &Kernel, encoding: &str, which: &str, arguments: &Arguments) -> Result<Tally> {
    let guests = vm.boot()?;
    let mut tally = encoded(&guests, kernel, encoding, which, arguments)?;
    super::part(&mut tally, &format!("vm {kernel} {encoding}"), || {
        guests.shutdown().map(|()| Tally::default())
    });
    Ok(tally)
}

fn encoded(
    guests: &Guests,
    kernel: &Kernel,
    encoding: &str,
    which: &str,
    arguments: &Arguments,
) -> Result<Tally> {
    let started = Instant::now();
    // Who names a test wants it with both.
    let which = arguments.filter.as_deref().unwrap_or(which);
    // rxe has no XRC: that is tried on the card.
    let words = ["/bin/vm", "--ignored", "--test-threads=1", "--skip=xsrq::"];
    let mut run = Run::new(words.into_iter().chain(which.split_whitespace()))
        .env("BAREVERBS_ABI", encoding)
        .env("BAREVERBS_BIN", "/bin/bareverbs")
        .env("BAREVERBS_KERNEL", kernel.to_string())
        .timeout(PATIENCE);
    if arguments.verbose {
        run = run.live();
    }
    let place = format!("vm {kernel} {encoding}");
    let job = guests.node(1).spawn(run)?;
    let output = job.wait().inspect_err(|_| {
        // The last line names the test that the guest did not survive.
        println!("{}", process::last_lines(&job.stdout_so_far(), 20));
    })?;
    let tally = libtest::count(&place, &output.text(), output.success(), arguments.filter.is_none());
    if !tally.good() && !arguments.verbose {
        println!("{}", process::last_lines(&output.stdout, 200));
        println!("{}", process::last_lines(&output.stderr, 40));
        println!("{place}: {}", output.ending());
    }
    println!("{place}: {tally} ({})", human(started.elapsed()));
    Ok(tally)
}
