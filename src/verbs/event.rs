//! Async events: what happens to devices, ports and objects without being asked for.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::context::ContextInner;
use crate::error::Result;
use crate::types::{PortNum, open_enum};
use crate::uapi::verbs::AsyncEventDesc;
use crate::uverbs::event::read_event;

open_enum! {
    /// Type of an asynchronous event (`enum ibv_event_type`, `ibv_get_async_event(3)`).
    AsyncEventType: u32 {
        /// Completion queue error, such as an overrun.
        CQ_ERR = 0, "IBV_EVENT_CQ_ERR";
        /// Error on a queue pair while it accessed its queues; it is in the error state.
        QP_FATAL = 1, "IBV_EVENT_QP_FATAL";
        /// A peer's request was invalid; the queue pair is in the error state.
        QP_REQ_ERR = 2, "IBV_EVENT_QP_REQ_ERR";
        /// A peer's request violated access rights; the queue pair is in the error state.
        QP_ACCESS_ERR = 3, "IBV_EVENT_QP_ACCESS_ERR";
        /// A queue pair in RTR received its first message.
        COMM_EST = 4, "IBV_EVENT_COMM_EST";
        /// A send queue that was moved to SQD is drained.
        SQ_DRAINED = 5, "IBV_EVENT_SQ_DRAINED";
        /// A connection migrated to its alternate path.
        PATH_MIG = 6, "IBV_EVENT_PATH_MIG";
        /// A connection failed to migrate to its alternate path.
        PATH_MIG_ERR = 7, "IBV_EVENT_PATH_MIG_ERR";
        /// The device failed; none of its objects works any more.
        DEVICE_FATAL = 8, "IBV_EVENT_DEVICE_FATAL";
        /// A port became active.
        PORT_ACTIVE = 9, "IBV_EVENT_PORT_ACTIVE";
        /// A port is no longer active.
        PORT_ERR = 10, "IBV_EVENT_PORT_ERR";
        /// The LID of a port changed.
        LID_CHANGE = 11, "IBV_EVENT_LID_CHANGE";
        /// The partition key table of a port changed.
        PKEY_CHANGE = 12, "IBV_EVENT_PKEY_CHANGE";
        /// The subnet manager of a port changed.
        SM_CHANGE = 13, "IBV_EVENT_SM_CHANGE";
        /// Error on a shared receive queue.
        SRQ_ERR = 14, "IBV_EVENT_SRQ_ERR";
        /// A shared receive queue holds fewer requests than its limit.
        SRQ_LIMIT_REACHED = 15, "IBV_EVENT_SRQ_LIMIT_REACHED";
        /// A queue pair in the error state takes no more requests from its shared receive queue.
        QP_LAST_WQE_REACHED = 16, "IBV_EVENT_QP_LAST_WQE_REACHED";
        /// The subnet manager asks clients to register again.
        CLIENT_REREGISTER = 17, "IBV_EVENT_CLIENT_REREGISTER";
        /// The GID table of a port changed.
        GID_CHANGE = 18, "IBV_EVENT_GID_CHANGE";
    }
}

/// An event and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AsyncEvent {
    /// What happened.
    pub event_type: AsyncEventType,
    /// The port's number for port events; the user handle of the object for events of queues. [`AsyncEvent::source`] says which.
    pub element: u64,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventSource {
    /// The completion queue with this user handle ([`super::Cq::user_handle`]).
    Cq(u64),
    /// The queue pair with this user handle ([`super::Qp::user_handle`]).
    Qp(u64),
    /// The shared receive queue with this user handle ([`super::Srq::user_handle`]).
    Srq(u64),
    /// A port.
    Port(PortNum),
    /// The whole device.
    Device,
    /// The event is one that this crate has no name for.
    Unknown,
}

impl AsyncEvent {
    /// Creates an event, for tests of programs that handle events.
    #[must_use]
    pub const fn new(event_type: AsyncEventType, element: u64) -> Self {
        Self { event_type, element }
    }

    /// What the event is about. User handles differ among all objects of a context.
    #[must_use]
    pub fn source(&self) -> EventSource {
        use AsyncEventType as Type;
        match self.event_type {
            Type::CQ_ERR => EventSource::Cq(self.element),
            Type::QP_FATAL
            | Type::QP_REQ_ERR
            | Type::QP_ACCESS_ERR
            | Type::COMM_EST
            | Type::SQ_DRAINED
            | Type::PATH_MIG
            | Type::PATH_MIG_ERR
            | Type::QP_LAST_WQE_REACHED => EventSource::Qp(self.element),
            Type::SRQ_ERR | Type::SRQ_LIMIT_REACHED => EventSource::Srq(self.element),
            Type::PORT_ACTIVE
            | Type::PORT_ERR
            | Type::LID_CHANGE
            | Type::PKEY_CHANGE
            | Type::SM_CHANGE
            | Type::CLIENT_REREGISTER
            | Type::GID_CHANGE => {
                let port = u32::try_from(self.element).ok().and_then(|port| PortNum::new(port).ok());
                port.map_or(EventSource::Unknown, EventSource::Port)
            }
            Type::DEVICE_FATAL => EventSource::Device,
            _ => EventSource::Unknown,
        }
    }
}

/// A context's async events, by a descriptor that is readable when there is one and never blocks.
///
/// It keeps the context open. Cloning gives another handle: each event goes to whichever reads it first.
#[derive(Debug, Clone)]
pub struct AsyncEvents {
    ctx: Arc<ContextInner>,
    fd: Arc<OwnedFd>,
}

impl AsyncEvents {
    pub(super) fn new(ctx: &Arc<ContextInner>, fd: &Arc<OwnedFd>) -> Self {
        Self { ctx: Arc::clone(ctx), fd: Arc::clone(fd) }
    }

    /// Returns the next event, or `None` where there is none. See `ibv_get_async_event(3)`.
    ///
    /// [`AsyncEventType::DEVICE_FATAL`] is the last one of a device that is gone: after it comes neither an event nor an error.
    ///
    /// # Errors
    /// The kernel's answer is no event.
    pub fn next_event(&self) -> Result<Option<AsyncEvent>> {
        let event = read_event::<AsyncEventDesc>(self.fd.as_fd())
            .map_err(|e| self.ctx.uverbs.error("get_async_event", e))?;
        Ok(event.map(|event| AsyncEvent { event_type: event.event_type.into(), element: event.element }))
    }
}

impl AsFd for AsyncEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for AsyncEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_about_something() {
        let source = |number: u32, element| AsyncEvent { event_type: number.into(), element }.source();
        let kinds: String = (0..19)
            .map(|number| match source(number, 1) {
                EventSource::Cq(1) => 'c',
                EventSource::Qp(1) => 'q',
                EventSource::Srq(1) => 's',
                EventSource::Port(PortNum::ONE) => 'p',
                EventSource::Device => 'd',
                other => panic!("{number}: {other:?}"),
            })
            .collect();
        // In the order of `enum ibv_event_type`; of queue pairs, shared queues and ports the man page says which.
        assert_eq!(kinds, "cqqqqqqqdpppppssqpp");
        assert_eq!(source(10, 0), EventSource::Unknown, "there is no port 0");
        assert_eq!(source(77, 1), EventSource::Unknown);
    }
}
