//! The suites of `tests/vm*.rs` in a guest: on each kernel, in both command encodings.

use std::time::{Duration, Instant};

use super::{Arguments, libtest};
use crate::progress::human;
use crate::tally::Tally;
use crate::vm::{Guests, Kernel, Run, Vm};
use crate::{Result, cargo, process};

/// The command encodings that the library is told to keep to.
const ENCODINGS: [&str; 2] = ["ioctl", "write"];
/// For one suite in one encoding.
const PATIENCE: Duration = Duration::from_secs(420);

/// Runs the suites everywhere.
pub(crate) fn suite(arguments: &Arguments) -> Result<Tally> {
    let suites = cargo::build(&["test", "--no-run", "--package", "bareverbs", "--test", "vm*"])?;
    let suites: Vec<_> = suites.into_iter().filter(|(name, _)| name.starts_with("vm")).collect();
    let binary = cargo::release_binary()?;
    let mut tally = Tally::default();
    for kernel in arguments.kernels() {
        let mut vm = Vm::new(kernel.clone())
            .c_tools(true)
            .file(&binary, "/bin/bareverbs")
            .lifetime(PATIENCE * (ENCODINGS.len() * suites.len()) as u32);
        for (name, path) in &suites {
            vm = vm.file(path, format!("/bin/{name}"));
        }
        let names: Vec<&str> = suites.iter().map(|(name, _)| name.as_str()).collect();
        super::part(&mut tally, &format!("vm {kernel}"), || one(&vm, &kernel, &names, arguments));
    }
    Ok(tally)
}

fn one(vm: &Vm, kernel: &Kernel, suites: &[&str], arguments: &Arguments) -> Result<Tally> {
    let guests = vm.boot()?;
    let mut tally = Tally::default();
    for encoding in ENCODINGS {
        for suite in suites {
            tally.add(encoded(&guests, kernel, suite, encoding, arguments)?);
        }
    }
    super::part(&mut tally, &format!("vm {kernel}"), || guests.shutdown().map(|()| Tally::default()));
    Ok(tally)
}

fn encoded(
    guests: &Guests,
    kernel: &Kernel,
    suite: &str,
    encoding: &str,
    arguments: &Arguments,
) -> Result<Tally> {
    let started = Instant::now();
    let program = format!("/bin/{suite}");
    let words =
        [program.as_str(), "--ignored", "--test-threads=1"].into_iter().chain(arguments.filter.as_deref());
    let mut run = Run::new(words)
        .env("BAREVERBS_ABI", encoding)
        .env("BAREVERBS_BIN", "/bin/bareverbs")
        .env("BAREVERBS_KERNEL", kernel.to_string())
        .timeout(PATIENCE);
    if arguments.verbose {
        run = run.live();
    }
    let output = guests.node(1).run(run)?;
    let place = format!("{suite} {kernel} {encoding}");
    let tally = libtest::count(&place, &output.text(), output.success(), arguments.filter.is_none());
    if !tally.good() && !arguments.verbose {
        println!("{}", process::last_lines(&output.stdout, 200));
        println!("{}", process::last_lines(&output.stderr, 40));
        println!("{place}: {}", output.ending());
    }
    println!("{place}: {tally} ({})", human(started.elapsed()));
    Ok(tally)
}
