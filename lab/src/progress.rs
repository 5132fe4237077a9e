//! Progress of long steps: a line that is rewritten on a terminal, one line per step elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// A step that takes more than a moment.
pub struct Progress {
    what: String,
    started: Instant,
    terminal: bool,
}

impl Progress {
    /// Announces a step.
    pub fn start(what: &str) -> Self {
        let progress = Self { what: what.into(), started: Instant::now(), terminal: stderr().is_terminal() };
        if progress.terminal {
            progress.rewrite("…");
        }
        progress
    }

    /// Shows how far the step is.
    pub fn at(&self, detail: &str) {
        if self.terminal {
            self.rewrite(detail);
        }
    }

    /// Ends the step's line with its outcome and its time.
    pub fn done(&self, outcome: &str) {
        let seconds = self.started.elapsed();
        if self.terminal {
            self.rewrite(&format!("{outcome} ({})\n", human(seconds)));
        } else {
            eprintln!("{}: {outcome} ({})", self.what, human(seconds));
        }
    }

    fn rewrite(&self, detail: &str) {
        let mut out = stderr().lock();
        // The terminal may be gone, which is no reason to stop.
        let _ = write!(out, "\r\x1b[2K{}: {detail}", self.what).and_then(|()| out.flush());
    }
}

/// Formats a duration: `3.2 s`, `2 min 5 s`.
pub fn human(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}
