//! What who posts to a work queue and who polls its completions share: the requests' names, and how far each has come.
//!
//! Requests are numbered from 0 as they are posted. The slots themselves belong to who posts; the device reads them and never
//! writes. So one word is enough for each side: the poster's `head`, the poller's `tail`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

use crate::sys::slots::Numbers;

/// Of one queue; its length is a power of two.
#[derive(Debug)]
pub(super) struct Ring {
    wr_ids: Numbers,
    /// The number of the next request to be posted.
    head: AtomicU32,
    /// The number of the oldest request that has not completed.
    tail: AtomicU32,
}

impl Ring {
    /// # Errors
    /// There is not enough memory.
    pub(super) fn new(slots: u32) -> Result<Arc<Self>, Errno> {
        let wr_ids = Numbers::new(slots)?;
        Ok(Arc::new(Self { wr_ids, head: AtomicU32::new(0), tail: AtomicU32::new(0) }))
    }

    /// The oldest outstanding request has completed; gives its name, or nothing where none is outstanding.
    #[inline(always)]
    pub(super) fn complete_oldest(&self) -> Option<u64> {
        self.complete_after(self.tail.load(Ordering::Relaxed), 0)
    }

    /// The request whose number ends in `low`, and all before it, have completed; nothing where it is not outstanding.
    #[inline(always)]
    pub(super) fn complete(&self, low: u16) -> Option<u64> {
        let tail = self.tail.load(Ordering::Relaxed);
        self.complete_after(tail, low.wrapping_sub(tail as u16))
    }

    /// The request so many `after` the oldest one has completed.
    #[inline(always)]
    fn complete_after(&self, tail: u32, after: u16) -> Option<u64> {
        // The poster stored name and head before the device could know of the request.
        let outstanding = self.head.load(Ordering::Relaxed).wrapping_sub(tail);
        if u32::from(after) >= outstanding {
            return None;
        }
        let number = tail.wrapping_add(after.into());
        let wr_id = self.wr_ids.at(number).load(Ordering::Relaxed);
        // Release: the slot may be filled anew, so our look at its name comes before.
        self.tail.store(number.wrapping_add(1), Ordering::Release);
        Some(wr_id)
    }
}

/// The poster's side.
#[derive(Debug)]
pub(super) struct Producer {
    ring: Arc<Ring>,
    /// The poller's `tail` when last looked at.
    tail: u32,
    /// How many requests may be outstanding: `max`, or 0 after a restart that failed.
    room: u32,
    max: u32,
}

impl Producer {
    pub(super) fn new(ring: Arc<Ring>, max: u32) -> Self {
        Self { ring, tail: 0, room: max, max }
    }

    /// Starts again from request 0, on another ring; without one, nothing more can be posted until the next call.
    pub(super) fn restart(&mut self, ring: Option<Arc<Ring>>) {
        match ring {
            Some(ring) => (self.ring, self.tail, self.room) = (ring, 0, self.max),
            None => self.room = 0,
        }
    }

    /// What is shared with the poller.
    pub(super) fn shared(&self) -> Arc<Ring> {
        Arc::clone(&self.ring)
    }

    /// How many requests were posted so far.
    #[inline(always)]
    pub(super) fn posted(&self) -> u32 {
        self.ring.head.load(Ordering::Relaxed)
    }

    /// The place of the next request; `None` while as many are outstanding as may be.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Place<'_>> {
        let head = self.posted();
        if head.wrapping_sub(self.tail) >= self.room {
            // Acquire: pairs with the poller's release, so that it has read the name that we overwrite.
            self.tail = self.ring.tail.load(Ordering::Acquire);
            if head.wrapping_sub(self.tail) >= self.room {
                return None;
            }
        }
        Some(Place { ring: &self.ring, number: head })
    }
}

/// The place of a request that is being written.
pub(super) struct Place<'r> {
    ring: &'r Ring,
    pub(super) number: u32,
}

impl Place<'_> {
    /// Lets the poller know of the request, and of its name. The device must not know of it before: its completion may come at
    /// once, to another thread.
    #[inline(always)]
    pub(super) fn announce(self, wr_id: u64) {
        self.ring.wr_ids.at(self.number).store(wr_id, Ordering::Relaxed);
        self.ring.head.store(self.number.wrapping_add(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
