//! The checks that need no guest.

use std::process::Command;
use std::time::Instant;

use super::{api, libtest};
use crate::progress::{Progress, human};
use crate::tally::Tally;
use crate::{Result, cargo, process};

const OTHER_TARGET: &str = "aarch64-unknown-linux-musl";

/// Formatting, lints, tests, the other architecture.
pub(crate) fn checks(filter: Option<&str>) -> Tally {
    let mut tally = Tally::default();
    let lints: [(&str, &[&str]); 4] = [
        ("fmt", &["fmt", "--all", "--check"]),
        ("clippy", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        (
            "clippy, library alone",
            &["clippy", "--package", "bareverbs", "--lib", "--quiet", "--", "-D", "warnings"],
        ),
        (
            "clippy, the guest's init",
            &["clippy", "--package", "rdma-lab", "--no-default-features", "--quiet", "--", "-D", "warnings"],
        ),
    ];
    for (name, words) in lints {
        let result = quietly(name, cargo::cargo().args(words));
        tally.check(name, result.map(drop));
    }
    let docs = quietly(
        "doc",
        cargo::cargo()
            .args(["doc", "--workspace", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    );
    tally.check("doc", docs.map(drop));
    tally.check("public API", api::check());
    tally.add(tests(filter));
    let result = cargo::require_target(OTHER_TARGET).and_then(|()| {
        quietly(OTHER_TARGET, cargo::cargo().args(["check", "--quiet", "--target", OTHER_TARGET]))
    });
    tally.check(OTHER_TARGET, result.map(drop));
    tally
}

/// Plain `cargo test`, counted.
fn tests(filter: Option<&str>) -> Tally {
    let mut command = cargo::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).args(filter);
    harness("tests", &mut command, filter.is_none())
}

/// The ring code, with the mock of the kernel's side, under Miri.
pub(crate) fn miri() -> Tally {
    let ready = || -> Result<()> {
        let rustup = |words: &[&str]| process::output(Command::new("rustup").args(words));
        let installed =
            rustup(&["component", "list", "--installed", "--toolchain", "nightly"]).map_err(|_| {
                "no nightly toolchain: rustup toolchain install nightly --component miri,rust-src".to_owned()
            })?;
        if !installed.lines().any(|line| line.starts_with("miri")) {
            rustup(&["component", "add", "miri", "rust-src", "--toolchain", "nightly"])?;
        }
        Ok(())
    };
    if let Err(error) = ready() {
        let mut tally = Tally::default();
        tally.fail(format!("miri: {error}"));
        return tally;
    }
    // rustup's proxy picks the toolchain, which the path of the running cargo would not.
    let mut command = Command::new("cargo");
    command.current_dir(process::checkout()).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    // The kernel's side is played on the same memory through exposed addresses, as the kernel would reach it.
    command.env("MIRIFLAGS", "-Zmiri-permissive-provenance");
    let tests = ["provider::", "sys::region", "sys::slots", "sys::mmio"];
    command.args(["+nightly", "miri", "test", "--package", "bareverbs", "--lib", "--"]).args(tests);
    harness("miri", &mut command, true)
}

/// Runs a test harness and counts its tests.
fn harness(name: &str, command: &mut Command, must_run: bool) -> Tally {
    let progress = Progress::start(name);
    match process::run(command) {
        Ok(out) => {
            let text = String::from_utf8_lossy(&out.stdout);
            let tally = libtest::count(name, &text, out.status.success(), must_run);
            if !tally.good() {
                println!("{text}");
                println!("{}", process::last_lines(&out.stderr, 30));
            }
            progress.done(&tally.to_string());
            tally
        }
        Err(error) => {
            let mut tally = Tally::default();
            tally.fail(format!("{name}: {error}"));
            tally
        }
    }
}

/// Runs a check whose output matters only if it fails.
fn quietly(name: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    let out = process::run(command)?;
    let taken = human(started.elapsed());
    if out.status.success() {
        println!("{name}: ok ({taken})");
        return Ok(());
    }
    println!("{}", String::from_utf8_lossy(&out.stdout));
    println!("{}", String::from_utf8_lossy(&out.stderr));
    Err(format!("failed, see above ({taken})"))
}
