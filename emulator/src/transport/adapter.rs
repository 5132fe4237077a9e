//! What the transport needs from a card.

use std::time::Duration;

use super::{
    completion::{Completion, CqFull, Error, QpEvent},
    key::{Access, KeyError, User},
    request::{Receive, Send},
};
use crate::{
    fabric::{packet::Syndrome, port::Port},
    trace::Trace,
};

/// A card, as the transport sees it: queues of requests, memory behind keys, completion queues, a port.
pub trait Adapter {
    /// The port.
    fn port(&self) -> &Port;
    /// The port, to count what passes through it.
    fn port_mut(&mut self) -> &mut Port;
    /// The card's trace.
    fn trace(&mut self) -> &mut Trace;

    /// Fetches the next request from the send queue of `qpn`, if a doorbell has announced one.
    fn fetch(&mut self, qpn: u32) -> Fetched;
    /// Takes the next posted request off the send queue of `qpn` without executing it, and returns its index.
    fn discard(&mut self, qpn: u32) -> Option<u16>;
    /// Takes the next request from the receive queue of `qpn`.
    fn receive(&mut self, qpn: u32) -> Option<Receive>;
    /// Takes the next request from the shared receive queue `srqn`.
    fn receive_shared(&mut self, srqn: u32) -> Option<Receive>;
    /// The attributes of the shared receive queue `srqn`, if it exists.
    fn shared_queue(&self, srqn: u32) -> Option<SharedQueue>;
    /// Writes a completion to completion queue `cqn`. `solicited` wakes those who wait for solicited completions only.
    ///
    /// # Errors
    ///
    /// The queue does not exist or takes no more entries.
    fn complete(
        &mut self,
        now: Duration,
        cqn: u32,
        completion: &Completion,
        solicited: bool,
    ) -> Result<(), CqFull>;

    /// Executes a request that does not involve a peer ([`Work::Local`](super::Work::Local)): the last one that
    /// [`fetch`](Self::fetch) returned for this queue pair.
    ///
    /// # Errors
    ///
    /// The status of its completion.
    fn execute(&mut self, user: User, request: &Send) -> Result<(), Error>;

    /// Checks whether a key permits an access.
    ///
    /// # Errors
    ///
    /// Why it does not.
    fn check(&self, access: &Access) -> Result<(), KeyError>;
    /// Reads memory through a key; `bytes` has the length of the access.
    ///
    /// # Errors
    ///
    /// The key does not permit it, or the memory cannot be read.
    fn read(&self, access: &Access, bytes: &mut [u8]) -> Result<(), KeyError>;
    /// Writes memory through a key; `bytes` has the length of the access.
    ///
    /// # Errors
    ///
    /// The key does not permit it, or the memory cannot be written.
    fn write(&mut self, access: &Access, bytes: &[u8]) -> Result<(), KeyError>;
    /// Invalidates a key, as a peer's send with invalidate asks.
    ///
    /// # Errors
    ///
    /// The key does not permit it.
    fn invalidate(&mut self, user: User, key: u32) -> Result<(), KeyError>;

    /// The number of the queue pair that packets to queue pair 0 or 1 are for.
    fn management_qpn(&self, qpn: u32) -> u32;
    /// The queue pairs that are attached to a multicast group, without those that asked not to receive what `sender`
    /// sends, where `sender` is a queue pair of this card.
    fn members(&self, mgid: &[u8; 16], sender: Option<u32>) -> Vec<u32>;

    /// Reports an asynchronous event of queue pair `qpn`.
    fn event(&mut self, qpn: u32, event: QpEvent);
    /// Counts something that went wrong.
    fn count(&mut self, incident: Incident);
}

/// What a send queue held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// No request.
    Nothing,
    /// A request.
    Request(Send),
    /// A request that cannot be executed, with its index. The card has reported why.
    Malformed(u16),
}

/// What the transport has to know about a shared receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedQueue {
    /// The protection domain of its buffers.
    pub pd: u32,
    /// Its XRC domain.
    pub xrcd: u16,
    /// Its completion queue, used for XRC.
    pub cqn: u32,
}

/// Something that went wrong, for the card's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// The responder sent this syndrome.
    Refused(Syndrome),
    /// The requester received this syndrome.
    WasRefused(Syndrome),
    /// A datagram arrived and there was no receive request for it.
    DatagramDropped,
}
