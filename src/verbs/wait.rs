//! Waiting for completions: spin, yield, then sleep.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Cq;
use crate::error::{Error, Result};
use crate::sys::linux;
use crate::types::Wc;

/// How to wait for completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Never sleep: least latency, a whole CPU.
    Poll,
    /// Sleep on the channel at once: least CPU.
    Events,
    /// Poll for so long, giving way to whoever else wants the CPU, then sleep.
    Adaptive(Duration),
}

impl Default for Wait {
    /// Adaptive, with a time that is longer than a message takes, even if it has to wait for a scheduler's slice, and shorter than
    /// anybody would call busy.
    fn default() -> Self {
        Self::Adaptive(Duration::from_millis(5))
    }
}

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Waited<T> {
    /// What was waited for.
    Ready(T),
    /// The timeout ran out.
    TimedOut,
    /// A signal was caught.
    Interrupted,
}

impl<T> Waited<T> {
    /// Returns what was waited for, or `None` after a time-out or a signal.
    pub fn ready(self) -> Option<T> {
        match self {
            Self::Ready(got) => Some(got),
            Self::TimedOut | Self::Interrupted => None,
        }
    }
}

impl<'w> Waited<&'w [Wc]> {
    /// Returns the completions: none after a time-out or a signal.
    #[must_use]
    pub fn completions(self) -> &'w [Wc] {
        self.ready().unwrap_or_default()
    }
}

impl<'w> IntoIterator for Waited<&'w [Wc]> {
    type Item = &'w Wc;
    type IntoIter = std::slice::Iter<'w, Wc>;

    fn into_iter(self) -> Self::IntoIter {
        self.completions().iter()
    }
}

/// The fewest and the most looks before giving way and looking at the clock.
struct Looks {
    fewest: u32,
    most: u32,
}

/// Where the kernel does the device's work and may wait for this processor, and where the device needs no kernel.
const SERVED: Looks = Looks { fewest: 64, most: 1024 };
const BYPASSING: Looks = Looks { fewest: 1024, most: 65_536 };

impl Looks {
    /// How many after so many: twice as many, because who has waited so long has let those run who were in the way, and giving way
    /// costs more than many looks. Where giving way has helped, somebody needs the processor for what is awaited: fewer.
    fn after(&self, looks: u32, helped: bool) -> u32 {
        if helped { self.fewest.max(looks / 2) } else { self.most.min(2 * looks) }
    }
}

