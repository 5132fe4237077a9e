//! The checks that need no guest.

use std::process::Command;

use super::{Arguments, Work, api, libtest};
use crate::tally::Tally;
use crate::{Result, cargo, process};

/// The architecture that is compiled and not run.
pub(super) const OTHER_TARGET: &str = "aarch64-unknown-linux-musl";

/// The target of programs for this machine, on which everything but aarch64's check build depends.
const HOST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// What Miri runs: all tests of code that shares memory with the kernel or a device.
const MIRI_TESTS: [&str; 5] = ["provider::", "sys::copy", "sys::region", "sys::slots", "sys::mmio"];

/// cargo's checks, each with a few words on what it is for.
const CARGO: [(&str, &str, &[&str]); 5] = [
    ("fmt", "formatting", &["fmt", "--all", "--check"]),
    ("clippy", "lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
    (
        "clippy, library alone",
        "lints with the features that the library asks for itself",
        &["clippy", "--package", "bareverbs", "--lib", "--quiet", "--", "-D", "warnings"],
    ),
    (
        "clippy, the guest's init",
        "lints of the program that runs as process 1 in guests",
        &["clippy", "--package", "rdma-lab", "--no-default-features", "--quiet", "--", "-D", "warnings"],
    ),
    (OTHER_TARGET, "a check build for another architecture", &["check", "--quiet", "--target", OTHER_TARGET]),
];

/// Formatting, lints, the other architecture.
pub(super) fn lints() -> Vec<Work<'static>> {
    let work = |(name, what, words): (&'static str, &str, &'static [&str])| {
        Work::new(name, what, move || {
            let mut tally = Tally::default();
            tally.check(name, quietly(cargo::cargo().args(words)));
            Ok(tally)
        })
    };
    let api = Work::new("public API", "no types of other crates in the library's public API", || {
        let mut tally = Tally::default();
        tally.check("public API", api::check());
        Ok(tally)
    });
    CARGO.into_iter().map(work).chain([api]).collect()
}

/// The unit and golden tests, counted.
///
/// With `--full` they are those of plain `cargo test`. Otherwise the tests of what runs in guests are built like the guests' programs,
/// and the others like this program, so that no crate is built twice.
pub(super) fn tests(arguments: &Arguments) -> Vec<Work<'_>> {
    let work = |name: &'static str, what: &'static str, command: fn() -> Command| {
        Work::new(name, what, move || {
            harness(name, command().args(&arguments.filter), arguments.filter.is_none())
        })
    };
    if arguments.full {
        return vec![work("tests", "unit and golden tests of every package", || {
            let mut command = cargo::cargo();
            command.args(["test", "--workspace", "--features", "bareverbs/serde", "--no-fail-fast"]);
            command
        })];
    }
    vec![
        work("tests", "unit and golden tests of the library, the tools and the emulator", || {
            let mut command = cargo::for_guests(&["test", "--no-fail-fast"]);
            command.args(cargo::GUEST_PACKAGES);
            command
        }),
        work("tests of the lab", "unit tests of the lab and of these commands", || {
            let mut command = cargo::cargo();
            command.args(["test", "--package", "xtask", "--package", "rdma-lab", "--no-fail-fast"]);
            command.args(["--no-default-features", "--features", "rdma-lab/host"]);
            command
        }),
    ]
}

/// Every interleaving of the threads that share memory without locks.
pub(super) fn loom() -> Work<'static> {
    Work::new("loom", "interleavings of threads that share queues without locks", || {
        let mut command = cargo::cargo();
        // For a named target the flags do not apply to build scripts and macros, which are built already.
        command.env("RUSTFLAGS", "--cfg bareverbs_loom").args(["test", "--target", HOST_TARGET]);
        command.args(["--package", "bareverbs", "--lib", "loom_tests"]);
        harness("loom", &mut command, true)
    })
}

/// The tests of memory that is shared with the kernel or a device, whose side a mock plays, under Miri.
pub(super) fn miri() -> Work<'static> {
    Work::new("miri", "code that shares memory with the kernel and devices", || {
        // rustup's proxy chooses the toolchain, which the path of the running cargo would not.
        let mut command = Command::new("cargo");
        command
            .current_dir(process::checkout())
            .env_remove("CARGO")
            .env_remove("RUSTUP_TOOLCHAIN")
            .arg("+nightly");
        // The mocks reach the same memory through exposed addresses, as the kernel and a device would.
        command.env("MIRIFLAGS", "-Zmiri-permissive-provenance").args(["miri", "test"]);
        command.args(["--package", "bareverbs", "--lib", "--"]).args(MIRI_TESTS);
        harness("miri", &mut command, true)
    })
}

/// Runs a test harness and counts its tests.
fn harness(name: &str, command: &mut Command, must_run: bool) -> Result<Tally> {
    let out = process::run(command)?;
    let text = String::from_utf8_lossy(&out.stdout);
    let tally = libtest::count(name, &text, out.status.success(), must_run);
    if !tally.good() {
        println!("{text}");
        println!("{}", process::last_lines(&out.stderr, 30));
    }
    Ok(tally)
}

/// Runs a check whose output matters only if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let out = process::run(command)?;
    if out.status.success() {
        return Ok(());
    }
    println!("{}", String::from_utf8_lossy(&out.stdout));
    println!("{}", String::from_utf8_lossy(&out.stderr));
    Err("failed, see above".into())
}
