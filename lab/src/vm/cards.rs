//! The emulated ConnectX cards of guests: the emulator's process and its exit code.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::{SysconfVar, sysconf};

use crate::{Result, process};

/// How long it may take to listen, and to exit after its guests.
const PATIENCE: Duration = Duration::from_secs(10);

/// The configuration of the emulated cards.
#[derive(Debug, Clone)]
pub struct Mlx4 {
    arguments: Vec<String>,
    strict: bool,
    faults: bool,
    ethernet: bool,
}

impl Default for Mlx4 {
    /// A ConnectX-3 for each guest, on InfiniBand, strict: a driver's violation fails the run.
    fn default() -> Self {
        Self { arguments: Vec::new(), strict: true, faults: false, ethernet: false }
    }
}

impl Mlx4 {
    /// Makes it a ConnectX-2, like the one of the reference transcript.
    pub fn connectx2(self) -> Self {
        self.argument("--model").argument("connectx-2")
    }

    /// Plugs the cards into Ethernet: each is a network device too, and its RDMA is RoCE.
    pub fn ethernet(mut self) -> Self {
        self.ethernet = true;
        self.argument("--link-layer").argument("ethernet")
    }

    /// Adds an argument for the emulator's `serve`.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Reports violations without failing the run.
    pub fn lenient(mut self) -> Self {
        self.strict = false;
        self
    }

    /// Allows the driver to log errors, for tests in which the card fails.
    pub fn faults(mut self) -> Self {
        self.faults = true;
        self
    }

    /// Whether the cards are network devices too.
    pub(super) fn is_ethernet(&self) -> bool {
        self.ethernet
    }

    /// Whether the driver may log errors.
    pub(super) fn may_fail(&self) -> bool {
        self.faults
    }

    /// Starts the cards of `guests` guests, with their sockets in `folder`.
    pub(super) fn start(&self, program: &Path, guests: u32, folder: &Path, log: PathBuf) -> Result<Emulator> {
        let sockets: Vec<PathBuf> = (1..=guests).map(|number| socket(folder, number)).collect();
        let control = folder.join("control");
        let failed = |error: std::io::Error| format!("{}: {error}", log.display());
        let output = File::create(&log).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(["serve", "--once", "--control"]).arg(&control).args(&self.arguments);
        if self.strict {
            command.arg("--strict");
        }
        command.args(&sockets).stdin(Stdio::null()).stderr(output);
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let mut emulator = Emulator { child, control, program: program.into(), log };
        // The emulator creates the control socket last.
        emulator.wait("its sockets", |emulator| emulator.control.exists().then_some(()))?;
        Ok(emulator)
    }
}

/// Returns the socket of a guest's card.
pub(super) fn socket(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("hca-{number}"))
}

/// A running emulator. Dropping it kills it.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
    control: PathBuf,
    program: PathBuf,
    log: PathBuf,
}

impl Emulator {
    /// Sends a request to the control socket and returns the answer.
    pub fn control(&self, request: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        process::output(command.arg("control").arg(&self.control).arg(request))
    }

    /// Returns its processor time, in the resolution of the kernel's clock ticks.
    pub fn processor_time(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        // Behind the name, which may have spaces: user and system time are the 12th and 13th (man 5 proc).
        let fields = text.rsplit_once(") ").map(|(_, fields)| fields.split_whitespace());
        let ticks: Option<Vec<u64>> =
            fields.map(|fields| fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect());
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().filter(|ticks| *ticks > 0);
        match (ticks.as_deref(), per_second) {
            (Some([user, system]), Some(per_second)) => {
                Ok(Duration::from_secs_f64((user + system) as f64 / per_second as f64))
            }
            _ => Err(format!("{path}: not understood: {text:?}")),
        }
    }

    /// Returns its log so far: violations, and guests that came and went.
    pub fn said(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).map_err(|error| format!("{}: {error}", self.log.display()))
    }

    /// Waits until it exits after its guests; a violation is an error.
    pub(super) fn finish(mut self) -> Result<()> {
        let status = self
            .wait_for_exit()?
            .ok_or_else(|| format!("the emulator has not ended: {}", self.last_words()))?;
        if !status.success() {
            return Err(format!("the emulator: {status} ({}):\n{}", self.log.display(), self.last_words()));
        }
        // Only the log of a failed run is kept.
        let _ = std::fs::remove_file(&self.log);
        Ok(())
    }

    fn wait_for_exit(&mut self) -> Result<Option<std::process::ExitStatus>> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match self.child.try_wait() {
                Ok(None) => sleep(Duration::from_millis(10)),
                Ok(status) => return Ok(status),
                Err(error) => return Err(format!("the emulator: {error}")),
            }
        }
        Ok(None)
    }

    fn wait<T>(&mut self, what: &str, done: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(result) = done(self) {
                return Ok(result);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the emulator: {status}: {}", self.last_words()));
            }
            sleep(Duration::from_millis(5));
        }
        Err(format!("the emulator: {what} is not there in time: {}", self.last_words()))
    }

    fn last_words(&self) -> String {
        process::last_lines(&std::fs::read(&self.log).unwrap_or_default(), 12)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Fails only if it is gone already.
        let _ = self.child.kill().and_then(|()| self.child.wait().map(drop));
    }
}
