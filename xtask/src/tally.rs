//! Counting what passed and what failed, and how long each check took.

use std::fmt::{Display, Formatter};
use std::time::{Duration, Instant};

use crate::Result;
use crate::progress::human;

/// How many of the slowest checks are listed at the end.
const SLOWEST: usize = 12;

/// The outcome of a part of the checks.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    failures: Vec<String>,
    left_out: Vec<String>,
    times: Vec<(String, Duration)>,
}

impl Tally {
    /// Counts checks that passed.
    pub(crate) fn pass(&mut self, count: usize) {
        self.passed += count;
    }

    /// Counts one failure. It is printed now, in case the run is interrupted, and again at the end.
    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("FAILED {what}");
        self.failures.push(what);
    }

    /// Counts a check by its result.
    pub(crate) fn check(&mut self, what: &str, result: Result<()>) {
        match result {
            Ok(()) => self.pass(1),
            Err(error) => self.fail(format!("{what}: {error}")),
        }
    }

    /// Runs a check, counts it by its result, records its time and returns it.
    pub(crate) fn timed(&mut self, what: &str, check: impl FnOnce() -> Result<()>) -> Duration {
        let started = Instant::now();
        let result = check();
        let took = started.elapsed();
        self.took(what, took);
        self.check(what, result);
        took
    }

    /// Records how long a check took that is counted elsewhere.
    pub(crate) fn took(&mut self, what: impl Into<String>, time: Duration) {
        self.times.push((what.into(), time));
    }

    /// Records what this run does not check and why. It counts neither as passed nor as failed.
    pub(crate) fn leave_out(&mut self, what: impl Into<String>) {
        self.left_out.push(what.into());
    }

    /// Adds the counts of another part.
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        self.left_out.extend(other.left_out);
        self.times.extend(other.times);
    }

    /// Whether nothing failed.
    pub(crate) fn good(&self) -> bool {
        self.failures.is_empty()
    }

    /// Whether nothing was checked.
    pub(crate) fn is_empty(&self) -> bool {
        self.passed == 0 && self.failures.is_empty()
    }

    /// Prints the slowest checks, what was left out, the failures, the time that everything took, then the line `N passed, N failed`.
    pub(crate) fn conclude(&self, took: Option<Duration>) {
        let slowest = self.slowest();
        if !slowest.is_empty() {
            println!("\nthe slowest checks:");
        }
        for (what, time) in slowest {
            println!("{:>13}  {what}", human(*time));
        }
        if !self.left_out.is_empty() {
            println!("\nnot checked in this run:");
        }
        for what in &self.left_out {
            println!("  {what}");
        }
        println!();
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        if let Some(took) = took {
            println!("took {}", human(took));
        }
        println!("{self}");
    }

    fn slowest(&self) -> Vec<&(String, Duration)> {
        let mut times: Vec<_> = self.times.iter().collect();
        times.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        times.truncate(SLOWEST);
        times
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failures.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_does_not_pass() {
        let mut tally = Tally::default();
        tally.leave_out("everything");
        assert!(tally.is_empty() && tally.good());
        assert_eq!(tally.to_string(), "0 passed, 0 failed");
    }

    #[test]
    fn the_slowest_checks_come_first() {
        let mut tally = Tally::default();
        for seconds in 1..=20 {
            tally.took(format!("check {seconds}"), Duration::from_secs(seconds));
        }
        let names: Vec<&str> = tally.slowest().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..2], ["check 20", "check 19"]);
        assert_eq!(names.len(), SLOWEST);
    }
}
