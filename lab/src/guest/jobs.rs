//! Commands: starting them, sending their output to the host, reporting their end.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::agent::Wire;
use crate::protocol::{Command, Event, INIT, Status, Stream, Usage};

/// After a command's end, how long children that it left behind may be silent before their output is given up.
const LAST_WORDS: Duration = Duration::from_millis(300);
const PATH: &str = "/bin:/usr/bin:/sbin:/usr/sbin";

/// The running commands, by process.
#[derive(Clone)]
pub(crate) struct Jobs {
    running: Arc<Mutex<HashMap<i32, Job>>>,
    wire: Wire,
    init: Arc<Vec<String>>,
}

struct Job {
    number: u32,
    started: Instant,
    timed_out: bool,
    outputs: Vec<Output>,
    held: Arc<Mutex<Vec<Piece>>>,
}

/// A piece of a command's output.
type Piece = (Stream, Vec<u8>);

/// One of a command's two outputs.
struct Output {
    pipe: Arc<File>,
    /// Locked while a piece of output is being sent to the host.
    carrying: Arc<Mutex<()>>,
    /// Receives one message at the end of the stream.
    ended: Receiver<()>,
}

impl Jobs {
    /// `init` is how this program is started, for commands that run its helpers.
    pub(crate) fn new(wire: Wire, init: Vec<String>) -> Self {
        let jobs = Self { running: Arc::default(), wire, init: Arc::new(init) };
        let reaper = jobs.clone();
        thread::spawn(move || reaper.reap());
        jobs
    }

    /// Starts a command, or tells the host why it cannot be started.
    pub(crate) fn start(&self, number: u32, command: &Command) {
        // Locked before the start, so that the reaper never sees a process that is not in the table yet.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let child = match spawn(command, &self.init) {
            Ok(child) => child,
            Err(reason) => return self.wire.tell(&Event::Refused { job: number, reason }),
        };
        let pid = child.id() as i32;
        let ends = [
            (Stream::Stdout, child.stdout.map(OwnedFd::from)),
            (Stream::Stderr, child.stderr.map(OwnedFd::from)),
        ];
        let held = Arc::<Mutex<Vec<Piece>>>::default();
        let outputs = ends
            .into_iter()
            .filter_map(|(stream, pipe)| {
                let (wire, held) = (self.wire.clone(), command.held.then(|| Arc::clone(&held)));
                let tell = move |bytes: &[u8]| match &held {
                    Some(held) => {
                        held.lock().unwrap_or_else(PoisonError::into_inner).push((stream, bytes.to_vec()));
                    }
                    None => output(&wire, number, stream, bytes),
                };
                Some(Output::carry(File::from(pipe?), tell))
            })
            .collect();
        if let (Some(mut pipe), Some(text)) = (child.stdin, command.stdin.clone()) {
            thread::spawn(move || pipe.write_all(text.as_bytes()));
        }
        running.insert(pid, Job { number, started: Instant::now(), timed_out: false, outputs, held });
        drop(running);

        let (jobs, timeout) = (self.clone(), command.timeout);
        thread::spawn(move || {
            thread::sleep(timeout);
            let mut running = jobs.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(job) = running.get_mut(&pid).filter(|job| job.number == number) {
                job.timed_out = true;
                // It may have exited already.
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
        });
    }

    /// Sends a signal to a job's process group, if it still runs.
    pub(crate) fn signal(&self, number: u32, signal: i32) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = running.iter().find(|(_, job)| job.number == number).map(|(pid, _)| *pid);
        if let (Some(pid), Ok(signal)) = (pid, Signal::try_from(signal)) {
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }

