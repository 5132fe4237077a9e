//! Our driver for ConnectX beside libmlx4, in the same guest on the emulated card.

use std::path::Path;
use std::time::Duration;

use super::Results;
use super::measure::{CALLGRIND, Side, instructions, words};
use super::table::{Bound, Row};
use crate::vm::{Guests, Kernel, Mlx4, Vm};
use crate::{Result, cargo, checker, process};

/// What is posted: the programs' word for it, how it is called, and how many requests it is.
const MODES: [(&str, &str, f64); 4] = [
    ("inline", "send of 64 B, inline", 1.0),
    ("send", "send of 4 KiB", 1.0),
    ("recv", "post_recv", 1.0),
    ("batch", "send of 4 KiB, 16 a doorbell", 16.0),
];

/// What of libmlx4's instructions ours may take.
const BOUND: f64 = 0.6;

/// All rows, in a guest of two processors; instructions only where `counts`.
pub(super) fn rows(
    kernel: &Kernel,
    binary: &Path,
    counts: bool,
    repeat: u32,
    results: &mut Results,
) -> Result<()> {
    let place = format!("{kernel}, mlx4");
    let guests = Vm::new(kernel.clone())
        .c_tools(true)
        .mlx4(Mlx4::default())
        .file(binary, "/bin/bareverbs")
        .file(cargo::release_example("posting")?, "/bin/posting")
        .file(
            checker::compile("posting", &[process::checkout().join("tests/c/posting.c")], "-O2")?,
            "/bin/posting-c",
        )
        .lifetime(Duration::from_secs(3600))
        .boot()?;
    if counts {
        for (mode, name, requests) in MODES {
            let what = format!("user instructions, {name}");
            let row = posted(&guests, Side::C, mode).and_then(|c| {
                let ours = posted(&guests, Side::Ours, mode)?;
                Ok(Row::new(&what, &place, c / requests, ours / requests, Some(Bound::Ratio(BOUND))))
            });
            results.take(&what, row);
        }
    }
    for service in ["rc", "uc", "ud", "srq", "xsrq"] {
        super::latencies(&guests, service, &place, 2, repeat, results);
    }
    guests.shutdown()
}

/// Instructions of one round of a mode: the slope between two runs, less that of rounds in which nothing is posted.
fn posted(guests: &Guests, side: Side, mode: &str) -> Result<f64> {
    const FEW: u32 = 10;
    const MANY: u32 = 90;
    let program = if side == Side::C { "posting-c" } else { "posting" };
    let count = |mode, rounds| {
        instructions(&guests.node(1).run(words(&format!("{CALLGRIND}{program} {mode} {rounds}")))?.ok()?)
    };
    let slope =
        |mode| -> Result<f64> { Ok((count(mode, MANY)? - count(mode, FEW)?) / f64::from(MANY - FEW)) };
    // Posting receives needs no pause.
    let idle = if mode == "recv" { 0.0 } else { slope("idle")? };
    Ok(slope(mode)? - idle)
}
