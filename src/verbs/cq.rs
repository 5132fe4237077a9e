//! Completion queues.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::channel::{ChannelInner, CompChannel, CqFd};
use super::context::ContextInner;
use super::object::{Kind, Object};
use crate::error::{Error, Result};
use crate::provider::{self, NewCq};
use crate::types::Wc;
use crate::uverbs::Uverbs;

/// What to create a completion queue with.
#[derive(Debug, Clone)]
#[must_use]
pub struct CqInit {
    cqe: u32,
    comp_vector: u32,
    channel: Channel,
    timestamps: bool,
    user_handle: Option<u64>,
}

#[derive(Debug, Clone)]
enum Channel {
    None,
    Own,
    Shared(CompChannel),
}

impl CqInit {
    /// Room for at least `cqe` completions, without a channel.
    pub const fn new(cqe: u32) -> Self {
        Self { cqe, comp_vector: 0, channel: Channel::None, timestamps: false, user_handle: None }
    }

    /// With a channel of its own, so that [`Cq::wait`] can sleep.
    pub fn own_channel(mut self) -> Self {
        self.channel = Channel::Own;
        self
    }

    /// With a channel that other queues may use too; the caller reads its events.
    pub fn channel(mut self, channel: &CompChannel) -> Self {
        self.channel = Channel::Shared(channel.clone());
        self
    }

    /// Which of the device's completion vectors (interrupts) signals it; 0 by default.
    pub fn comp_vector(mut self, vector: u32) -> Self {
        self.comp_vector = vector;
        self
    }

    /// What the events of the queue carry ([`Cq::user_handle`]), in place of a number that the library chooses.
    ///
    /// Queues that share a channel need different ones. The library's own numbers count from 1 in each context.
    pub fn user_handle(mut self, user_handle: u64) -> Self {
        self.user_handle = Some(user_handle);
        self
    }

    /// Its completions have the time ([`Wc::timestamp`]), and in its place no LID and service level of a sender.
    ///
    /// For devices whose [`DeviceAttr::completion_timestamp_mask`](super::DeviceAttr) is not 0; among those driven here, ConnectX-3.
    pub fn timestamps(mut self) -> Self {
        self.timestamps = true;
        self
    }
}

impl From<u32> for CqInit {
    fn from(cqe: u32) -> Self {
        Self::new(cqe)
    }
}

/// A completion queue. It has one owner, who polls it; queue pairs that complete into it keep it alive.
///
/// Where the owner is one thread and queue pairs are created by another, the other has a [`CqHandle`].
///
/// See `ibv_create_cq(3)`.
pub struct Cq {
    pub(super) ring: provider::Cq,
    pub(super) handle: CqHandle,
    cqe: u32,
    /// An event has been asked for and not been read.
    pub(super) armed: bool,
    /// How often to look before giving way, as waiting has learnt it.
    pub(super) looks: u32,
}

/// Names a completion queue where queue pairs and shared receive queues are created, while the [`Cq`] is polled elsewhere.
///
/// A handle keeps the kernel's object alive, as queue pairs do. It cannot poll: once the [`Cq`] is dropped, nobody takes what
/// completes, and the queue overflows.
#[derive(Debug, Clone)]
pub struct CqHandle(pub(super) Arc<CqCore>);

/// What queue pairs and handles hold of a completion queue.
#[derive(Debug)]
pub(super) struct CqCore {
    pub(super) object: Object,
    /// A channel that only this queue uses, and whose reads block.
    pub(super) own_channel: Option<Arc<ChannelInner>>,
    /// Its channel, shared or not, which must outlive it.
    channel: Option<Arc<ChannelInner>>,
    user_handle: u64,
    /// Counts the events that its channel has read.
    events: Arc<AtomicU32>,
}

impl Cq {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> u32 {
        self.handle.raw_handle()
    }

    pub(super) fn create(ctx: &Arc<ContextInner>, init: &CqInit) -> Result<Self> {
        const KIND: Kind = Kind { verb: "destroy_cq", destroy: Uverbs::destroy_cq };
        let device = ctx.uverbs.device();
        if init.cqe == 0 {
            return Err(Error::invalid("create_cq", device, "a completion queue of 0 entries"));
        }
        let channel = match &init.channel {
            Channel::None => None,
            Channel::Own => Some(ChannelInner::create(ctx)?),
            Channel::Shared(channel) if Arc::ptr_eq(&channel.0.ctx, ctx) => Some(Arc::clone(&channel.0)),
            Channel::Shared(_) => {
                return Err(Error::invalid("create_cq", device, "the channel is of another context"));
            }
        };
        ctx.async_file()?;
        let user_handle = init.user_handle.unwrap_or_else(|| ctx.next_user_handle());
        let raw = crate::uverbs::cq::CqParams {
            cqe: init.cqe,
            channel: channel.as_ref().map(|channel| channel.as_fd()),
            comp_vector: init.comp_vector,
            user_handle,
            timestamps: init.timestamps,
        };
        let NewCq { answer, ring, hold } =
            ctx.provider().create_cq(&ctx.uverbs, &raw).map_err(|e| match e.errno() {
                Some(nix::errno::Errno::EINVAL | nix::errno::Errno::EOPNOTSUPP) if init.timestamps => {
                    e.with_hint("has this device a clock, so that completions can have timestamps?")
                }
                _ => explain(e, init.cqe),
            })?;
        // No event comes before the queue has been armed.
        let events = Arc::new(AtomicU32::new(0));
        let object = Object::new(ctx, answer.handle, KIND).holding(hold);
        if let Some(channel) = &channel
            && !channel.count(user_handle, &events)
        {
            let why = format!("another queue of the channel has the user handle {user_handle}");
            return Err(Error::invalid("create_cq", device, why));
        }
        let own_channel = channel.clone().filter(|_| matches!(init.channel, Channel::Own));
        let core = CqCore { object, own_channel, channel, user_handle, events };
        Ok(Self { ring, handle: CqHandle(Arc::new(core)), cqe: answer.cqe, armed: false, looks: 0 })
    }

