//! One running guest, and the commands in it.

use std::collections::HashMap;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::log::{self, Log};
use super::run::{Live, Output, Run};
use crate::protocol::{Event, HEARTBEAT, Request, Status, Stream, Usage, receive, send};
use crate::{Result, process};

/// Time beyond a command's own limit, to kill it and to report that.
const SLACK: Duration = Duration::from_secs(20);

const IDLE: &str = "waiting for commands";

#[derive(Debug)]
enum Phase {
    Setup,
    Ready,
    Failed(String),
    /// It has sent its last event.
    Bye,
    /// The control port closed without a last event.
    Gone(String),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    doing: String,
    jobs: HashMap<u32, JobState>,
}

#[derive(Debug)]
struct JobState {
    started: Instant,
    stdout: Vec<u8>,
    arrived: Vec<(Duration, usize)>,
    stderr: Vec<u8>,
    live: Option<Live>,
    /// For each stream, whether the next byte to show begins a line.
    fresh: [bool; 2],
    end: Option<Result<(Status, Usage)>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running guest.
#[derive(Debug)]
pub struct Node {
    name: String,
    qemu: Child,
    requests: Arc<Mutex<UnixStream>>,
    shared: Arc<Shared>,
    next_job: AtomicU32,
    log: Log,
    complaints: PathBuf,
    deadline: Instant,
}

impl Node {
    pub(super) fn connect(
        name: String,
        mut qemu: Child,
        listener: &UnixListener,
        log: Log,
        complaints: PathBuf,
        deadline: Instant,
    ) -> Result<Self> {
        let requests = match accept(listener, &mut qemu) {
            Ok(stream) => stream,
            Err(error) => {
                // Both fail only if it has exited already.
                let _ = qemu.kill().and_then(|()| qemu.wait().map(drop));
                let words = std::fs::read(&complaints).unwrap_or_default();
                return Err(format!("{name}: {error}: {}", process::last_lines(&words, 4)));
            }
        };
        let state = State { phase: Phase::Setup, doing: "starting its kernel".into(), jobs: HashMap::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let events = requests.try_clone().map_err(|error| format!("{name}: control socket: {error}"))?;
        let listener = shared.clone();
        thread::spawn(move || listen(BufReader::new(events), &listener));
        let requests = Arc::new(Mutex::new(requests));
        let (alive, listener) = (Arc::downgrade(&requests), shared.clone());
        thread::spawn(move || keep_alive(&alive, &listener));
        Ok(Self { name, qemu, requests, shared, next_job: AtomicU32::new(1), log, complaints, deadline })
    }

    pub(super) fn await_ready(&self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        self.wait_until(end, "its setup", |state| match &state.phase {
            Phase::Setup => None,
            Phase::Ready => Some(Ok(())),
            Phase::Failed(reason) => Some(Err(format!("{}: setup failed: {reason}", self.name))),
            Phase::Bye => Some(Err(format!("{}: powered off during its setup", self.name))),
            Phase::Gone(_) => None,
        })
    }

    /// Runs a command to its end.
    pub fn run(&self, run: Run) -> Result<Output> {
        self.spawn(run)?.wait()
    }

    /// Starts a command.
    pub fn spawn(&self, run: Run) -> Result<Job<'_>> {
        let number = self.next_job.fetch_add(1, Ordering::Relaxed);
        let job = JobState {
            started: Instant::now(),
            stdout: Vec::new(),
            arrived: Vec::new(),
            stderr: Vec::new(),
            live: run.live,
            fresh: [true; 2],
            end: None,
        };
        let text = run.command.argv.join(" ");
        let mut state = self.shared.lock();
        state.jobs.insert(number, job);
        state.doing = format!("running `{text}`");
        drop(state);
        let end = (Instant::now() + run.command.timeout + SLACK).min(self.deadline);
        self.request(&Request::Start { job: number, command: run.command })?;
        Ok(Job { node: self, number, text, end })
    }

    /// Waits until a program in this guest listens on a TCP port.
    pub fn await_port(&self, port: u16) -> Result<()> {
        self.run(Run::new(["/init", "await-port", &port.to_string(), "20"]))?.ok().map(drop)
    }

