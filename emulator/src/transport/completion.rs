//! Completions of requests, and asynchronous events of queue pairs.

use crate::fabric::ethernet;

/// A completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// A send request is done.
    Sent(Sent),
    /// A message arrived.
    Received(Received),
    /// A request failed.
    Failed(Failed),
}

/// A send request that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The queue pair.
    pub qpn: u32,
    /// The index of the request.
    pub index: u16,
    /// The card's own opcode of the request.
    pub opcode: u8,
    /// Bytes that a read or an atomic operation fetched.
    pub byte_count: u32,
}

/// A message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The queue pair.
    pub qpn: u32,
    /// The index of the receive request.
    pub index: u16,
    /// What kind of message it is.
    pub kind: ReceivedKind,
    /// Bytes received; a datagram's include the 40 bytes for the GRH.
    pub byte_count: u32,
    /// The source queue pair of a datagram, the peer of a connected queue pair.
    pub src_qpn: u32,
    /// The shared receive queue of an XRC message.
    pub srqn: Option<u32>,
    /// The place of the P_Key in the port's table.
    pub pkey_index: u8,
    /// Source LID.
    pub slid: u16,
    /// Service level.
    pub sl: u8,
    /// The low bits of the destination LID.
    pub path_bits: u8,
    /// Whether the packet had a GRH.
    pub grh: bool,
    /// The header that replaces LIDs on Ethernet.
    pub ethernet: Option<ethernet::Header>,
}

/// The kind of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceivedKind {
    /// A send.
    Send,
    /// A send with immediate data.
    SendImmediate(u32),
    /// A send that invalidated a key.
    SendInvalidate(u32),
    /// A write with immediate data.
    WriteImmediate(u32),
}

/// A request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The queue pair.
    pub qpn: u32,
    /// The index of the request.
    pub index: u16,
    /// Whether it is a send request.
    pub send: bool,
    /// Why it failed.
    pub error: Error,
    /// The shared receive queue of an XRC message.
    pub srqn: Option<u32>,
}

/// Why a request failed (section 11.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Longer than the path, the message limit or the receive buffers permit.
    LocalLength,
    /// The request itself is not valid.
    LocalQpOperation,
    /// A local key does not permit it.
    LocalProtection,
    /// The queue pair was in error before the request was executed.
    Flushed,
    /// A window cannot be bound, or a key not registered or invalidated.
    MemoryWindowBind,
    /// The responder's answer makes no sense.
    BadResponse,
    /// The responder rejected the request.
    RemoteInvalidRequest,
    /// The remote key does not permit it.
    RemoteAccess,
    /// The responder failed.
    RemoteOperation,
    /// No answer after all retries.
    RetriesExceeded,
    /// The responder had no receive request after all retries.
    RnrRetriesExceeded,
}

/// A completion queue does not exist or takes no more entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CqFull;

/// Asynchronous events of a queue pair (section 11.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QpEvent {
    /// The first message arrived while the queue pair was in RTR.
    CommunicationEstablished,
    /// The send queue is drained.
    SqDrained,
    /// The queue pair failed and no completion can say so.
    WorkQueueCatastrophicError,
    /// An invalid request arrived.
    InvalidRequestError,
    /// A request arrived that violates access rights.
    AccessError,
    /// The queue pair is in error and has taken its last request from a shared receive queue.
    LastWqeReached,
}
