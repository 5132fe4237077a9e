//! Waiting for completions: spin, give way, then sleep.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Cq;
use super::cq::CqCore;
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
    /// Adaptive, with a time that is longer than a message takes and shorter than anybody would call busy.
    fn default() -> Self {
        Self::Adaptive(Duration::from_millis(2))
    }
}

/// How often to look between two looks at the clock, and before giving way the first time.
const LOOKS: u32 = 64;

impl Cq {
    /// Takes completions out, waiting for the first.
    ///
    /// Gives none where `timeout` ran out or a signal was caught. All but [`Wait::Poll`] need a queue with a channel of its own
    /// ([`super::CqInit::own_channel`]).
    ///
    /// # Errors
    /// The queue has no channel of its own, or the device is gone.
    #[inline]
    pub fn wait<'w>(&mut self, wcs: &'w mut [Wc], how: Wait, timeout: Option<Duration>) -> Result<&'w [Wc]> {
        let mut taken = self.ring.poll(wcs);
        if taken == 0 && !wcs.is_empty() {
            taken = self.wait_for_one(wcs, how, timeout)?;
        }
        Ok(&wcs[..taken])
    }

    /// The same where there was nothing; gives how many were taken out.
    #[inline(never)]
    fn wait_for_one(&mut self, wcs: &mut [Wc], how: Wait, timeout: Option<Duration>) -> Result<usize> {
        let timeout = match how {
            Wait::Poll => return Ok(self.spin(wcs, timeout, false)),
            Wait::Events => timeout,
            Wait::Adaptive(spin) => {
                let shorter = timeout.map_or(spin, |timeout| timeout.min(spin));
                match self.spin(wcs, Some(shorter), true) {
                    0 => timeout.map(|timeout| timeout - shorter),
                    taken => return Ok(taken),
                }
            }
        };
        self.sleep(wcs, timeout)
    }

    /// Looks until there is something or the time is over; 0 then.
    fn spin(&mut self, wcs: &mut [Wc], timeout: Option<Duration>, give_way: bool) -> usize {
        let mut start = None;
        loop {
            for _ in 0..LOOKS {
                let taken = self.ring.poll(wcs);
                if taken > 0 {
                    return taken;
                }
                // Who never sleeps has no time for a pause either; in an emulated guest it would stop the processor's thread.
                if give_way {
                    std::hint::spin_loop();
                }
            }
            if give_way {
                std::thread::yield_now();
            }
            let start = *start.get_or_insert_with(Instant::now);
            if timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
                return 0;
            }
        }
    }

    /// Arms the queue and sleeps until there is something; 0 when the time ran out or a signal was caught.
    #[inline(always)] // into the one place that calls it
    fn sleep(&mut self, wcs: &mut [Wc], timeout: Option<Duration>) -> Result<usize> {
        let Self { ring, core, armed, .. } = self;
        let CqCore { object, channel, own_channel, .. } = &**core;
        let uverbs = &object.ctx.uverbs;
        let Some(channel) = channel.as_ref().filter(|_| *own_channel) else {
            let why = "the completion queue has no channel of its own";
            return Err(Error::invalid("wait", uverbs.device(), why)
                .hint("make it with CqInit::own_channel(), or poll"));
        };
        loop {
            if !*armed {
                ring.arm(uverbs, object.handle, false, core.events())
                    .map_err(|e| uverbs.error("req_notify_cq", e))?;
                *armed = true;
            }
            // What came before the queue was armed is not told.
            let taken = ring.poll(wcs);
            if taken > 0 {
                return Ok(taken);
            }
            if let Some(timeout) = timeout {
                match linux::wait_readable(channel.as_fd(), linux::poll_timeout(timeout)) {
                    Ok(true) => {}
                    Ok(false) | Err(Errno::EINTR) => return Ok(0),
                    Err(errno) => return Err(uverbs.error("get_cq_event", errno)),
                }
            }
            match channel.read() {
                Ok(event) => {
                    core.count(event.is_some());
                    *armed = false;
                }
                Err(Errno::EINTR) => return Ok(0),
                Err(errno) => return Err(uverbs.error("get_cq_event", errno)),
            }
            let taken = ring.poll(wcs);
            if taken > 0 {
                return Ok(taken);
            }
        }
    }
}
