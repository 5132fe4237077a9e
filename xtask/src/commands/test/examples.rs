//! The library's example programs.

use super::{Checks, words};
use crate::{Result, cargo};

/// Those that need a device alone.
const QUIET: [&str; 8] = [
    "atomics",
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
pub(super) fn place(name: &str) -> String {
    format!("/bin/example-{name}")
}

/// Builds them; quickly rather than well.
pub(super) fn build() -> Result<Vec<(String, std::path::PathBuf)>> {
    let mut arguments = vec!["build", "--package", "bareverbs"];
    let names = || QUIET.into_iter().chain(LOUD);
    arguments.extend(names().flat_map(|name| ["--example", name]));
    let built = cargo::build(&arguments)?;
    match names().find(|name| !built.iter().any(|(built, _)| built == name)) {
        None => Ok(built),
        Some(name) => Err(format!("cargo built no {name}")),
    }
}

/// Those that run to their ends on a card that nothing is wrong with.
pub(super) fn quiet(checks: &mut Checks<'_>) {
    run(checks, &QUIET);
}

/// Those of which the kernel complains.
pub(super) fn loud(checks: &mut Checks<'_>) {
    run(checks, &LOUD);
}

fn run(checks: &mut Checks<'_>, names: &[&str]) {
    for name in names {
        checks.check(&format!("example {name}"), |guests| {
            let arguments = if *name == "devices" { "" } else { "mlx4_0 0" };
            let output = guests.node(1).run(words(&format!("{} {arguments}", place(name))))?.ok()?;
            if output.stdout.is_empty() { Err("it says nothing".into()) } else { Ok(()) }
        });
    }
}
