//! The guest's init: sets up the machine, then runs commands for the host.
//!
//! Read in this order: [`setup`] (from a bare kernel to an RDMA device), [`agent`] (the host's requests), [`jobs`] (one command).
//! Process 1 runs without arguments; with arguments it is one of the [`helpers`] that tests run as ordinary commands.

mod agent;
mod helpers;
mod jobs;
mod netdev;
mod netfilter;
mod setup;

use std::process::ExitCode;

use rdma_lab::protocol;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if std::process::id() == 1 {
        agent::run();
    }
    match helpers::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("guest helper: {message}");
            ExitCode::FAILURE
        }
    }
}
