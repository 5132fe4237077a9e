//! `cargo xtask`: build, boot, test and measure bareverbs.
//!
//! Where to look: [`commands`] has a file per subcommand; they stand on [`vm`] (guests), which stands on [`image`]
//! (what a guest boots from) and [`packages`] (kernels, QEMU and C tools from Debian's archive, in [`cache`]). What runs
//! inside a guest is the other program of this package, in `guest/`; the two speak [`protocol`].

mod cache;
mod cargo;
mod checker;
mod commands;
mod image;
mod packages;
mod process;
mod progress;
mod protocol;
mod tally;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A result whose error is one line for the user.
type Result<T> = std::result::Result<T, String>;

/// The exit code of a guest or a tool that failed, apart from what a command says.
const BROKEN: u8 = 125;

/// Build, boot, test and measure bareverbs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Bench(commands::bench::Arguments),
    Demo(commands::demo::Arguments),
    Test(commands::test::Arguments),
    Vm(Box<commands::vm::Arguments>),
    /// Compare the declared structures and numbers with the kernel's headers
    Abi,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Task::Bench(arguments) => commands::bench::run(arguments),
        Task::Demo(arguments) => commands::demo::run(arguments),
        Task::Test(arguments) => commands::test::run(arguments),
        Task::Vm(arguments) => commands::vm::run(arguments),
        Task::Abi => commands::abi::run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::from(BROKEN)
    })
}
