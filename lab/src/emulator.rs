//! `rdma-lab-emulator`: the emulator of ConnectX cards, so that `cargo install` puts it beside `rdma-lab`.

use std::process::ExitCode;

fn main() -> ExitCode {
    connectx::cli::main()
}
