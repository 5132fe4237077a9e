//! Waiting for completions: spin, give way, then sleep.

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

/// The fewest and the most looks before giving way and looking at the clock: where the kernel does the device's work and may wait
/// for this processor, and where the device needs no kernel. It doubles each time, because who has waited so long has let those run
/// who were in the way, and giving way costs more than many looks.
const SERVED: (u32, u32) = (64, 1024);
const BYPASSING: (u32, u32) = (1024, 65_536);

impl Cq {
    /// Takes completions out, waiting for the first.
    ///
    /// Gives none where `timeout` ran out or a signal was caught. All but [`Wait::Poll`] need a queue with a channel of its own
    /// ([`super::CqInit::own_channel`]).
    ///
    /// # Errors
    /// The queue has no channel of its own, or the device is gone.
    #[inline(always)]
    pub fn wait<'w>(&mut self, wcs: &'w mut [Wc], how: Wait, timeout: Option<Duration>) -> Result<&'w [Wc]> {
        loop {
            let taken = self.ring.poll(wcs);
            if taken > 0 || wcs.is_empty() {
                return Ok(&wcs[..taken]);
            }
            let there_is = match how {
                Wait::Poll => self.spin(timeout, false),
                Wait::Events => self.sleep(timeout)?,
                Wait::Adaptive(spin) => self.spin_then_sleep(spin, timeout)?,
            };
            if !there_is {
                return Ok(&[]);
            }
        }
    }

    #[inline(never)]
    fn spin_then_sleep(&mut self, spin: Duration, timeout: Option<Duration>) -> Result<bool> {
        let shorter = timeout.map_or(spin, |timeout| timeout.min(spin));
        Ok(self.spin(Some(shorter), true) || self.sleep(timeout.map(|timeout| timeout - shorter))?)
    }

    /// Looks until there is something; false when the time is over.
    #[inline(never)]
    fn spin(&mut self, timeout: Option<Duration>, give_way: bool) -> bool {
        let mut start = None;
        let bypasses = self.ring.bypasses_kernel();
        let (fewest, most) = if bypasses { BYPASSING } else { SERVED };
        // What one wait has learnt of a device that needs no kernel holds for the next.
        let mut looks = if bypasses { self.looks.max(fewest) } else { fewest };
        loop {
            for _ in 0..looks {
                if !self.ring.is_empty() {
                    return true;
                }
            }
            looks = most.min(2 * looks);
            if give_way {
                std::thread::yield_now();
                if bypasses {
                    // Where somebody needs the processor for what is awaited, giving way brings it and is worth doing sooner.
                    if !self.ring.is_empty() {
                        looks = fewest.max(looks / 4);
                    }
                    self.looks = looks;
                }
            }
            let start = *start.get_or_insert_with(Instant::now);
            if timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
                return false;
            }
        }
    }

    /// Arms the queue and sleeps until there is something; false when the time ran out or a signal was caught.
    #[inline(never)]
    fn sleep(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let Self { ring, core, armed, .. } = self;
        let uverbs = &core.object.ctx.uverbs;
        let Some(channel) = &core.own_channel else {
            let why = "the completion queue has no channel of its own";
            return Err(Error::invalid("wait", uverbs.device(), why)
                .hint("make it with CqInit::own_channel(), or poll"));
        };
        loop {
            if !*armed {
                core.arm(ring, false)?;
                *armed = true;
            }
            // What came before the queue was armed is not told.
            if !ring.is_empty() {
                return Ok(true);
            }
            if let Some(timeout) = timeout {
                match linux::wait_readable(channel.as_fd(), linux::poll_timeout(timeout)) {
                    Ok(true) => {}
                    Ok(false) | Err(Errno::EINTR) => return Ok(false),
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
                Err(Errno::EINTR) => return Ok(false),
                Err(errno) => return Err(uverbs.error("get_cq_event", errno)),
            }
            if !ring.is_empty() {
                return Ok(true);
            }
        }
    }
}
