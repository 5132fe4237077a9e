//! A command to run in a guest, and its result.

use std::time::Duration;

use crate::protocol::{Command, Status, Usage};
use crate::{Result, process};

/// A command to run in a guest.
#[derive(Debug, Clone)]
pub struct Run {
    pub(super) command: Command,
    pub(super) live: Option<Live>,
}

/// How a command's output is shown while it runs.
#[derive(Debug, Clone)]
pub(super) struct Live {
    /// A prefix for each line; without one, bytes pass unchanged.
    pub(super) prefix: Option<String>,
}

impl Run {
    /// Creates a command with a time limit of one minute.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        let command = Command { argv, timeout: Duration::from_secs(60), ..Command::default() };
        Self { command, live: None }
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.command.env.push((key.into(), value.into()));
        self
    }

    /// Sets standard input.
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.command.stdin = Some(text.into());
        self
    }

    /// Runs as this user and group.
    pub fn uid(mut self, uid: u32) -> Self {
        self.command.uid = Some(uid);
        self
    }

    /// Holds the output back until the command has ended, so that sending it does not disturb a measurement.
    pub fn held(mut self) -> Self {
        self.command.held = true;
        self
    }

    /// Limits locked memory, in bytes.
    pub fn memlock(mut self, bytes: u64) -> Self {
        self.command.memlock = Some(bytes);
        self
    }

    /// Binds it to one processor, modulo the number of processors.
    pub fn cpu(mut self, cpu: usize) -> Self {
        self.command.cpu = Some(cpu);
        self
    }

    /// Sets the time after which it is killed.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.command.timeout = timeout;
        self
    }

    /// Also shows its output as it arrives, byte for byte.
    pub fn live(mut self) -> Self {
        self.live = Some(Live { prefix: None });
        self
    }

    /// Also shows its output as it arrives, with a prefix before each line.
    pub fn live_as(mut self, prefix: impl Into<String>) -> Self {
        self.live = Some(Live { prefix: Some(prefix.into()) });
        self
    }
}

/// The result of a command.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command.
    pub command: String,
    /// How it ended.
    pub status: Status,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// When parts of standard output arrived: the time since the start, and how many bytes had arrived until then.
    pub arrived: Vec<(Duration, usize)>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// The time it took.
    pub usage: Usage,
}

impl Output {
    /// Whether its exit code was 0.
    pub fn success(&self) -> bool {
        self.status == Status::Code(0)
    }

    /// Returns standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The lines of standard output, each with the time from the command's start to the line's arrival.
    pub fn lines_with_times(&self) -> impl Iterator<Item = (Duration, String)> {
        let mut end = 0;
        self.stdout.split_inclusive(|byte| *byte == b'\n').map(move |line| {
            end += line.len();
            let arrived = self.arrived.iter().find(|(_, bytes)| *bytes >= end);
            let time = arrived.map_or(Duration::ZERO, |(time, _)| *time);
            (time, String::from_utf8_lossy(line).trim_end().to_owned())
        })
    }

    /// Itself if it exited with 0, else an error with its last words.
    pub fn ok(self) -> Result<Self> {
        if self.success() {
            return Ok(self);
        }
        let words = if self.stderr.is_empty() { &self.stdout } else { &self.stderr };
        Err(format!("{}: {}: {}", self.command, self.ending(), process::last_lines(words, 4)))
    }

    /// Describes how it ended.
    pub fn ending(&self) -> String {
        match self.status {
            Status::Code(code) => format!("exit code {code}"),
            Status::Signal(signal) => format!("ended by signal {signal}"),
            Status::TimedOut => format!("killed after {:.0} s", self.usage.wall.as_secs_f64()),
        }
    }

    /// Returns the exit code that a shell would report; 124 after a timeout.
    pub fn code(&self) -> u8 {
        match self.status {
            Status::Code(code) => code as u8,
            Status::Signal(signal) => 128 + signal as u8,
            Status::TimedOut => 124,
        }
    }
}
