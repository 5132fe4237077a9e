//! What the two sides of a work queue share: the `wr_id`s of the requests, and how far each side has come.
//!
//! Requests are numbered from 0 as they are posted. The slots of the queue itself belong to the poster: the device only reads
//! them. So one word is enough for each side, the poster's `head` and the poller's `tail`.

use std::sync::Arc;

use nix::errno::Errno;

use crate::sys::slots::Numbers;
use crate::sys::sync::{AtomicU32, Ordering};

/// Shared by the poster and the poller of one work queue.
#[derive(Debug)]
pub(super) struct WorkQueue {
    /// By request number.
    wr_ids: Numbers,
    /// The number of the next request to be posted.
    head: AtomicU32,
    /// The number of the oldest request that has not completed.
    tail: AtomicU32,
}

impl WorkQueue {
    /// For at most `max` outstanding requests.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(super) fn new(max: u32) -> Result<Arc<Self>, Errno> {
        let wr_ids = Numbers::new(max)?;
        Ok(Arc::new(Self { wr_ids, head: AtomicU32::new(0), tail: AtomicU32::new(0) }))
    }

    /// Retires the oldest outstanding request and returns its `wr_id`, or `None` if no request is outstanding.
    #[inline(always)]
    pub(super) fn retire_oldest(&self) -> Option<u64> {
        self.retire_after(self.tail.load(Ordering::Relaxed), 0)
    }

    /// Retires the request whose number ends in `low` and all before it, and returns its `wr_id`. Returns `None` if it is
    /// not outstanding.
    #[inline(always)]
    pub(super) fn retire(&self, low: u16) -> Option<u64> {
        let tail = self.tail.load(Ordering::Relaxed);
        self.retire_after(tail, low.wrapping_sub(tail as u16))
    }

    /// Retires requests up to the one that comes this many `after` the oldest.
    #[inline(always)]
    fn retire_after(&self, tail: u32, after: u16) -> Option<u64> {
        // The poster stored wr_id and head before the device could know of the request.
        let outstanding = self.head.load(Ordering::Relaxed).wrapping_sub(tail);
        if u32::from(after) >= outstanding {
            return None;
        }
        let number = tail.wrapping_add(after.into());
        let wr_id = self.wr_ids.at(number).load(Ordering::Relaxed);
        // Release: from here on the poster may overwrite the wr_id that we have just read.
        self.tail.store(number.wrapping_add(1), Ordering::Release);
        Some(wr_id)
    }
}

/// The poster's side of a work queue.
#[derive(Debug)]
pub(super) struct Poster {
    wq: Arc<WorkQueue>,
    /// The poller's `tail` when last looked at.
    tail: u32,
    /// How many requests may be outstanding: `max`, or 0 after a restart that failed.
    room: u32,
    max: u32,
}

impl Poster {
    /// For a new work queue.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(super) fn new(max: u32) -> Result<Self, Errno> {
        Ok(Self { wq: WorkQueue::new(max)?, tail: 0, room: max, max })
    }

    /// Returns a work queue to start again with: the poller keeps the old one for the completions that it still has to take
    /// out.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(super) fn renewed(&self) -> Result<Arc<WorkQueue>, Errno> {
        WorkQueue::new(self.max)
    }

    /// Starts again at request 0 with another work queue; without one, nothing can be posted until the next call.
    pub(super) fn restart(&mut self, wq: Option<Arc<WorkQueue>>) {
        match wq {
            Some(wq) => (self.wq, self.tail, self.room) = (wq, 0, self.max),
            None => self.room = 0,
        }
    }

    /// What is shared with the poller.
    pub(super) fn work_queue(&self) -> &Arc<WorkQueue> {
        &self.wq
    }

    /// How many requests were posted so far.
    #[inline(always)]
    pub(super) fn posted(&self) -> u32 {
        self.wq.head.load(Ordering::Relaxed)
    }

    /// Reserves the next request number; `None` while as many requests are outstanding as may be.
    #[inline(always)]
    pub(super) fn reserve(&mut self) -> Option<Reserved<'_>> {
        let head = self.posted();
        if head.wrapping_sub(self.tail) >= self.room {
            // Acquire: pairs with the poller's release, so that it has read the wr_id that we overwrite.
            self.tail = self.wq.tail.load(Ordering::Acquire);
            if head.wrapping_sub(self.tail) >= self.room {
                return None;
            }
        }
        Some(Reserved { wq: &self.wq, number: head })
    }
}

/// The number of a request that is being written. Dropping it leaves the number free.
pub(super) struct Reserved<'q> {
    wq: &'q WorkQueue,
    pub(super) number: u32,
}

impl Reserved<'_> {
    /// Makes the request known to the poller. The device must not know of it before: its completion may come at once, to
    /// another thread.
    #[inline(always)]
    pub(super) fn announce(self, wr_id: u64) {
        self.wq.wr_ids.at(self.number).store(wr_id, Ordering::Relaxed);
        self.wq.head.store(self.number.wrapping_add(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "wq_tests.rs"]
mod tests;