    /// Waits until a program in this guest listens on a port of the connection manager. The guest needs the C tools.
    pub fn await_cm_port(&self, port: u16) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(20);
        let wanted = format!(":{port} ");
        loop {
            let listed = self.run(Run::new(["rdma", "resource", "show", "cm_id"]))?.ok()?.text();
            if listed.lines().any(|line| line.contains("LISTEN") && line.contains(&wanted)) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("nothing listens on RDMA-CM port {port} after 20 s"));
            }
        }
    }

    /// Waits until a program in this guest listens on a TCP port. Returns false if `server`, which should be that program,
    /// ends first.
    pub fn await_port_of(&self, server: &Job<'_>, port: u16) -> Result<bool> {
        let look = self.spawn(Run::new(["/init", "await-port", &port.to_string(), "20"]))?;
        let what = format!("whether anything listens on port {port}");
        let listens = self.wait_until(look.end, &what, |state| {
            let ended = |job: &Job<'_>| state.jobs.get(&job.number).is_none_or(|job| job.end.is_some());
            if ended(&look) { Some(Ok(true)) } else { ended(server).then_some(Ok(false)) }
        })?;
        if !listens {
            look.signal(9)?;
            return look.wait().map(|_| false);
        }
        look.wait()?.ok().map(|_| true)
    }

    fn request(&self, request: &Request) -> Result<()> {
        let mut stream = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        send(&mut *stream, request).map_err(|error| self.gone(&error.to_string()))
    }

    pub(super) fn power_off(&self) -> Result<()> {
        self.request(&Request::Off)
    }

    /// Waits for power-off and returns what the kernel complained about.
    pub(super) fn finish(&mut self) -> Result<Vec<String>> {
        let end = Instant::now() + SLACK;
        self.wait_until(end, "its last word", |state| matches!(state.phase, Phase::Bye).then_some(Ok(())))?;
        while Instant::now() < end {
            match self.qemu.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Ok(Some(_)) => break,
                Err(error) => return Err(format!("{}: QEMU: {error}", self.name)),
            }
        }
        let mut lines = log::trouble(&self.log)?;
        if lines.is_empty() {
            // Only the log of a failed run is kept.
            let _ = std::fs::remove_file(&self.log.path);
        } else {
            lines.insert(0, format!("{} (all of it in {}):", self.name, self.log.path.display()));
        }
        Ok(lines)
    }

    /// Waits until `done` returns something. If the guest ends or the time is up, the error says what the guest was doing.
    fn wait_until<T>(
        &self,
        end: Instant,
        what: &str,
        done: impl Fn(&mut State) -> Option<Result<T>>,
    ) -> Result<T> {
        let mut state = self.shared.lock();
        loop {
            if let Some(result) = done(&mut state) {
                return result;
            }
            if let Phase::Gone(why) = &state.phase {
                return Err(self.gone(&format!("{why} while {}", state.doing)));
            }
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Err(format!(
                    "{}: no answer in time to {what}; it was {}; end of its kernel's log ({}):\n{}",
                    self.name,
                    state.doing,
                    self.log.path.display(),
                    log::tail(&self.log.path)
                ));
            };
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns the error of a guest that ended by itself.
    fn gone(&self, why: &str) -> String {
        // QEMU and the kernel need a moment for their last messages.
        thread::sleep(Duration::from_millis(300));
        let said = std::fs::read(&self.complaints).unwrap_or_default();
        let trouble = log::trouble(&self.log).unwrap_or_default();
        let last = if trouble.is_empty() { log::tail(&self.log.path) } else { trouble.join("\n") };
        let qemu = process::last_lines(&said, 3);
        format!(
            "{} ended by itself: {why}; {qemu}\nits kernel's log ({}):\n{last}",
            self.name,
            self.log.path.display()
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails only if it has exited already.
        let _ = self.qemu.kill().and_then(|()| self.qemu.wait().map(drop));
    }
}

/// A command that runs in a guest.
#[derive(Debug)]
pub struct Job<'node> {
    node: &'node Node,
    number: u32,
    text: String,
    end: Instant,
}

impl Job<'_> {
    /// Waits for its end.
    pub fn wait(&self) -> Result<Output> {
        let what = format!("`{}`", self.text);
        self.node.wait_until(self.end, &what, |state| {
            state.jobs.get(&self.number)?.end.as_ref()?;
            let job = state.jobs.remove(&self.number)?;
            if state.jobs.is_empty() {
                state.doing = IDLE.into();
            }
            Some(job.end?.map(|(status, usage)| Output {
                command: self.text.clone(),
                status,
                stdout: job.stdout,
                arrived: job.arrived,
                stderr: job.stderr,
                usage,
            }))
        })
    }

    /// Returns its standard output so far.
    pub fn stdout_so_far(&self) -> Vec<u8> {
        let state = self.node.shared.lock();
        state.jobs.get(&self.number).map_or(Vec::new(), |job| job.stdout.clone())
    }

    /// Sends it a signal by number.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.node.request(&Request::Signal { job: self.number, signal })
    }
}

