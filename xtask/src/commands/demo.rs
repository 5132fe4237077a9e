//! `cargo xtask demo`: from a fresh clone to an RDMA pingpong in a guest.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::progress::Progress;
use crate::vm::{Guests, Kernel, Run, Vm};
use crate::{Result, cargo};

/// The TCP port of pingpong's exchange.
const PORT: u16 = 18515;

/// Fetch what is needed, boot a guest with an RDMA device, and show bareverbs at work in it.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// A kernel: 6.1, 6.12, 7.3, host, or the path of an image
    #[arg(long, default_value = "6.1")]
    kernel: Kernel,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let progress = Progress::start("bareverbs, static");
    let binary = cargo::release_binary()?;
    progress.done("built");
    let vm =
        Vm::new(arguments.kernel.clone()).file(binary, "/bin/bareverbs").lifetime(Duration::from_secs(180));
    let prepared = vm.prepare()?;
    let progress = Progress::start(&format!("guest with kernel {}", arguments.kernel));
    let guests = prepared.boot()?;
    progress.done("ready");

    let mut good = true;
    for command in ["bareverbs devices", "bareverbs devinfo"] {
        good &= show(&guests, command)?;
    }
    let server = "bareverbs pingpong rc -g 1";
    println!("\nguest$ {server} &");
    let running = guests.node(1).spawn(Run::new(server.split(' ')).live_as("[server] "))?;
    guests.node(1).await_port(PORT)?;
    good &= show(&guests, &format!("{server} 127.0.0.1"))?;
    good &= running.wait()?.success();
    guests.shutdown()?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a command line, then runs it and shows its output.
fn show(guests: &Guests, command: &str) -> Result<bool> {
    println!("\nguest$ {command}");
    let output = guests.node(1).run(Run::new(command.split(' ')).live())?;
    if !output.success() {
        println!("({})", output.ending());
    }
    Ok(output.success())
}
