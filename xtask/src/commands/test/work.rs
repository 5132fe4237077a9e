//! Parts of the checks that stand alone, several at a time: an emulated guest leaves a processor idle half its time.

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

/// Does all of it in its order, so much at once.
pub(super) fn run(list: Vec<Work<'_>>, at_once: usize) -> Tally {
    let queue = Mutex::new(list.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut tally = Tally::default();
        while let Some(work) = next() {
            super::part(&mut tally, &work.name, work.run);
        }
        tally
    };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
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
            let tally = run((0..10).map(work).collect(), at_once);
            assert_eq!(tally.to_string(), "40 passed, 1 failed");
        }
    }
}