fn accept(listener: &UnixListener, qemu: &mut Child) -> Result<UnixStream> {
    let failed = |error: std::io::Error| format!("control socket: {error}");
    listener.set_nonblocking(true).map_err(failed)?;
    for _ in 0..1000 {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(failed)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
        if let Ok(Some(status)) = qemu.try_wait() {
            return Err(format!("QEMU did not start ({status})"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err("QEMU has not connected in 10 s".into())
}

/// Tells the guest at intervals that its host is still there.
fn keep_alive(requests: &Weak<Mutex<UnixStream>>, shared: &Shared) {
    loop {
        thread::sleep(HEARTBEAT);
        // None when the node is dropped.
        let Some(requests) = requests.upgrade() else { return };
        // Before that, the guest's serial port may still be in terminal mode, which would garble a line.
        if !matches!(shared.lock().phase, Phase::Ready) {
            continue;
        }
        let mut stream = requests.lock().unwrap_or_else(PoisonError::into_inner);
        if send(&mut *stream, &Request::Alive).is_err() {
            // The reader of events reports that the guest is gone.
            return;
        }
    }
}

/// Handles a guest's events until it ends.
fn listen(mut events: BufReader<UnixStream>, shared: &Shared) {
    let why = loop {
        match receive(&mut events) {
            Ok(Some(event)) => {
                if let Err(error) = handle(event, &mut events, shared) {
                    break error.to_string();
                }
                shared.changed.notify_all();
            }
            Ok(None) => break "its machine stopped".to_owned(),
            Err(error) => break format!("control port: {error}"),
        }
    };
    let mut state = shared.lock();
    if !matches!(state.phase, Phase::Bye | Phase::Failed(_)) {
        state.phase = Phase::Gone(why);
    }
    shared.changed.notify_all();
}

fn handle(event: Event, events: &mut impl Read, shared: &Shared) -> std::io::Result<()> {
    match event {
        Event::Doing(what) => shared.lock().doing = what,
        Event::Ready => {
            let mut state = shared.lock();
            state.phase = Phase::Ready;
            state.doing = IDLE.into();
        }
        Event::Failed(reason) => shared.lock().phase = Phase::Failed(reason),
        Event::Bye => shared.lock().phase = Phase::Bye,
        Event::Output { job, stream, len } => {
            let mut bytes = vec![0; len];
            events.read_exact(&mut bytes)?;
            if let Some(state) = shared.lock().jobs.get_mut(&job) {
                state.output(stream, &bytes)?;
            }
        }
        Event::Exit { job, status, usage } => end(shared, job, Ok((status, usage))),
        Event::Refused { job, reason } => end(shared, job, Err(reason)),
    }
    Ok(())
}

fn end(shared: &Shared, job: u32, how: Result<(Status, Usage)>) {
    if let Some(state) = shared.lock().jobs.get_mut(&job) {
        state.end = Some(how);
    }
}

impl JobState {
    fn output(&mut self, stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
        match stream {
            Stream::Stdout => {
                self.stdout.extend(bytes);
                self.arrived.push((self.started.elapsed(), self.stdout.len()));
            }
            Stream::Stderr => self.stderr.extend(bytes),
        }
        let Some(live) = &self.live else { return Ok(()) };
        let shown = match &live.prefix {
            None => bytes.to_vec(),
            Some(prefix) => {
                let fresh = &mut self.fresh[stream as usize];
                let mut shown = Vec::with_capacity(bytes.len() + prefix.len());
                for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                    if *fresh {
                        shown.extend(prefix.as_bytes());
                    }
                    shown.extend(line);
                    *fresh = line.ends_with(b"\n");
                }
                shown
            }
        };
        match stream {
            Stream::Stdout => show(&mut std::io::stdout().lock(), &shown),
            Stream::Stderr => show(&mut std::io::stderr().lock(), &shown),
        }
        Ok(())
    }
}

/// Shows output as it is. A reader that went away (`| head`) does not stop the guest.
fn show(out: &mut impl Write, bytes: &[u8]) {
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}
