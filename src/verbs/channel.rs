//! Completion channels.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use super::Cq;
use super::context::ContextInner;
use crate::error::Result;
use crate::sys::linux;
use crate::uapi::verbs::CompEventDesc;
use crate::uverbs::event::read_event;

/// A descriptor that becomes readable when an armed completion queue gets a completion.
///
/// Several queues may share one. It never blocks by itself: put it in an event loop, or use [`Cq::wait`] with a queue that has
/// a channel of its own. Cloning gives another handle on the same channel. See `ibv_create_comp_channel(3)`.
#[derive(Debug, Clone)]
pub struct CompChannel(pub(super) Arc<ChannelInner>);

#[derive(Debug)]
pub(super) struct ChannelInner {
    fd: OwnedFd,
    pub(super) ctx: Arc<ContextInner>,
    /// The queues that use it, by user_handle, and how many events each has had.
    counts: Mutex<Vec<(u64, Arc<AtomicU32>)>>,
}

impl CompChannel {
    pub(super) fn create(ctx: &Arc<ContextInner>) -> Result<Self> {
        let inner = ChannelInner::create(ctx)?;
        linux::set_nonblocking(inner.as_fd()).map_err(|e| ctx.uverbs.error("create_comp_channel", e))?;
        Ok(Self(inner))
    }

    /// The next event, or `None` where there is none. [`Cq::owns`] tells whose it is.
    ///
    /// # Errors
    /// The device is gone.
    pub fn next_event(&self) -> Result<Option<CompEvent>> {
        self.0.next().map_err(|e| self.0.ctx.uverbs.error("get_cq_event", e))
    }
}

impl ChannelInner {
    /// A channel whose reads block.
    pub(super) fn create(ctx: &Arc<ContextInner>) -> Result<Arc<Self>> {
        let fd = ctx.uverbs.create_comp_channel()?;
        Ok(Arc::new(Self { fd, ctx: Arc::clone(ctx), counts: Mutex::default() }))
    }

    /// One event, which the caller counts; blocks where the descriptor does.
    #[inline]
    pub(super) fn read(&self) -> Result<Option<CompEvent>, Errno> {
        Ok(read_event::<CompEventDesc>(self.fd.as_fd())?.map(|event| CompEvent(event.cq_handle)))
    }

    /// One event, counted for its queue.
    fn next(&self) -> Result<Option<CompEvent>, Errno> {
        let event = self.read()?;
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = event.and_then(|event| counts.iter().find(|(user_handle, _)| *user_handle == event.0));
        if let Some((_, count)) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(event)
    }

    /// From now on counts the events of the queue with this user handle.
    pub(super) fn count(&self, user_handle: u64, count: &Arc<AtomicU32>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody else holds are of queues that are gone.
        counts.retain(|(_, count)| Arc::strong_count(count) > 1);
        counts.push((user_handle, Arc::clone(count)));
    }
}

impl AsFd for ChannelInner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for CompChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

/// Says that a completion queue has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompEvent(u64);

impl Cq {
    /// Whether an event is of this queue.
    #[must_use]
    pub fn owns(&self, event: CompEvent) -> bool {
        event.0 == self.user_handle()
    }
}
