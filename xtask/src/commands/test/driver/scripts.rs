//! Random scripts: our library and libmlx4 must get the same completions and the same memory from each.

use super::{Checks, words};
use crate::commands::test::examples;
use crate::vm::Guests;
use crate::{Result, checker};

/// Plays scripts of `ops` requests from the seeds 1 to `seeds`.
pub(super) fn random(checks: &mut Checks<'_>, seeds: usize, ops: u32) {
    checks.check(&format!("{seeds} random scripts of {ops}, ours and libmlx4's log"), |guests| {
        let theirs = logs(guests, seeds, ops)?;
        for (seed, theirs) in (1..=seeds).zip(&theirs) {
            let script = said(guests, &format!("script --first-seed {seed} --ops {ops}"))?;
            let played = guests.node(1).run(words(examples::PLAYER).stdin(script.as_str()))?;
            let text = played.text();
            same(text.lines(), told(&script), "the script")
                .and_then(|()| same(text.lines(), told(theirs), "libmlx4's log"))
                .map_err(|error| {
                    format!("seed {seed}: {error}; {}", String::from_utf8_lossy(&played.stderr).trim())
                })?;
            played.ok()?;
        }
        Ok(())
    });
}

/// The log of each script, run by libmlx4.
fn logs(guests: &Guests, seeds: usize, ops: u32) -> Result<Vec<String>> {
    const LOG: &str = "/tmp/script.log";
    said(guests, &format!("random --seeds {seeds} --ops {ops} --log {LOG}"))?;
    let log = guests.node(1).run(words(&format!("/init cat {LOG}")))?.ok()?.text();
    let logs: Vec<String> = log.split("# seed ").skip(1).map(|log| format!("# {log}")).collect();
    if logs.len() == seeds { Ok(logs) } else { Err(format!("{} logs of {seeds} seeds", logs.len())) }
}

fn said(guests: &Guests, arguments: &str) -> Result<String> {
    guests.node(1).run(words(&format!("{} {arguments}", checker::NAME)))?.ok().map(|output| output.text())
}

/// The lines with completions and checksums.
fn told(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("done ") || line.starts_with("sum "))
}

/// Compares line by line. There must be more than a few completions.
fn same<'t>(
    ours: impl Iterator<Item = &'t str>,
    theirs: impl Iterator<Item = &'t str>,
    whose: &str,
) -> Result<()> {
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.collect(), theirs.collect());
    if let Some(at) = (0..ours.len().max(theirs.len())).find(|&at| ours.get(at) != theirs.get(at)) {
        return Err(format!("line {at}: {:?} where {whose} has {:?}", ours.get(at), theirs.get(at)));
    }
    if ours.len() < 100 { Err(format!("only {} lines", ours.len())) } else { Ok(()) }
}
