//! Counting what passed and what failed.

/// What a part of the checks came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    failures: Vec<String>,
}

impl Tally {
    /// Counts checks that passed.
    pub(crate) fn pass(&mut self, count: usize) {
        self.passed += count;
    }

    /// Counts one failure, which is told now, in case that the run is cut, and again at the end.
    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        println!("FAILED {what}");
        self.failures.push(what);
    }

    /// Counts a check by its result.
    pub(crate) fn check(&mut self, what: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.pass(1),
            Err(error) => self.fail(format!("{what}: {error}")),
        }
    }

    /// Takes another part's counts in.
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
    }

    /// Whether nothing failed.
    pub(crate) fn good(&self) -> bool {
        self.failures.is_empty()
    }

    /// The failures, then the line `N passed, N failed`.
    pub(crate) fn conclude(&self) {
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        println!("{self}");
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failures.len())
    }
}
