//! Parts of the checks that stand alone, several at a time: an emulated guest leaves a processor idle for part of its time.

use std::fs;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use crate::progress::human;
use crate::tally::Tally;
use crate::{Result, process};

/// A part that does not depend on another. Most boot a guest.
pub(super) struct Work<'a> {
    name: String,
    what: String,
    run: Box<dyn FnOnce() -> Result<Tally> + Send + 'a>,
}

impl<'a> Work<'a> {
    /// A part, what it checks in a few words, and the function that does it. An error is one failure.
    pub(super) fn new(
        name: impl Into<String>,
        what: impl Into<String>,
        run: impl FnOnce() -> Result<Tally> + Send + 'a,
    ) -> Self {
        Self { name: name.into(), what: what.into(), run: Box::new(run) }
    }

    /// Does it, and prints its beginning, its end and its time.
    pub(super) fn run(self) -> Tally {
        let started = Instant::now();
        println!("{} … {}", self.name, self.what);
        let mut tally = Tally::default();
        super::part(&mut tally, &self.name, self.run);
        println!("{}: {tally} ({})", self.name, human(started.elapsed()));
        tally
    }
}

/// Lets every other thread and process go before this thread and the programs that it starts from now on, so that they use
/// what guests leave idle. Without `renice`, they share.
pub(super) fn give_way() {
    // The link's target is PID/task/TID.
    let Ok(thread) = fs::read_link("/proc/thread-self") else { return };
    if let Some(id) = thread.file_name() {
        let _ = process::output(Command::new("renice").args(["-n", "10", "-p"]).arg(id));
    }
}

/// Where work is put that is to be done.
pub(super) struct Queue<'a>(Sender<Work<'a>>);

impl<'a> Queue<'a> {
    /// Adds work behind all that was put before.
    pub(super) fn put(&self, work: Work<'a>) {
        // Nobody takes it only if every worker has panicked, which is counted.
        let _ = self.0.send(work);
    }
}

/// Does the work that `list` puts into the queue, in its order, `at_once` parts at a time. The first parts run while `list` goes on,
/// which drops the queue when nothing more will come.
pub(super) fn run<'a>(at_once: usize, list: impl FnOnce(Queue<'a>)) -> Tally {
    let (queue, work) = channel::<Work<'a>>();
    let (queue, work) = (Queue(queue), Mutex::new(work));
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let work = || {
        let mut tally = Tally::default();
        while let Ok(work) = next() {
            tally.add(work.run());
        }
        tally
    };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        list(queue);
        for worker in workers {
            match worker.join() {
                Ok(counted) => tally.add(counted),
                Err(_) => tally.fail("a part panicked: its message is above"),
            }
        }
    });
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_and_counted_once() {
        for at_once in [1, 3, 20] {
            let work = |n: usize| {
                Work::new(format!("work {n}"), "nothing", move || {
                    let mut tally = Tally::default();
                    tally.pass(n);
                    if n == 5 { Err("broken".into()) } else { Ok(tally) }
                })
            };
            let tally = run(at_once, |queue| (0..10).map(work).for_each(|work| queue.put(work)));
            assert_eq!(tally.to_string(), "40 passed, 1 failed");
        }
    }
}
