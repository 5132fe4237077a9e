//! What a card tells its driver through event queues.

use crate::transport::QpEvent;

/// One event, before it is an entry of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A completion queue that was armed has got what it was armed for.
    Completion {
        /// The event queue of the completion queue.
        eqn: u32,
        /// The completion queue.
        cqn: u32,
    },
    /// A completion queue can take no more (type 0x04).
    CqError {
        /// The completion queue.
        cqn: u32,
        /// 1: it overran; 2: it cannot be written.
        syndrome: u8,
    },
    /// Something happened to a queue pair.
    Qp {
        /// What.
        kind: QpEvent,
        /// The queue pair.
        qpn: u32,
    },
    /// Something happened to a shared receive queue.
    Srq {
        /// What.
        kind: SrqEvent,
        /// The shared receive queue.
        srqn: u32,
    },
    /// The port came up or went down (type 0x09).
    Port {
        /// Whether it carries packets now.
        active: bool,
    },
    /// A firmware command that was to end with an event has ended (type 0x0a).
    Command {
        /// The token that the driver gave it.
        token: u16,
        /// How it ended: 0, or a [`Status`](crate::mlx4::status::Status).
        status: u8,
        /// Its immediate result.
        out: u64,
    },
}

/// Events of a shared receive queue, with the numbers of their types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SrqEvent {
    /// It failed.
    CatastrophicError = 0x12,
    /// It holds fewer entries than the limit.
    LimitReached = 0x14,
}
