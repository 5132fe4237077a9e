//! System calls of the data path.

use super::{Checks, PORT, words};
use crate::Result;
use crate::vm::Guests;

/// Between the start of the tick, which is the last thing before the first message, and the report, a polled pingpong makes none.
pub(super) fn none_of_a_polled_iteration(checks: &mut Checks<'_>) {
    checks.check("no system call of a polled iteration", |guests| {
        let trace = trace(guests)?;
        let lines: Vec<&str> = trace.lines().collect();
        let place = |what: &str| lines.iter().rposition(|line| line.starts_with(what));
        let (Some(begun), Some(ended)) = (place("setitimer("), place("write(1, \"4096000 bytes")) else {
            return Err(format!("no beginning or no end in {trace}"));
        };
        // A second's tick is no call: the kernel interrupts the program, which returns to where it was.
        let tick = |line: &&&str| !line.starts_with("--- SIGALRM") && !line.starts_with("rt_sigreturn(");
        match lines[begun + 1..ended].iter().filter(tick).collect::<Vec<_>>()[..] {
            [] => Ok(()),
            ref calls => Err(format!("{} calls of 500 iterations: {calls:?}", calls.len())),
        }
    });
}

/// What strace says of a client of 500 iterations.
fn trace(guests: &Guests) -> Result<String> {
    const COMMON: &str = "bareverbs pingpong rc --poll -n 500";
    let serving = guests.node(1).spawn(words(COMMON))?;
    if !guests.node(1).await_port_of(&serving, PORT)? {
        return Err("the server is gone".into());
    }
    let asking = guests.node(1).run(words(&format!("strace {COMMON} 127.0.0.1")))?.ok()?;
    serving.wait()?.ok()?;
    Ok(String::from_utf8_lossy(&asking.stderr).into_owned())
}
