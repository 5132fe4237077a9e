//! `connectx3`: an emulated ConnectX-3 for any QEMU that has `vfio-user-pci`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
