//! The guest's init: sets up the machine, then runs what the host asks for and reports on it.
//!
//! Read in this order: [`setup`] (what a bare kernel needs before RDMA works), [`agent`] (the host's requests),
//! [`jobs`] (one command). As `/init` it is process 1; under a further argument it is one of the [`helpers`] that tests
//! run as ordinary commands.

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
