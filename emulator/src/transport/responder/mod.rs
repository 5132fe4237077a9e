//! The responder of a connected queue pair: executes requests in the order of their PSNs, and answers them.
//!
//! Sections 9.7.4 to 9.7.7 (reliable) and 9.8.2 (unreliable). A request that cannot be executed ends in a [`Refusal`].
//! What follows depends on the service: a reliable one answers with a NAK, an unreliable one drops the message.

mod execute;
mod fetch;
mod replies;

use std::{collections::VecDeque, fmt};

use super::{
    Step,
    attributes::Kind,
    completion::{Error, QpEvent},
    key::{KeyError, User},
    qp::{Qp, State},
    request::Receive,
};
use crate::fabric::packet::{Nak, Operation, Packet, Psn, Syndrome};

/// Requests that wait while a read is answered; more than a window of one requester.
const MAX_WAITING: usize = 1024;
/// Results of atomic operations that are kept for a requester that asks again.
const MAX_RESULTS: usize = 128;

/// The responder of a queue pair.
#[derive(Default)]
pub(super) struct Responder {
    /// The PSN of the next request.
    expected: Psn,
    /// Messages completed.
    msn: u32,
    /// A NAK has been sent; there is no other until the request arrives again.
    nak_sent: bool,
    /// The message that has begun and not ended.
    message: Option<Message>,
    /// A receive request that was taken for a message that failed. The next message takes it, or it is flushed.
    spare: Option<Taken>,
    /// Answers to be sent, in order.
    replies: VecDeque<Reply>,
    /// Requests that arrived while a read was being answered.
    waiting: VecDeque<Packet>,
    /// Results of atomic operations, by PSN, for repeated requests.
    results: VecDeque<(Psn, u64)>,
    /// Whether the driver has been told that the connection works.
    established: bool,
}

/// A receive request, and the shared receive queue that it came from if the message is XRC.
type Taken = (Receive, Option<u32>);

/// A message of several packets.
enum Message {
    Send { request: Receive, srqn: Option<u32>, received: u64 },
    Write { address: u64, rkey: u32, written: u64, length: u64 },
}

/// An answer.
enum Reply {
    Acknowledge { psn: Psn, syndrome: Syndrome, msn: u32 },
    Read { psn: Psn, address: u64, rkey: u32, length: u64, sent: u64, user: User, msn: u32 },
    Atomic { psn: Psn, was: u64, msn: u32 },
}

/// Why a request is not executed.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// There is no receive request.
    NotReady,
    /// The request is not valid here.
    Invalid(&'static str),
    /// Its key does not permit it.
    Access(KeyError),
    /// It is longer than the receive request.
    TooLong,
    /// The key of the receive request does not permit it.
    Protection(KeyError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("no receive request"),
            Self::Invalid(what) => f.write_str(what),
            Self::Access(error) => write!(f, "remote access: {error}"),
            Self::TooLong => f.write_str("longer than the receive request"),
            Self::Protection(error) => write!(f, "receive request: {error}"),
        }
    }
}

impl Responder {
    /// Starts with the receive PSN of the attributes.
    pub(super) fn start(&mut self, expected: Psn) {
        *self = Self { expected, ..Self::default() };
    }

    pub(super) fn expected(&self) -> Psn {
        self.expected
    }

    pub(super) fn msn(&self) -> u32 {
        self.msn
    }

    /// Stops, and returns the receive requests that were taken and not completed.
    pub(super) fn stop(&mut self) -> impl Iterator<Item = Taken> + use<> {
        self.replies.clear();
        self.waiting.clear();
        let begun = match self.message.take() {
            Some(Message::Send { request, srqn, .. }) => Some((request, srqn)),
            _ => None,
        };
        begun.into_iter().chain(self.spare.take())
    }

    /// Whether there are answers to send or requests to execute.
    fn is_busy(&self) -> bool {
        !self.replies.is_empty() || !self.waiting.is_empty()
    }

    fn is_reading(&self) -> bool {
        self.replies.iter().any(|reply| matches!(reply, Reply::Read { .. }))
    }

    fn outstanding_reads(&self) -> usize {
        self.replies.iter().filter(|reply| !matches!(reply, Reply::Acknowledge { .. })).count()
    }

