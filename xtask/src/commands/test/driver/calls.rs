//! System calls of the data path.

use super::{Checks, words};
use crate::Result;
use crate::commands::test::pair::{PINGPONG, Port, serve};
use crate::vm::Guests;

/// A polled pingpong makes no system call between the start of its timer, the last thing before the first message, and the report.
pub(super) fn none_of_a_polled_iteration(checks: &mut Checks<'_>) {
    checks.check("no system call of a polled iteration", |guests| {
        let trace = trace(guests)?;
        let lines: Vec<&str> = trace.lines().collect();
        let place = |what: &str| lines.iter().rposition(|line| line.starts_with(what));
        let (Some(begun), Some(ended)) = (place("setitimer("), place("write(1, \"4096000 bytes")) else {
            return Err(format!("no beginning or no end in {trace}"));
        };
        // The timer's signal is no call of the program's.
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
    let serving = serve(guests, COMMON, Port::Tcp(PINGPONG))?;
    let asking = guests.node(1).run(words(&format!("strace {COMMON} 127.0.0.1")))?.ok()?;
    serving.wait()?.ok()?;
    Ok(String::from_utf8_lossy(&asking.stderr).into_owned())
}
