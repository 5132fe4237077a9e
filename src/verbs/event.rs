//! Async events: what happens to devices, ports and objects without being asked for.

use std::os::fd::{AsFd, BorrowedFd};

use super::Context;
use crate::error::Result;
use crate::uapi::verbs::AsyncEventDesc;
use crate::uverbs::event::read_event;

/// What happened (`enum ibv_event_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum AsyncEventType {
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