    /// Returns a handle, by which any thread can create queue pairs that complete into this queue.
    #[must_use]
    pub fn handle(&self) -> CqHandle {
        self.handle.clone()
    }

    /// Returns how many completions it holds, which may be more than was asked for.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.cqe
    }

    /// Takes out as many completions as there are and fit `wcs`, and returns them. No system call. See `ibv_poll_cq(3)`.
    #[inline]
    pub fn poll<'w>(&mut self, wcs: &'w mut [Wc]) -> &'w [Wc] {
        let taken = self.ring.poll(wcs);
        &wcs[..taken]
    }

    /// Returns the descriptor of the queue's own channel ([`CqInit::own_channel`]), if it has one, for an event loop. See
    /// [`Cq::poll_or_arm`].
    #[must_use]
    pub fn own_channel(&self) -> Option<CqFd> {
        self.handle.0.own_channel.clone().map(CqFd)
    }

    /// Asks for one event on the channel at the next completion, or at the next solicited or failed one.
    ///
    /// A completion that came before may not cause one: poll once more after arming. See `ibv_req_notify_cq(3)`.
    ///
    /// # Errors
    /// The device is gone.
    pub fn req_notify(&mut self, solicited_only: bool) -> Result<()> {
        self.handle.0.arm(&mut self.ring, solicited_only)
    }

    /// Changes how many completions it holds; those in it stay. See `ibv_resize_cq(3)`.
    ///
    /// # Errors
    /// `cqe` is over the device's limit or below what is in the queue, or the device cannot resize. If what fails is the mapping of
    /// rxe's new queue, nothing comes out of this one until it is resized again.
    pub fn resize(&mut self, cqe: u32) -> Result<()> {
        let object = &self.handle.0.object;
        self.cqe = self.ring.resize(&object.ctx.uverbs, object.handle, cqe).map_err(|e| explain(e, cqe))?;
        Ok(())
    }

    /// Destroys the queue.
    ///
    /// # Errors
    /// Queue pairs still complete into it, or there is a handle: it is destroyed when the last of them is dropped.
    pub fn destroy(self) -> Result<()> {
        let Self { ring, handle: CqHandle(core), .. } = self;
        drop(ring);
        let mut core = Arc::try_unwrap(core).map_err(|core| core.object.in_use("queue pairs or a handle"))?;
        core.object.destroy()
    }

    /// Returns what events of this queue carry: completion events and async events.
    #[must_use]
    pub fn user_handle(&self) -> u64 {
        self.handle.0.user_handle
    }
}

impl CqHandle {
    /// The kernel's handle.
    pub(crate) fn raw_handle(&self) -> u32 {
        self.0.object.handle
    }

    /// Returns what events of the queue carry, as [`Cq::user_handle`].
    #[must_use]
    pub fn user_handle(&self) -> u64 {
        self.0.user_handle
    }
}

impl AsRef<CqHandle> for Cq {
    fn as_ref(&self) -> &CqHandle {
        &self.handle
    }
}

impl AsRef<CqHandle> for CqHandle {
    fn as_ref(&self) -> &CqHandle {
        self
    }
}

impl CqCore {
    /// Arms the queue, whose ring this is.
    #[inline(always)]
    pub(super) fn arm(&self, ring: &mut provider::Cq, solicited_only: bool) -> Result<()> {
        let Object { ctx, handle, .. } = &self.object;
        ring.arm(&ctx.uverbs, *handle, solicited_only, || self.events.load(Ordering::Relaxed))
            .map_err(|e| ctx.uverbs.error("req_notify_cq", e))
    }

    /// Counts an event of this queue that was read from its own channel.
    pub(super) fn count(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for CqCore {
    fn drop(&mut self) {
        // In a child process another thread of the parent may hold the lock for ever.
        if let Some(channel) = self.channel.as_ref().filter(|_| self.object.is_ours()) {
            channel.stop_counting(self.user_handle);
        }
    }
}

impl std::fmt::Debug for Cq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cq").field("handle", &self.handle).field("cqe", &self.cqe).finish_non_exhaustive()
    }
}

fn explain(error: Error, cqe: u32) -> Error {
    match error.errno() {
        Some(nix::errno::Errno::EINVAL) => {
            error.with_hint(format!("{cqe} entries were asked for: the device's max_cqe is the limit"))
        }
        _ => error,
    }
}
