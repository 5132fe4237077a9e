//! Writing to standard output and standard error.
//!
//! The macros of the standard library panic where a stream fails; here a failed stream is one more way to end.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use nix::errno::Errno;

use super::outcome::{Failure, Outcome};

/// Whose behaviour is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// `bareverbs SUBCOMMAND`.
    Ours,
    /// The C tool's, to the byte.
    C,
}

/// A tool under the name by which it was called.
#[derive(Debug)]
pub(crate) struct Tool {
    name: String,
    manner: Manner,
}

impl Tool {
    pub(crate) fn new(name: impl Into<String>, manner: Manner) -> Self {
        Self { name: name.into(), manner }
    }

    /// The name, which errors begin with.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whose behaviour is asked for.
    pub(crate) fn manner(&self) -> Manner {
        self.manner
    }

    /// Writes to standard output, all at once and through no buffer.
    ///
    /// # Errors
    /// The device is full or failed. A reader that went away is a quiet end with code 0, since it had what it wanted.
    pub(crate) fn print(&self, text: &str) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::said(0),
            _ => Failure::new(format!("write to standard output: {}", reason(&error))),
        })
    }

    /// The same in the middle of work that others wait for: a reader that went away does not end it.
    ///
    /// # Errors
    /// The device is full or failed.
    pub(crate) fn report(&self, text: &str) -> Outcome {
        match self.print(text) {
            Err(failure) if failure == Failure::said(0) => Ok(()),
            printed => printed,
        }
    }

    /// Writes a line to standard error after the tool's name.
    pub(crate) fn complain(&self, line: &str) {
        self.say(&format!("{}: {line}", self.name));
    }

    /// Writes a line to standard error as it is.
    pub(crate) fn say(&self, line: &str) {
        // Nobody is left to be told that this failed.
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }

    /// Says a failure's last words and gives the exit code.
    pub(crate) fn conclude(&self, outcome: Outcome) -> ExitCode {
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                if let Some(line) = failure.line(&self.name) {
                    self.say(&line);
                }
                ExitCode::from(failure.exit_code())
            }
        }
    }
}

/// An I/O error in words, with the errno's name where there is one.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) => format!("{} ({errno:?})", errno.desc()),
        None => error.to_string(),
    }
}