    /// Acknowledges everything up to `psn`. Consecutive acknowledgements are merged.
    fn acknowledge(&mut self, psn: Psn) {
        let (msn, syndrome) = (self.msn, Syndrome::Ack);
        let reply = Reply::Acknowledge { psn, syndrome, msn };
        match self.replies.back_mut() {
            Some(last @ Reply::Acknowledge { syndrome: Syndrome::Ack, .. }) => *last = reply,
            _ => self.replies.push_back(reply),
        }
    }

    fn refuse(&mut self, psn: Psn, syndrome: Syndrome) {
        self.nak_sent = true;
        self.replies.push_back(Reply::Acknowledge { psn, syndrome, msn: self.msn });
    }
}

impl Qp {
    /// Takes a request.
    pub(super) fn requested(&mut self, step: &mut Step<'_>, packet: Packet) {
        if self.state == State::Rtr && !self.responder.established {
            self.responder.established = true;
            step.adapter.event(self.qpn, QpEvent::CommunicationEstablished);
        }
        if self.attributes.kind == Kind::Uc {
            self.requested_unreliably(step, &packet);
        } else if self.responder.is_reading() || !self.responder.waiting.is_empty() {
            // Requests are executed in order, and a read is not done until its data are sent.
            if self.responder.waiting.len() < MAX_WAITING {
                self.responder.waiting.push_back(packet);
            }
        } else {
            self.requested_reliably(step, &packet);
        }
    }

    fn requested_reliably(&mut self, step: &mut Step<'_>, packet: &Packet) {
        let psn = packet.bth.psn;
        let late = psn.since(self.responder.expected);
        if late < 0 {
            return self.requested_again(step, packet);
        }
        if late > 0 {
            if !self.responder.nak_sent {
                let expected = self.responder.expected;
                self.responder.refuse(expected, Syndrome::Nak(Nak::PsnSequence));
            }
            return;
        }
        match self.execute(step, packet) {
            Ok(()) => {
                self.responder.nak_sent = false;
                if packet.bth.ack_request && !fetches(packet.bth.opcode.operation) {
                    self.responder.acknowledge(psn);
                }
            }
            Err(refusal) => self.refused(step, psn, refusal),
        }
    }

    /// Answers with a NAK. All refusals but [`Refusal::NotReady`] end the connection. The driver learns of it by the
    /// completion of the receive request, or else by an event.
    fn refused(&mut self, step: &mut Step<'_>, psn: Psn, refusal: Refusal) {
        if step.is_traced() {
            let qpn = self.qpn;
            step.trace(format_args!("QP {qpn:#x} refuses PSN {psn}: {refusal}"));
        }
        let (nak, error, event) = match refusal {
            Refusal::NotReady => {
                let timer = self.attributes.rnr_timer;
                return self.responder.refuse(psn, Syndrome::RnrNak(timer));
            }
            Refusal::Invalid(_) => (Nak::InvalidRequest, None, Some(QpEvent::InvalidRequestError)),
            Refusal::Access(_) => (Nak::RemoteAccess, None, Some(QpEvent::AccessError)),
            Refusal::TooLong => (Nak::InvalidRequest, Some(Error::LocalLength), None),
            Refusal::Protection(_) => (Nak::RemoteOperational, Some(Error::LocalProtection), None),
        };
        self.responder.refuse(psn, Syndrome::Nak(nak));
        // The answers leave before the queue pair is in error: from then on it sends nothing.
        while !self.responder.replies.is_empty() {
            self.reply(step);
        }
        self.fail_receive(step, error);
        if let Some(event) = event {
            step.adapter.event(self.qpn, event);
        }
        self.fail(step);
    }

    /// Completes the receive request of the current message in error.
    fn fail_receive(&mut self, step: &mut Step<'_>, error: Option<Error>) {
        let Some(error) = error else { return };
        if let Some(Message::Send { request, srqn, .. }) = self.responder.message.take() {
            self.receive_failed(step, &request, srqn, error);
        }
    }

