//! Events, which a card reports through event queues.

use crate::transport::QpEvent;

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An armed completion queue has received a completion that it was armed for.
    Completion {
        /// The event queue of the completion queue.
        eqn: u32,
        /// The completion queue.
        cqn: u32,
    },
    /// A completion queue has failed (type 0x04).
    CqError {
        /// The completion queue.
        cqn: u32,
        /// 1: it overran; 2: it cannot be written.
        syndrome: u8,
    },
    /// Something happened to a queue pair.
    Qp {
        /// The event.
        kind: QpEvent,
        /// The queue pair.
        qpn: u32,
    },
    /// Something happened to a shared receive queue.
    Srq {
        /// The event.
        kind: SrqEvent,
        /// The shared receive queue.
        srqn: u32,
    },
    /// The port came up or went down (type 0x09).
    Port {
        /// Whether it carries packets now.
        active: bool,
    },
    /// A firmware command has completed that was to report so by an event (type 0x0a).
    Command {
        /// The driver's token.
        token: u16,
        /// 0, or a [`Status`](crate::mlx4::status::Status).
        status: u8,
        /// Its immediate result.
        out: u64,
    },
}

/// Events of a shared receive queue, with their type numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SrqEvent {
    /// It failed.
    CatastrophicError = 0x12,
    /// It holds fewer requests than the limit.
    LimitReached = 0x14,
}