    /// Kills every job and waits up to 2 s for them to exit.
    pub(crate) fn end(&self) {
        for _ in 0..200 {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if running.is_empty() {
                return;
            }
            for pid in running.keys() {
                let _ = killpg(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            drop(running);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reaps every child of process 1, adopted ones included.
    fn reap(&self) {
        loop {
            let seen = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            let Some(pid) = seen.ok().and_then(|status| status.pid()) else {
                thread::sleep(Duration::from_millis(2));
                continue;
            };
            // The times can be read until the process is reaped.
            let (user, system) = times(pid);
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let status = match waitpid(pid, None) {
                Ok(WaitStatus::Exited(_, code)) => Status::Code(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => Status::Signal(signal as i32),
                _ => Status::Code(-1),
            };
            if let Some(job) = running.remove(&pid.as_raw()) {
                let usage = Usage { wall: job.started.elapsed(), user, system };
                let wire = self.wire.clone();
                thread::spawn(move || report(&job, status, usage, &wire));
            }
        }
    }
}

impl Output {
    /// Passes the pipe's content to `tell`, piece by piece, until its end.
    fn carry(pipe: File, tell: impl Fn(&[u8]) + Send + 'static) -> Self {
        let (pipe, carrying, (tell_end, ended)) = (Arc::new(pipe), Arc::new(Mutex::new(())), channel());
        let output = Self { pipe: Arc::clone(&pipe), carrying: Arc::clone(&carrying), ended };
        thread::spawn(move || {
            let mut buffer = vec![0; 16 << 10];
            loop {
                // Waits without the lock. If this fails, the read reports why.
                readable(&pipe, PollTimeout::NONE);
                let _carrying = carrying.lock();
                let Ok(len @ 1..) = (&*pipe).read(&mut buffer) else { break };
                tell(&buffer[..len]);
            }
            // The receiver is gone if the output came too late.
            let _ = tell_end.send(());
        });
        output
    }

    /// Waits for the end of the stream, or until only children that were left behind could still write.
    fn wait(&self) {
        while self.ended.recv_timeout(LAST_WORDS).is_err() && self.has_more() {}
    }

    /// Whether the pipe has content, once no piece is being sent.
    fn has_more(&self) -> bool {
        let _carrying = self.carrying.lock();
        readable(&self.pipe, PollTimeout::ZERO)
    }
}

/// Waits until a pipe has content; false after `patience`.
fn readable(pipe: &File, patience: PollTimeout) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, patience).is_ok_and(|_| fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLIN)))
}

/// Sends a piece of a command's output.
fn output(wire: &Wire, job: u32, stream: Stream, bytes: &[u8]) {
    wire.tell_with(&Event::Output { job, stream, len: bytes.len() }, bytes);
}

fn report(job: &Job, status: Status, usage: Usage, wire: &Wire) {
    job.outputs.iter().for_each(Output::wait);
    for (stream, bytes) in job.held.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        output(wire, job.number, stream, &bytes);
    }
    let status = if job.timed_out { Status::TimedOut } else { status };
    wire.tell(&Event::Exit { job: job.number, status, usage });
}

fn spawn(command: &Command, init: &[String]) -> Result<Child, String> {
    let [program, arguments @ ..] = command.argv.as_slice() else {
        return Err("no command was given".into());
    };
    let (program, leading) = match init {
        [loader, leading @ ..] if program == INIT => (loader, leading),
        _ => (program, [].as_slice()),
    };
    let mut process = std::process::Command::new(program);
    process
        .args(leading)
        .args(arguments)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/"), ("TERM", "linux")])
        .envs(command.env.iter().map(|(key, value)| (key, value)))
        .current_dir(command.cwd.as_deref().unwrap_or("/"))
        .stdin(if command.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(uid) = command.uid {
        process.uid(uid).gid(uid);
    }
    // The child inherits the limit. Process 1 locks no memory, and root may raise the limit again.
    let limit = command.memlock.unwrap_or(RLIM_INFINITY);
    setrlimit(Resource::RLIMIT_MEMLOCK, limit, limit)
        .map_err(|errno| format!("memlock limit {limit}: {errno}"))?;
    match command.cpu {
        None => process.spawn(),
        Some(cpu) => on_processor(cpu, || process.spawn())?,
    }
    .map_err(|error| format!("{program}: {error}"))
}

/// Runs `act` bound to processor `cpu`, modulo their number. A child that `act` starts stays bound.
fn on_processor<T>(cpu: usize, act: impl FnOnce() -> T) -> Result<T, String> {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this).map_err(|errno| format!("processors: {errno}"))?;
    let mut only = CpuSet::new();
    let count = (0..CpuSet::count()).filter(|&cpu| before.is_set(cpu) == Ok(true)).count();
    only.set(cpu % count)
        .and_then(|()| sched_setaffinity(this, &only))
        .map_err(|errno| format!("processor {cpu}: {errno}"))?;
    let done = act();
    sched_setaffinity(this, &before).map_err(|errno| format!("processors: {errno}"))?;
    Ok(done)
}

/// Returns the user and system time of a process, all threads together.
fn times(pid: Pid) -> (Duration, Duration) {
    /// USER_HZ, which is 100 on every x86 and arm64 kernel.
    const TICK: Duration = Duration::from_millis(10);
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command's name may contain spaces; the fields behind its closing bracket do not.
    let after = text.rsplit_once(") ").map_or("", |(_, after)| after);
    let mut ticks = after.split(' ').skip(11).map(|field| field.parse::<u32>().unwrap_or(0));
    (TICK * ticks.next().unwrap_or(0), TICK * ticks.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::pipe;

    use super::*;

    #[test]
    fn last_words_are_not_lost_on_a_slow_way() {
        const LENGTH: usize = 40_000;
        // A child that is left behind keeps the other end open.
        let (pipe, mut child) = pipe().unwrap();
        child.write_all(&[7; LENGTH]).unwrap();
        let told = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&told);
        let output = Output::carry(File::from(OwnedFd::from(pipe)), move |bytes| {
            thread::sleep(LAST_WORDS + LAST_WORDS / 3);
            *counted.lock().unwrap() += bytes.len();
        });
        output.wait();
        assert_eq!(*told.lock().unwrap(), LENGTH);
    }
}
