//! The library's example programs.

use super::checks::Checks;
use super::pair::words;
use super::programs::Programs;
use crate::Result;
use crate::vm::Vm;

/// Those that need no peer.
const QUIET: [&str; 13] = [
    "atomics",
    "cm_echo",
    "datagrams",
    "devices",
    "memory_window",
    "qp_states",
    "raw",
    "rc_send_recv",
    "rdma_write_read",
    "shared_receive_queue",
    "two_processes",
    "threads",
    "tokio",
];

/// Lets a completion queue overrun, of which the kernel complains.
const LOUD: [&str; 1] = ["events"];

/// Plays random scripts for `driver::scripts`.
pub(super) const PLAYER: &str = "script_player";

/// What has to be built.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    QUIET.into_iter().chain(LOUD).chain([PLAYER])
}

/// Adds them to guests.
pub(super) fn add(vm: Vm, programs: &Programs) -> Result<Vm> {
    names().try_fold(vm, |vm, name| programs.add(vm, name))
}

/// What an example runs on.
pub(super) struct On {
    /// The device, and the index of its GID.
    pub(super) device: &'static str,
    /// The address of guest 1 on it.
    pub(super) address: &'static str,
}

pub(super) const CONNECTX: On = On { device: "mlx4_0 0", address: "10.1.0.1" };
pub(super) const RXE: On = On { device: "rxe0 1", address: "10.0.0.1" };

/// Runs those that leave nothing in the kernel's log.
pub(super) fn quiet(checks: &mut Checks<'_>, on: &On) {
    run(checks, on, &QUIET);
}

/// Runs those of which the kernel complains.
pub(super) fn loud(checks: &mut Checks<'_>, on: &On) {
    run(checks, on, &LOUD);
}

fn run(checks: &mut Checks<'_>, on: &On, names: &[&str]) {
    for name in names {
        checks.check(&format!("example {name}"), |guests| {
            let arguments = match *name {
                "cm_echo" => format!("{}:7471", on.address),
                "tokio" => format!("{}:7472", on.address),
                "devices" => String::new(),
                _ => on.device.to_owned(),
            };
            let output = guests.node(1).run(words(&format!("/bin/{name} {arguments}")))?.ok()?;
            if output.stdout.is_empty() { Err("it prints nothing".into()) } else { Ok(()) }
        });
    }
}
