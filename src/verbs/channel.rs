//! Completion channels.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::context::ContextInner;
use super::{Cq, CqHandle};
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
    /// The number of events of each queue that uses it, by the queue's user handle.
    counts: Mutex<HashMap<u64, Arc<AtomicU32>>>,
}

impl CompChannel {
    pub(super) fn create(ctx: &Arc<ContextInner>) -> Result<Self> {
        let inner = ChannelInner::create(ctx)?;
        linux::set_nonblocking(inner.as_fd()).map_err(|e| ctx.uverbs.error("create_comp_channel", e))?;
        Ok(Self(inner))
    }

    /// Returns the next event, or `None` where there is none. [`CompEvent::user_handle`] says which queue it belongs to.
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

    /// Reads one event, which the caller counts; blocks where the descriptor does.
    #[inline]
    pub(super) fn read(&self) -> Result<Option<CompEvent>, Errno> {
        Ok(read_event::<CompEventDesc>(self.fd.as_fd())?.map(|event| CompEvent(event.cq_handle)))
    }

    /// Reads one event and counts it for its queue.
    fn next(&self) -> Result<Option<CompEvent>, Errno> {
        let event = self.read()?;
        if let Some(event) = event
            && let Some(count) = self.counts().get(&event.0)
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(event)
    }

    /// Counts the events of the queue with this user handle until [`ChannelInner::stop_counting`].
    ///
    /// Returns false, and changes nothing, where another queue has it.
    pub(super) fn count(&self, user_handle: u64, count: &Arc<AtomicU32>) -> bool {
        match self.counts().entry(user_handle) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(Arc::clone(count));
                true
            }
        }
    }

    /// The queue with this user handle is being destroyed.
    pub(super) fn stop_counting(&self, user_handle: u64) {
        self.counts().remove(&user_handle);
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u64, Arc<AtomicU32>>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
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

impl AsRawFd for CompChannel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd.as_raw_fd()
    }
}

/// The descriptor of a completion queue's own channel, from [`Cq::own_channel`].
///
/// It becomes readable when the queue, armed by [`Cq::poll_or_arm`], gets a completion. It is for an event loop; do not read from
/// it: the queue does.
#[derive(Debug, Clone)]
pub struct CqFd(pub(super) Arc<ChannelInner>);

impl AsFd for CqFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

impl AsRawFd for CqFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.fd.as_raw_fd()
    }
}

/// Says that a completion queue has a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompEvent(u64);

impl CompEvent {
    /// Returns the user handle of the queue that the event belongs to ([`Cq::user_handle`]): a key for a map of queues.
    #[must_use]
    pub fn user_handle(self) -> u64 {
        self.0
    }
}

impl Cq {
    /// Whether an event belongs to this queue.
    #[must_use]
    pub fn owns(&self, event: CompEvent) -> bool {
        event.0 == self.user_handle()
    }
}

impl CqHandle {
    /// Whether an event belongs to this queue.
    #[must_use]
    pub fn owns(&self, event: CompEvent) -> bool {
        event.0 == self.user_handle()
    }
}
