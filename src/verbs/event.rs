//! Async events: what happens to devices, ports and objects without being asked for.

use std::os::fd::{AsFd, BorrowedFd};

use super::Context;
use crate::error::Result;
use crate::uapi::verbs::AsyncEventDesc;
use crate::uverbs::event::read_event;

/// What happened (`enum ibv_event_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AsyncEventType {
    /// A completion queue failed: it overflowed.
    CqErr,
    /// A queue pair failed while it wrote or read its queues.
    QpFatal,
    /// A peer's request made no sense to a queue pair, which failed.
    QpReqErr,
    /// A peer's request had no right to the memory, and the queue pair failed.
    QpAccessErr,
    /// A message came for a queue pair that was not ready to send yet.
    CommEst,
    /// A send queue is drained, as was asked for.
    SqDrained,
    /// A connection changed over to its alternate path.
    PathMig,
    /// A connection could not.
    PathMigErr,
    /// The device failed, and nothing of it works any more.
    DeviceFatal,
    /// A port became active.
    PortActive,
    /// A port is not active any more.
    PortErr,
    /// A port's LID changed.
    LidChange,
    /// A port's partition key table changed.
    PkeyChange,
    /// A port has another subnet manager.
    SmChange,
    /// A shared receive queue failed.
    SrqErr,
    /// A shared receive queue has fewer requests than its limit.
    SrqLimitReached,
    /// A failed queue pair takes nothing more from its shared receive queue.
    QpLastWqeReached,
    /// The subnet manager asks for registrations anew.
    ClientReregister,
    /// A port's GID table changed.
    GidChange,
    /// One that this crate does not know.
    Other(u32),
}

impl From<u32> for AsyncEventType {
    fn from(value: u32) -> Self {
        use AsyncEventType::*;
        const TYPES: [AsyncEventType; 19] = [
            CqErr,
            QpFatal,
            QpReqErr,
            QpAccessErr,
            CommEst,
            SqDrained,
            PathMig,
            PathMigErr,
            DeviceFatal,
            PortActive,
            PortErr,
            LidChange,
            PkeyChange,
            SmChange,
            SrqErr,
            SrqLimitReached,
            QpLastWqeReached,
            ClientReregister,
            GidChange,
        ];
        TYPES.get(value as usize).copied().unwrap_or(Other(value))
    }
}

/// An event and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsyncEvent {
    /// What happened.
    pub event_type: AsyncEventType,
    /// The port's number for port events; [`super::Qp::cookie`] or [`super::Cq::cookie`] for events of queues.
    pub element: u64,
}

/// A context's async events. Readable when there is one; never blocks.
#[derive(Debug, Clone, Copy)]
pub struct AsyncEvents<'c> {
    pub(super) ctx: &'c Context,
    pub(super) fd: BorrowedFd<'c>,
}

impl AsyncEvents<'_> {
    /// The next event, or `None` where there is none. See `ibv_get_async_event(3)`.
    ///
    /// # Errors
    /// The device is gone.
    pub fn next_event(&self) -> Result<Option<AsyncEvent>> {
        let event = read_event::<AsyncEventDesc>(self.fd)
            .map_err(|e| self.ctx.0.uverbs.error("get_async_event", e))?;
        Ok(event.map(|event| AsyncEvent { event_type: event.event_type.into(), element: event.element }))
    }
}

impl AsFd for AsyncEvents<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}
