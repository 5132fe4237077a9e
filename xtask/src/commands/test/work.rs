//! Parts of the checks that stand alone, several at a time: an emulated guest leaves a processor idle half its time.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::Result;
use crate::tally::Tally;

/// A part that needs no other: most boot a guest.
pub(super) struct Work<'a> {
    name: String,
    run: Box<dyn FnOnce() -> Result<Tally> + Send + 'a>,
}

impl<'a> Work<'a> {
    /// A part and what does it; if that can't be done, it is one failure.
    pub(super) fn new(name: impl Into<String>, run: impl FnOnce() -> Result<Tally> + Send + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Where parts are put that are to be done.
pub(super) struct Queue<'a>(Sender<Work<'a>>);

impl<'a> Queue<'a> {
    /// One more part, after all that were put before.
    pub(super) fn put(&self, work: Work<'a>) {
        // Nobody takes it only if every worker has panicked, which is counted.
        let _ = self.0.send(work);
    }
}

/// Does what `list` puts into the queue, in its order, so much at once; the first of it while `list` goes on.
pub(super) fn run<'a>(at_once: usize, list: impl FnOnce(Queue<'a>)) -> Tally {
    let (queue, work) = channel::<Work<'a>>();
    let (queue, work) = (Queue(queue), Mutex::new(work));
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let work = || {
        let mut tally = Tally::default();
        while let Ok(work) = next() {
            super::part(&mut tally, &work.name, work.run);
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
    fn all_is_done_and_counted_once() {
        for at_once in [1, 3, 20] {
            let work = |n: usize| {
                Work::new(format!("work {n}"), move || {
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
