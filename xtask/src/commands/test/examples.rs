//! The library's example programs.

use std::path::PathBuf;
use std::time::Duration;

use super::checks::Checks;
use crate::vm::{Run, Vm};
use crate::{Result, cargo};

/// Those that need nobody else.
const QUIET: [&str; 9] = [
    "atomics",
    "cm_echo",
    "datagrams",
    "devices",
    "memory_window",
    "qp_states",
    "rc_send_recv",
    "rdma_write_read",
    "shared_receive_queue",
];

/// This one lets a completion queue overrun, of which the kernel complains.
const LOUD: [&str; 1] = ["events"];

/// Where a guest finds one.
fn place(name: &str) -> String {
    format!("/bin/example-{name}")
}

/// Builds them; quickly rather than well.
pub(super) fn build() -> Result<Vec<(String, PathBuf)>> {
    let mut arguments = vec!["build", "--package", "bareverbs"];
    let names = || QUIET.into_iter().chain(LOUD);
    arguments.extend(names().flat_map(|name| ["--example", name]));
    let built = cargo::build(&arguments)?;
    match names().find(|name| !built.iter().any(|(built, _)| built == name)) {
        None => Ok(built),
        Some(name) => Err(format!("cargo built no {name}")),
    }
}

/// Puts them into guests.
pub(super) fn add(vm: Vm, built: &[(String, PathBuf)]) -> Vm {
    built.iter().fold(vm, |vm, (name, path)| vm.file(path, place(name)))
}

/// What an example is run on.
pub(super) struct On {
    /// The device, and the index of its GID.
    pub(super) device: &'static str,
    /// The address of guest 1 on it.
    pub(super) address: &'static str,
}

pub(super) const CONNECTX: On = On { device: "mlx4_0 0", address: "10.1.0.1" };
pub(super) const RXE: On = On { device: "rxe0 1", address: "10.0.0.1" };

/// Those that run to their ends and leave nothing in the kernel's log.
pub(super) fn quiet(checks: &mut Checks<'_>, on: &On) {
    run(checks, on, &QUIET);
}

/// Those of which the kernel complains.
pub(super) fn loud(checks: &mut Checks<'_>, on: &On) {
    run(checks, on, &LOUD);
}

fn run(checks: &mut Checks<'_>, on: &On, names: &[&str]) {
    for name in names {
        checks.check(&format!("example {name}"), |guests| {
            let arguments = match *name {
                "cm_echo" => format!("{}:7471", on.address),
                "devices" => String::new(),
                _ => on.device.to_owned(),
            };
            let line = format!("{} {arguments}", place(name));
            let run = Run::new(line.split_whitespace()).timeout(Duration::from_secs(60));
            let output = guests.node(1).run(run)?.ok()?;
            if output.stdout.is_empty() { Err("it says nothing".into()) } else { Ok(()) }
        });
    }
}
