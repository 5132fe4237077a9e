//! `rdma-lab`: runs a command in a guest with an RDMA device.

use std::process::ExitCode;

use clap::Parser;
use rdma_lab::command::{self, Arguments, BROKEN};

fn main() -> ExitCode {
    // clap ends the process with 2 after wrong options, which could be the exit code of the command in the guest.
    let arguments = Arguments::try_parse().unwrap_or_else(|error| {
        let code = if error.use_stderr() { BROKEN.into() } else { 0 };
        // A terminal that is gone needs no message.
        let _ = error.print();
        std::process::exit(code)
    });
    command::run(&arguments, |_| None).unwrap_or_else(|error| {
        eprintln!("rdma-lab: {error}");
        ExitCode::from(BROKEN)
    })
}