    /// An unreliable connection: a gap in the PSNs ends the message that it is in; the next message is accepted.
    fn requested_unreliably(&mut self, step: &mut Step<'_>, packet: &Packet) {
        let psn = packet.bth.psn;
        let operation = packet.bth.opcode.operation;
        let gap = psn != self.responder.expected || self.responder.nak_sent;
        if gap && !operation.begins() {
            self.responder.nak_sent = true;
            return;
        }
        if operation.begins() && self.responder.message.is_some() {
            self.abandon();
        }
        self.responder.expected = psn;
        self.responder.nak_sent = false;
        match self.execute(step, packet) {
            Ok(()) => {}
            Err(Refusal::TooLong) => self.fail_unreliable(step, Error::LocalLength),
            Err(Refusal::Protection(_)) => self.fail_unreliable(step, Error::LocalProtection),
            Err(refusal) => {
                step.trace(format_args!("QP {:#x} drops PSN {psn}: {refusal}", self.qpn));
                self.abandon();
                self.responder.expected = psn.plus(1);
                self.responder.nak_sent = true;
            }
        }
    }

    fn fail_unreliable(&mut self, step: &mut Step<'_>, error: Error) {
        self.fail_receive(step, Some(error));
        self.fail(step);
    }

    /// Gives up the message that has begun; the next one takes its receive request.
    fn abandon(&mut self) {
        if let Some(Message::Send { request, srqn, .. }) = self.responder.message.take() {
            self.responder.spare = Some((request, srqn));
        }
    }

    /// The shared receive queue of an XRC request.
    fn xrc_target(&self, step: &Step<'_>, packet: &Packet) -> Result<Option<u32>, Refusal> {
        if self.attributes.kind != Kind::Xrc {
            return Ok(None);
        }
        let srqn = packet.extended.xrceth.unwrap_or(0);
        match step.adapter.shared_queue(srqn) {
            Some(shared) if shared.xrcd == self.attributes.xrcd => Ok(Some(srqn)),
            _ => Err(Refusal::Invalid("no such shared receive queue in its XRC domain")),
        }
    }

    /// Takes a receive request; `srqn` is the shared receive queue of an XRC message.
    pub fn take_receive(&mut self, step: &mut Step<'_>, srqn: Option<u32>) -> Option<Receive> {
        if let Some((request, _)) = self.responder.spare.take_if(|(_, of)| *of == srqn) {
            return Some(request);
        }
        match srqn.or(self.attributes.srqn) {
            Some(srqn) => step.adapter.receive_shared(srqn),
            None => step.adapter.receive(self.qpn),
        }
    }

    /// The user of the keys in receive requests and, for XRC, of the keys in remote requests.
    pub fn receive_user(&self, step: &Step<'_>, srqn: Option<u32>) -> User {
        let shared = srqn.or(self.attributes.srqn).and_then(|srqn| step.adapter.shared_queue(srqn));
        let user = self.user();
        User { pd: shared.map_or(user.pd, |shared| shared.pd), ..user }
    }

    fn remote_user(&self, step: &Step<'_>, srqn: Option<u32>) -> User {
        if self.attributes.kind == Kind::Xrc { self.receive_user(step, srqn) } else { self.user() }
    }

    /// A request that was executed before: its answer was lost (section 9.7.5.1.4).
    fn requested_again(&mut self, step: &mut Step<'_>, packet: &Packet) {
        let (psn, operation) = (packet.bth.psn, packet.bth.opcode.operation);
        if operation == Operation::ReadRequest {
            let user = match self.xrc_target(step, packet) {
                Ok(srqn) => self.remote_user(step, srqn),
                Err(_) => return,
            };
            match self.read_reply(step, packet, user) {
                Ok(reply) => self.responder.replies.push_back(reply),
                Err(refusal) => self.refused(step, psn, refusal),
            }
        } else if operation.is_atomic() {
            let result = self.responder.results.iter().find(|(of, _)| *of == psn);
            if let Some(&(psn, was)) = result {
                let msn = self.responder.msn;
                self.responder.replies.push_back(Reply::Atomic { psn, was, msn });
            }
        } else {
            let done = self.responder.expected.before();
            self.responder.acknowledge(done);
        }
    }
}

fn fetches(operation: Operation) -> bool {
    operation == Operation::ReadRequest || operation.is_atomic()
}
