//! The loop: one thread for everything, connections that are played and what the connection manager tells.
//!
//! As long as something completes, nothing else is looked at but now and then. When nothing has for 5 ms, the thread sleeps on
//! all descriptors at once.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollTimeout};

use super::run::{EVENTS, Run, unwatched};
use super::session::Session;
use crate::outcome::{Failure, Outcome};
use crate::output::Tool;

/// How long to look for completions before sleeping, how often between two looks at the clock, and how long before the connection
/// manager's events are looked for though there are completions.
const SPIN: Duration = Duration::from_millis(5);
const LOOKS: u32 = 64;

/// How often something completes, each within a few looks, before they are looked for without a look at the clock.
const TURNS: u32 = 1024;

/// What is due after a look for completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Another.
    Look,
    /// A look for the connection manager's events.
    Tend,
    /// To sleep until something happens.
    Sleep,
}

struct Pace {
    turns: u32,
    looks: u32,
    /// Since when nothing has completed.
    idle: Option<Instant>,
    /// When the connection manager's events were last looked for.
    tended: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { turns: 0, looks: 0, idle: None, tended: now }
    }

    /// `now` is only asked for when nothing has completed for some looks.
    #[inline]
    fn due(&mut self, completed: bool, now: impl FnOnce() -> Instant) -> Due {
        if completed {
            (self.looks, self.idle) = (0, None);
            self.turns = self.turns.wrapping_add(1);
            return if self.turns.is_multiple_of(TURNS) { Due::Tend } else { Due::Look };
        }
        self.looks += 1;
        if !self.looks.is_multiple_of(LOOKS) {
            return Due::Look;
        }
        let now = now();
        if now - *self.idle.get_or_insert(now) >= SPIN {
            (self.looks, self.idle) = (0, None);
            Due::Sleep
        } else if now - self.tended >= SPIN {
            Due::Tend
        } else {
            Due::Look
        }
    }
}

impl Run<'_> {
    /// Plays until the client has sent all its messages, or the server's one client has left.
    pub(super) fn play(&mut self) -> Outcome {
        let mut pace = Pace::new(Instant::now());
        while !self.is_over() {
            let due = match self.sessions.is_empty() {
                true => Due::Sleep,
                false => pace.due(self.turn()?, || {
                    std::thread::yield_now();
                    Instant::now()
                }),
            };
            match due {
                Due::Look => continue,
                Due::Tend => self.tend(EpollTimeout::ZERO)?,
                Due::Sleep => self.sleep()?,
            }
            pace.tended = Instant::now();
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        match self.plan.server {
            true => self.served && self.sessions.is_empty() && !self.plan.persistent,
            false => self.sessions.iter().all(Session::is_done),
        }
    }

    /// Handles what has completed; false if nothing has.
    #[inline]
    fn turn(&mut self) -> Result<bool, Failure> {
        self.each(|session, tool| session.turn(tool))
    }

    /// Does something with every session; those that fail are lost.
    #[inline]
    fn each(
        &mut self,
        mut what: impl FnMut(&mut Session, &Tool) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let (mut any, mut at) = (false, 0);
        while let Some(session) = self.sessions.get_mut(at) {
            match what(session, self.tool) {
                Ok(one) => {
                    any |= one;
                    at += 1;
                }
                Err(why) => self.lose(at, why)?,
            }
        }
        Ok(any)
    }

    /// Sleeps until something happens.
    fn sleep(&mut self) -> Outcome {
        if self.each(Session::arm)? || self.is_over() {
            return Ok(());
        }
        let timeout = self.patience();
        self.tend(timeout)
    }

    /// Waits for the descriptors, and handles what the connection manager tells.
    fn tend(&mut self, timeout: EpollTimeout) -> Outcome {
        let mut ready = [EpollEvent::empty(); 16];
        let ready = match self.epoll.wait(&mut ready, timeout) {
            Ok(n) => &ready[..n],
            Err(Errno::EINTR) => &[],
            Err(errno) => return Err(unwatched("epoll_wait", errno)),
        };
        self.interrupted()?;
        let mut told = false;
        for one in ready {
            match one.data() {
                EVENTS => told = true,
                handle => self.disarm(handle)?,
            }
        }
        if told {
            while let Some(event) = self.events.next_event()? {
                self.handle(event)?;
            }
        }
        self.silent()
    }

    /// The completion queue of a session has an event; one whose device has gone has none any more.
    fn disarm(&mut self, handle: u64) -> Outcome {
        let mut sessions = self.sessions.iter_mut();
        let Some(at) = sessions.position(|session| session.wires.id.user_handle() == handle) else {
            return Ok(());
        };
        match self.sessions[at].disarm() {
            Ok(()) => Ok(()),
            Err(why) => self.lose(at, why),
        }
    }

    /// How long to sleep at most: until somebody has been silent for too long.
    fn patience(&mut self) -> EpollTimeout {
        let longest = self.sessions.iter_mut().map(Session::silence).max();
        match (self.plan.timeout, longest) {
            (Some(limit), Some(longest)) => {
                let left = limit.saturating_sub(longest).as_millis().saturating_add(1);
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            }
            _ => EpollTimeout::NONE,
        }
    }

    /// Gives up those who have been silent for too long.
    fn silent(&mut self) -> Outcome {
        let Some(limit) = self.plan.timeout else { return Ok(()) };
        self.each(|session, tool| {
            // Whoever was stopped while something came has not looked yet.
            if session.silence() < limit || session.turn(tool)? {
                return Ok(false);
            }
            let (wanted, _) = session.waits_for();
            let limit = limit.as_secs();
            Err(Failure::new(format!("wait for {wanted}: nothing has come from the peer for {limit} s")))
        })
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is due, at which tenth of a millisecond, when something completes every so many of them.
    fn due(every: u32) -> Vec<(u32, Due)> {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut list = Vec::new();
        for tenth in 1..=1000 {
            let now = start + tenth * Duration::from_micros(100);
            for look in 0..LOOKS {
                let due = pace.due(look == 0 && tenth % every == 0, || now);
                if due != Due::Look {
                    list.push((tenth, due));
                    pace.tended = now;
                }
            }
        }
        list
    }

    #[test]
    fn slow_completions_keep_nobody_waiting() {
        let list = due(30);
        assert!(list.iter().all(|(_, due)| *due == Due::Tend), "{list:?}");
        assert!(list.windows(2).all(|pair| pair[1].0 - pair[0].0 < 100) && list.len() > 10, "{list:?}");
    }

    #[test]
    fn who_waits_longer_sleeps() {
        assert!(due(80).iter().any(|(_, due)| *due == Due::Sleep));
    }

    #[test]
    fn the_clock_is_not_asked_while_something_completes() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let tended = (0..2 * TURNS).filter(|_| pace.due(true, || unreachable!()) == Due::Tend).count();
        assert_eq!(tended, 2);
    }
}
