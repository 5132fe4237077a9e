//! A command to run in a guest, and what became of it.

use std::time::Duration;

use crate::protocol::{Command, Status, Usage};
use crate::{Result, process};

/// A command to run in a guest.
#[derive(Debug, Clone)]
pub struct Run {
    pub(super) command: Command,
    pub(super) live: Option<Live>,
}

/// How a command's output goes to the user's terminal while it runs.
#[derive(Debug, Clone)]
pub(super) struct Live {
    /// Before each line; without one, bytes pass unchanged.
    pub(super) prefix: Option<String>,
}

impl Run {
    /// A command that may take a minute.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        let command = Command { argv, timeout: Duration::from_secs(60), ..Command::default() };
        Self { command, live: None }
    }

    /// Adds to the environment.
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.command.env.push((key.into(), value.into()));
        self
    }

    /// What the command reads.
    pub fn stdin(mut self, text: impl Into<String>) -> Self {
        self.command.stdin = Some(text.into());
        self
    }

    /// Runs as this user and group.
    pub fn uid(mut self, uid: u32) -> Self {
        self.command.uid = Some(uid);
        self
    }

    /// Tells what the command says when it has ended, so that nothing else is at work while it runs.
    pub fn held(mut self) -> Self {
        self.command.held = true;
        self
    }

    /// Limits locked memory, in bytes.
    pub fn memlock(mut self, bytes: u64) -> Self {
        self.command.memlock = Some(bytes);
        self
    }

    /// Keeps it on one processor; where there are fewer, they are counted round.
    pub fn cpu(mut self, cpu: usize) -> Self {
        self.command.cpu = Some(cpu);
        self
    }

    /// Kills it after this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.command.timeout = timeout;
        self
    }

    /// Also shows its output as it comes, byte for byte.
    pub fn live(mut self) -> Self {
        self.live = Some(Live { prefix: None });
        self
    }

    /// Also shows its output as it comes, with a prefix before each line.
    pub fn live_as(mut self, prefix: impl Into<String>) -> Self {
        self.live = Some(Live { prefix: Some(prefix.into()) });
        self
    }
}

/// What became of a command.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command.
    pub command: String,
    /// How it ended.
    pub status: Status,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// When parts of standard output arrived: the time since the start, and how many bytes had arrived until then.
    pub arrived: Vec<(Duration, usize)>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// What it took.
    pub usage: Usage,
}

impl Output {
    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.status == Status::Code(0)
    }

    /// Standard output as text.
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

    /// How it ended, in words.
    pub fn ending(&self) -> String {
        match self.status {
            Status::Code(code) => format!("exit code {code}"),
            Status::Signal(signal) => format!("ended by signal {signal}"),
            Status::TimedOut => format!("killed after {:.0} s", self.usage.wall.as_secs_f64()),
        }
    }

    /// The exit code that a shell would give it.
    pub fn code(&self) -> u8 {
        match self.status {
            Status::Code(code) => code as u8,
            Status::Signal(signal) => 128 + signal as u8,
            Status::TimedOut => 124,
        }
    }
}
