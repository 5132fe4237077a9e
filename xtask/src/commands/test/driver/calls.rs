//! System calls of the data path.

use super::{Checks, PORT, words};
use crate::Result;
use crate::commands::bench::measure;
use crate::vm::Guests;

/// More iterations are not more system calls.
pub(super) fn none_of_a_polled_iteration(checks: &mut Checks<'_>) {
    checks.check("no system call of a polled iteration", |guests| {
        let (few, many) = (calls(guests, 100)?, calls(guests, 1100)?);
        // Its timer may go off, and the exchange may come in pieces.
        if many <= few + 8.0 { Ok(()) } else { Err(format!("{few} calls of 100 iterations, {many} of 1100")) }
    });
}

fn calls(guests: &Guests, iterations: u32) -> Result<f64> {
    let common = format!("bareverbs pingpong rc --poll -n {iterations}");
    let serving = guests.node(1).spawn(words(&common))?;
    if !guests.node(1).await_port_of(&serving, PORT)? {
        return Err("the server is gone".into());
    }
    let asking = guests.node(1).run(words(&format!("strace -f -c {common} 127.0.0.1")))?.ok()?;
    serving.wait()?.ok()?;
    measure::traced_calls(&asking)
}