impl Cq {
    /// Takes completions out, waiting for the first.
    ///
    /// `timeout` of `None` waits without a limit. A caught signal ends a sleep; while the queue is polled ([`Wait::Poll`], and the
    /// beginning of [`Wait::Adaptive`]) a signal is not noticed. All but [`Wait::Poll`] need a queue with a channel of its own
    /// ([`super::CqInit::own_channel`]).
    ///
    /// # Errors
    /// The queue has no channel of its own, or the device is gone.
    #[inline(always)]
    pub fn wait<'w>(
        &mut self,
        wcs: &'w mut [Wc],
        how: Wait,
        timeout: Option<Duration>,
    ) -> Result<Waited<&'w [Wc]>> {
        loop {
            let taken = self.ring.poll(wcs);
            if taken > 0 || wcs.is_empty() {
                return Ok(Waited::Ready(&wcs[..taken]));
            }
            let waited = match how {
                Wait::Poll => self.spin(timeout, false),
                Wait::Events => self.sleep(timeout)?,
                Wait::Adaptive(spin) => self.spin_then_sleep(spin, timeout)?,
            };
            match waited {
                Waited::Ready(()) => {}
                Waited::TimedOut => return Ok(Waited::TimedOut),
                Waited::Interrupted => return Ok(Waited::Interrupted),
            }
        }
    }

    /// Takes completions out; where there are none, leaves the queue armed, so that the descriptor of its own channel
    /// ([`Cq::own_channel`]) becomes readable at the next one. Never sleeps.
    ///
    /// In an event loop: call this until it returns none, then wait for the descriptor.
    ///
    /// # Errors
    /// As [`Cq::wait`].
    pub fn poll_or_arm<'w>(&mut self, wcs: &'w mut [Wc]) -> Result<&'w [Wc]> {
        Ok(self.wait(wcs, Wait::Events, Some(Duration::ZERO))?.completions())
    }

    #[inline(never)]
    fn spin_then_sleep(&mut self, spin: Duration, timeout: Option<Duration>) -> Result<Waited<()>> {
        let shorter = timeout.map_or(spin, |timeout| timeout.min(spin));
        match self.spin(Some(shorter), true) {
            Waited::Ready(()) => Ok(Waited::Ready(())),
            _ => self.sleep(timeout.map(|timeout| timeout - shorter)),
        }
    }

    /// Looks until there is a completion or the time is over.
    #[inline(never)]
    fn spin(&mut self, timeout: Option<Duration>, give_way: bool) -> Waited<()> {
        let mut start = None;
        let bypasses = self.ring.bypasses_kernel();
        let bounds = if bypasses { BYPASSING } else { SERVED };
        // What one wait has learnt of a device that needs no kernel holds for the next.
        let learns = bypasses && give_way;
        let mut looks = if bypasses { self.looks.max(bounds.fewest) } else { bounds.fewest };
        loop {
            for _ in 0..looks {
                if !self.ring.is_empty() {
                    return Waited::Ready(());
                }
            }
            if give_way {
                std::thread::yield_now();
            }
            looks = bounds.after(looks, learns && !self.ring.is_empty());
            if learns {
                self.looks = looks;
            }
            let start = *start.get_or_insert_with(Instant::now);
            if timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
                return Waited::TimedOut;
            }
        }
    }

    /// Arms the queue and sleeps until there is a completion.
    #[inline(never)]
    fn sleep(&mut self, timeout: Option<Duration>) -> Result<Waited<()>> {
        let Self { ring, handle: super::CqHandle(core), armed, .. } = self;
        let uverbs = &core.object.ctx.uverbs;
        let Some(channel) = &core.own_channel else {
            let why = "the completion queue has no channel of its own";
            return Err(Error::invalid("wait", uverbs.device(), why)
                .with_hint("make it with CqInit::own_channel(), or poll"));
        };
        loop {
            if !*armed {
                core.arm(ring, false)?;
                *armed = true;
            }
            // A completion that came before the queue was armed causes no event.
            if !ring.is_empty() {
                return Ok(Waited::Ready(()));
            }
            if let Some(timeout) = timeout {
                match linux::wait_readable(channel.as_fd(), linux::poll_timeout(timeout)) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Waited::TimedOut),
                    Err(Errno::EINTR) => return Ok(Waited::Interrupted),
                    Err(errno) => return Err(uverbs.error("get_cq_event", errno)),
                }
            }
            match channel.read() {
                Ok(Some(_)) => {
                    core.count();
                    // A doorbell now does not come between the answer and the sleep; a system call may yet be saved.
                    *armed = ring.bypasses_kernel();
                    if *armed {
                        core.arm(ring, false)?;
                    }
                }
                Ok(None) => {}
                Err(Errno::EINTR) => return Ok(Waited::Interrupted),
                Err(errno) => return Err(uverbs.error("get_cq_event", errno)),
            }
            if !ring.is_empty() {
                return Ok(Waited::Ready(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_learns_whether_giving_way_helps() {
        let after = |looks, helped| (0..100).fold(looks, |looks, _| BYPASSING.after(looks, helped));
        assert_eq!(after(BYPASSING.fewest, false), BYPASSING.most);
        assert_eq!(after(BYPASSING.most, true), BYPASSING.fewest);
        let often = BYPASSING.after(after(BYPASSING.most, true), false);
        assert_eq!(BYPASSING.after(often, true), BYPASSING.fewest, "one that did not help is soon forgotten");
    }
}
