//! `connectx`: emulated ConnectX cards for any QEMU that has `vfio-user-pci`.

use std::process::ExitCode;

fn main() -> ExitCode {
    connectx::cli::main()
}
