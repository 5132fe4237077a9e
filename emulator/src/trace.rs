//! The trace: each firmware command, doorbell, work request and completion, decoded, one line each.

use std::{
    fmt,
    io::{self, Write},
};

/// A trace, which may be off.
#[derive(Default)]
pub struct Trace {
    card: String,
    to: Option<Box<dyn Write + Send>>,
}

impl Trace {
    /// Writes what the card with this name does to `to`.
    pub fn to(card: &str, to: Box<dyn Write + Send>) -> Self {
        Self { card: card.to_owned(), to: Some(to) }
    }

    /// Whether the trace is on. Callers check it before they build expensive lines.
    pub fn on(&self) -> bool {
        self.to.is_some()
    }

    /// Writes a line. A trace that cannot be written is turned off; the card goes on.
    pub fn line(&mut self, line: fmt::Arguments<'_>) {
        let Some(to) = &mut self.to else { return };
        let written: io::Result<()> = writeln!(to, "{}: {line}", self.card);
        if written.is_err() {
            self.to = None;
        }
    }
}
