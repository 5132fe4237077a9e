//! Event channels.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::PollTimeout;

use super::event::{DATAGRAM, PASSIVE};
use super::ucma::Ucma;
use super::{CmEvent, CmEventType, CmId, PortSpace};
use crate::error::{Error, Result};
use crate::sys::linux;
use crate::types::Guid;
use crate::verbs::{Context, Device, OpenOptions, Waited, WeakContext};

/// An open file of the connection manager: ids are made from it, and it delivers their events.
///
/// Readable when there is an event; never blocks by itself. Cloning gives another handle on the same channel. See
/// `rdma_create_event_channel(3)`.
#[derive(Debug, Clone)]
pub struct EventChannel(pub(super) Arc<ChannelInner>);

#[derive(Debug)]
pub(super) struct ChannelInner {
    pub(super) ucma: Ucma,
    options: OpenOptions,
    user_handles: AtomicU64,
    contexts: Mutex<Vec<Shared>>,
}

/// A device's context, as long as somebody has it.
#[derive(Debug)]
struct Shared {
    index: u32,
    node_guid: Guid,
    context: WeakContext,
    /// Whether a device has gone since it was last asked for: perhaps this one.
    doubtful: bool,
}

impl EventChannel {
    /// Opens the connection manager.
    ///
    /// # Errors
    /// The module `rdma_ucm` is not loaded, or its node is missing or not permitted.
    pub fn open() -> Result<Self> {
        Self::open_with(OpenOptions::new())
    }

    /// Opens the connection manager; the devices that its ids are bound to will be opened with `options`.
    ///
    /// # Errors
    /// The same as [`EventChannel::open`].
    pub fn open_with(options: OpenOptions) -> Result<Self> {
        Ok(Self(Arc::new(ChannelInner {
            ucma: Ucma::open()?,
            options,
            user_handles: AtomicU64::new(1),
            contexts: Mutex::default(),
        })))
    }

    /// Makes an id. See `rdma_create_id(3)`.
    ///
    /// # Errors
    /// The kernel has no room for more.
    pub fn create_id(&self, space: PortSpace) -> Result<CmId> {
        CmId::create(&self.0, space)
    }

    /// The next event, or `None` where there is none. See `rdma_get_cm_event(3)`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn next_event(&self) -> Result<Option<CmEvent>> {
        loop {
            let raw = match self.0.ucma.get_event() {
                Ok(raw) => raw,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(Error::os("get_cm_event", "rdma_cm", errno)),
            };
            if let Some(event) = CmEvent::from_kernel(&self.0, &raw) {
                if event.event_type == CmEventType::DEVICE_REMOVAL {
                    self.0.doubt_contexts();
                }
                return Ok(Some(event));
            }
        }
    }

    /// Waits for the next event; `timeout` of `None` waits without a limit.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Waited<CmEvent>> {
        let start = Instant::now();
        loop {
            if let Some(event) = self.next_event()? {
                return Ok(Waited::Ready(event));
            }
            let left = match timeout {
                None => PollTimeout::NONE,
                Some(timeout) => linux::poll_timeout(timeout.saturating_sub(start.elapsed())),
            };
            match linux::wait_readable(self.as_fd(), left) {
                Ok(true) => {}
                Ok(false) => return Ok(Waited::TimedOut),
                Err(Errno::EINTR) => return Ok(Waited::Interrupted),
                Err(errno) => return Err(Error::os("get_cm_event", "rdma_cm", errno)),
            }
        }
    }
}

impl AsRawFd for EventChannel {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for EventChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.ucma.as_fd()
    }
}

impl ChannelInner {
    /// A user handle that no other id of the channel has had.
    pub(super) fn next_user_handle(&self, datagram: bool, passive: bool) -> u64 {
        let n = self.user_handles.fetch_add(1, Ordering::Relaxed);
        n << 2 | if passive { PASSIVE } else { 0 } | if datagram { DATAGRAM } else { 0 }
    }

    /// The context of a device: the one that ids of this channel have already, or a new one.
    pub(super) fn context(&self, index: u32, node_guid: Guid) -> Result<Context> {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        contexts.retain_mut(|shared| {
            let Some(context) = shared.context.upgrade() else { return false };
            if (shared.index, shared.node_guid) == (index, node_guid) {
                if shared.doubtful && context.query_device().is_err() {
                    return false;
                }
                shared.doubtful = false;
                found = Some(context);
            }
            true
        });
        if let Some(context) = found {
            return Ok(context);
        }
        let context = self.options.open(&Device::by_number(index, node_guid)?)?;
        contexts.push(Shared { index, node_guid, context: context.downgrade(), doubtful: false });
        Ok(context)
    }

    /// A device that comes back may have its old number, but needs another context.
    fn doubt_contexts(&self) {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.iter_mut().for_each(|shared| shared.doubtful = true);
    }
}
