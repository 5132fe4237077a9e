//! The card explains itself: each firmware command, doorbell, work request and completion, decoded, on a line.

use std::{
    fmt,
    io::{self, Write},
};

/// Where explanations go, if anywhere.
#[derive(Default)]
pub struct Trace {
    card: String,
    to: Option<Box<dyn Write + Send>>,
}

impl Trace {
    /// Explains what the card of this name does, on `to`.
    pub fn to(card: &str, to: Box<dyn Write + Send>) -> Self {
        Self { card: card.to_owned(), to: Some(to) }
    }

    /// Whether anybody reads. What is costly to put together is put together only then.
    pub fn on(&self) -> bool {
        self.to.is_some()
    }

    /// Prints a line. A trace that cannot be written ends; the card goes on.
    pub fn line(&mut self, line: fmt::Arguments<'_>) {
        let Some(to) = &mut self.to else { return };
        let written: io::Result<()> = writeln!(to, "{}: {line}", self.card);
        if written.is_err() {
            self.to = None;
        }
    }
}
