//! `connectx`: emulated ConnectX cards for any QEMU that has `vfio-user-pci`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
