//! Async events: what happens to devices, ports and objects without being asked for.

use std::os::fd::{AsFd, BorrowedFd};

use super::Context;
use crate::error::Result;
use crate::types::{PortNum, open_enum};
use crate::uapi::verbs::AsyncEventDesc;
use crate::uverbs::event::read_event;

open_enum! {
    /// What happened (`enum ibv_event_type`).
    AsyncEventType: u32 {
        /// A completion queue failed: it overflowed.
        CqErr = 0,
        /// A queue pair failed while it wrote or read its queues.
        QpFatal = 1,
        /// A peer's request made no sense to a queue pair, which failed.
        QpReqErr = 2,
        /// A peer's request had no right to the memory, and the queue pair failed.
        QpAccessErr = 3,
        /// A message came for a queue pair that was not ready to send yet.
        CommEst = 4,
        /// A send queue is drained, as was asked for.
        SqDrained = 5,
        /// A connection changed over to its alternate path.
        PathMig = 6,
        /// A connection could not.
        PathMigErr = 7,
        /// The device failed, and nothing of it works any more.
        DeviceFatal = 8,
        /// A port became active.
        PortActive = 9,
        /// A port is not active any more.
        PortErr = 10,
        /// A port's LID changed.
        LidChange = 11,
        /// A port's partition key table changed.
        PkeyChange = 12,
        /// A port has another subnet manager.
        SmChange = 13,
        /// A shared receive queue failed.
        SrqErr = 14,
        /// A shared receive queue has fewer requests than its limit.
        SrqLimitReached = 15,
        /// A failed queue pair takes nothing more from its shared receive queue.
        QpLastWqeReached = 16,
        /// The subnet manager asks for registrations anew.
        ClientReregister = 17,
        /// A port's GID table changed.
        GidChange = 18,
    }
}

/// An event and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsyncEvent {
    /// What happened.
    pub event_type: AsyncEventType,
    /// The port's number for port events; the cookie of the object for events of queues. [`AsyncEvent::source`] says which.
    pub element: u64,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventSource {
    /// The completion queue with this cookie ([`super::Cq::cookie`]).
    Cq(u64),
    /// The queue pair with this cookie ([`super::Qp::cookie`]).
    Qp(u64),
    /// The shared receive queue with this cookie ([`super::Srq::cookie`]).
    Srq(u64),
    /// A port.
    Port(PortNum),
    /// The whole device.
    Device,
    /// The event is one that this crate has no name for.
    Unknown,
}

impl AsyncEvent {
    /// What the event is about. Cookies differ among all objects of a context.
    #[must_use]
    pub fn source(&self) -> EventSource {
        use AsyncEventType as Type;
        match self.event_type {
            Type::CqErr => EventSource::Cq(self.element),
            Type::QpFatal
            | Type::QpReqErr
            | Type::QpAccessErr
            | Type::CommEst
            | Type::SqDrained
            | Type::PathMig
            | Type::PathMigErr
            | Type::QpLastWqeReached => EventSource::Qp(self.element),
            Type::SrqErr | Type::SrqLimitReached => EventSource::Srq(self.element),
            Type::PortActive
            | Type::PortErr
            | Type::LidChange
            | Type::PkeyChange
            | Type::SmChange
            | Type::ClientReregister
            | Type::GidChange => {
                let port = u32::try_from(self.element).ok().and_then(|port| PortNum::new(port).ok());
                port.map_or(EventSource::Unknown, EventSource::Port)
            }
            Type::DeviceFatal => EventSource::Device,
            Type::Other(_) => EventSource::Unknown,
        }
    }
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
    /// [`AsyncEventType::DeviceFatal`] is the last one of a device that is gone: after it comes neither an event nor an error.
    ///
    /// # Errors
    /// The kernel's answer is no event.
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
