//! What a card tells its driver through event queues.

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

/// Events of a queue pair, with the numbers of their types (include/linux/mlx4/device.h, `MLX4_EVENT_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum QpEvent {
    /// The alternate path is the path now.
    PathMigrated = 0x01,
    /// The first message came while the queue pair was in RTR.
    CommunicationEstablished = 0x02,
    /// The send queue is drained.
    SqDrained = 0x03,
    /// The queue pair failed and there was no queue to say so.
    WorkQueueCatastrophicError = 0x05,
    /// The alternate path could not be taken.
    PathMigrationFailed = 0x07,
    /// A request came that is not valid.
    InvalidRequestError = 0x10,
    /// A request came that violates the access rights.
    AccessError = 0x11,
    /// The queue pair of a shared receive queue is in error and has taken its last entry.
    LastWqeReached = 0x13,
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
