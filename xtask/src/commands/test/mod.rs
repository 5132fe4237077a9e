//! `cargo xtask test`: everything that must hold, from formatting to every kernel.

mod bare;
mod cards;
mod driver;
mod guest;
mod host;
mod libtest;
mod mlx4;
mod nodes;
mod rping;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};

use crate::Result;
use crate::progress::human;
use crate::tally::Tally;
use crate::vm::Kernel;

/// A part of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Formatting, clippy, unit and golden tests, the other architecture
    Host,
    /// Structures and numbers against the kernel's headers
    Abi,
    /// The ring code under Miri
    Miri,
    /// The suite in a guest, on each kernel, in both command encodings
    Vm,
    /// Pingpong between two guests, on each kernel
    Nodes,
    /// What goes wrong on request with the emulated ConnectX card, under the kernel's own driver, on each kernel
    Cards,
    /// rdma-core's tools, perftest and the verbs checker on the emulated ConnectX-3, on each kernel
    Mlx4,
    /// Our driver for ConnectX on the emulated card, beside rdma-core's, on each kernel
    Driver,
}

/// Run every check; the last line is `N passed, N failed`.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Only this part (may be repeated)
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Only this kernel (may be repeated)
    #[arg(long)]
    kernel: Vec<Kernel>,
    /// Only tests whose names contain this
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Show the guest tests' output as it comes
    #[arg(long)]
    verbose: bool,
}

impl Arguments {
    fn kernels(&self) -> Vec<Kernel> {
        if self.kernel.is_empty() { Kernel::lines() } else { self.kernel.clone() }
    }
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let started = Instant::now();
    let mut tally = Tally::default();
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    if wanted(Part::Host) {
        tally.add(host::checks(arguments.filter.as_deref()));
    }
    if wanted(Part::Abi) {
        part(&mut tally, "abi", super::abi::check);
    }
    if wanted(Part::Miri) {
        tally.add(host::miri());
    }
    if wanted(Part::Vm) {
        part(&mut tally, "vm", || guest::suite(arguments));
        part(&mut tally, "vm bare", || bare::suite(arguments));
    }
    if wanted(Part::Nodes) {
        part(&mut tally, "nodes", || nodes::suite(arguments));
    }
    if wanted(Part::Driver) {
        part(&mut tally, "driver", || driver::suite(arguments));
    }
    if wanted(Part::Cards) {
        part(&mut tally, "cards", || cards::suite(arguments));
    }
    if wanted(Part::Mlx4) {
        part(&mut tally, "mlx4", || mlx4::suite(arguments));
    }
    println!("took {}", human(started.elapsed()));
    tally.conclude();
    Ok(if tally.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts a part; one that could not be done is one failure.
fn part(tally: &mut Tally, name: &str, run: impl FnOnce() -> Result<Tally>) {
    match run() {
        Ok(counted) => tally.add(counted),
        Err(error) => tally.fail(format!("{name}: {error}")),
    }
}
