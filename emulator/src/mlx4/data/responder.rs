//! The responder of a connected queue pair: takes requests in the order of their PSNs, and answers.
//!
//! InfiniBand Architecture Specification, volume 1, sections 9.7.4 to 9.7.7 (reliable) and 9.8.2 (unreliable). A request
//! that cannot be executed ends in a [`Refusal`]; what becomes of that depends on the service: a reliable one answers
//! with a NAK, an unreliable one drops the message.

mod fetch;
mod replies;

use std::{collections::VecDeque, fmt};

use super::{
    Step,
    address::scatter,
    cqe::{Cqe, Error, Received, ReceivedKind},
    mpt::{self, KeyError, Rights, User},
    qp::{Qp, State},
    qpc::Kind,
    window,
    wqe::Receive,
};
use crate::{
    fabric::packet::{Nak, Operation, Packet, Psn, Reth, Syndrome},
    mlx4::event::QpEvent,
};

/// Requests that wait while a read is answered; more than a window of one requester.
const MAX_WAITING: usize = 1024;
/// Results of atomic operations that are kept for a requester that asks again.
const MAX_RESULTS: usize = 128;

/// The responder of a queue pair.
#[derive(Default)]
pub(crate) struct Responder {
    /// The PSN of the next request.
    expected: Psn,
    /// Messages completed.
    msn: u32,
    /// A NAK has been sent; until the request comes again there is no other.
    nak_sent: bool,
    /// The message that has begun and not ended.
    message: Option<Message>,
    /// The receive request of a message that an unreliable connection gave up; the next message takes it.
    spare: Option<Receive>,
    /// Answers to be sent, in order.
    replies: VecDeque<Reply>,
    /// Requests that came while a read was being answered.
    waiting: VecDeque<Packet>,
    /// Results of atomic operations, by PSN, for requests that come again.
    results: VecDeque<(Psn, u64)>,
    /// Whether the driver knows that the connection works.
    established: bool,
}

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
    /// It is not a valid request here.
    Invalid(&'static str),
    /// Its key does not allow it.
    Access(KeyError),
    /// It is longer than the receive request.
    TooLong,
    /// The key of the receive request does not allow it.
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
    /// Begins with the receive PSN of the context.
    pub(crate) fn start(&mut self, expected: Psn) {
        *self = Self { expected, ..Self::default() };
    }

    pub(crate) fn expected(&self) -> Psn {
        self.expected
    }

    pub(crate) fn msn(&self) -> u32 {
        self.msn
    }

    /// Ends: the receive request that was in use, and its shared receive queue if it is of XRC.
    pub(crate) fn stop(&mut self) -> Option<(Receive, Option<u32>)> {
        self.replies.clear();
        self.waiting.clear();
        match self.message.take() {
            Some(Message::Send { request, srqn, .. }) => Some((request, srqn)),
            _ => self.spare.take().map(|request| (request, None)),
        }
    }

    /// Whether there are answers to be sent or requests to be taken.
    pub(crate) fn is_busy(&self) -> bool {
        !self.replies.is_empty() || !self.waiting.is_empty()
    }

    fn is_reading(&self) -> bool {
        self.replies.iter().any(|reply| matches!(reply, Reply::Read { .. }))
    }

    fn reads(&self) -> usize {
        self.replies.iter().filter(|reply| !matches!(reply, Reply::Acknowledge { .. })).count()
    }

    /// Acknowledges everything up to `psn`; acknowledgements that follow each other become one.
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
    pub(crate) fn requested(&mut self, step: &mut Step<'_>, packet: Packet) {
        if self.state == State::Rtr && !self.responder.established {
            self.responder.established = true;
            self.event(step.card, QpEvent::CommunicationEstablished);
        }
        if self.kind == Kind::Uc {
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

    /// Answers with a NAK. All but one end the connection; the driver is told by the completion of the receive request
    /// or else by an event.
    fn refused(&mut self, step: &mut Step<'_>, psn: Psn, refusal: Refusal) {
        if step.card.trace.on() {
            let qpn = self.qpn;
            step.card.trace.line(format_args!("QP {qpn:#x} refuses PSN {psn}: {refusal}"));
        }
        let (nak, error, event) = match refusal {
            Refusal::NotReady => {
                let timer = self.context.rnr_timer();
                return self.responder.refuse(psn, Syndrome::RnrNak(timer));
            }
            Refusal::Invalid(_) => (Nak::InvalidRequest, None, Some(QpEvent::InvalidRequestError)),
            Refusal::Access(_) => (Nak::RemoteAccess, None, Some(QpEvent::AccessError)),
            Refusal::TooLong => (Nak::InvalidRequest, Some(Error::LocalLength), None),
            Refusal::Protection(_) => (Nak::RemoteOperational, Some(Error::LocalProtection), None),
        };
        self.responder.refuse(psn, Syndrome::Nak(nak));
        // The answers go out before the queue pair is in error, and silent.
        while !self.responder.replies.is_empty() {
            self.reply(step);
        }
        self.fail_receive(step, error);
        if let Some(event) = event {
            self.event(step.card, event);
        }
        self.fail(step);
    }

    /// Completes the receive request in use with an error.
    fn fail_receive(&mut self, step: &mut Step<'_>, error: Option<Error>) {
        let Some(error) = error else { return };
        if let Some(Message::Send { request, srqn, .. }) = self.responder.message.take() {
            self.receive_failed(step, &request, srqn, error);
        }
    }

    /// An unreliable connection: a gap in the PSNs ends the message it is in, and the next message is taken.
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
                step.card.trace.line(format_args!("QP {:#x} drops PSN {psn}: {refusal}", self.qpn));
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

    /// Gives up the message that has begun; its receive request takes the next one.
    fn abandon(&mut self) {
        if let Some(Message::Send { request, .. }) = self.responder.message.take() {
            self.responder.spare = Some(request);
        }
    }

    /// Executes the request that is next.
    fn execute(&mut self, step: &mut Step<'_>, packet: &Packet) -> Result<(), Refusal> {
        let operation = packet.bth.opcode.operation;
        self.check_order(operation)?;
        self.check_length(packet)?;
        let psn = packet.bth.psn;
        match operation {
            _ if operation.is_send() => self.execute_send(step, packet)?,
            _ if operation.is_write() => self.execute_write(step, packet)?,
            Operation::ReadRequest => return self.execute_read(step, packet),
            _ if operation.is_atomic() => self.execute_atomic(step, packet)?,
            _ => return Err(Refusal::Invalid("an operation that is no request")),
        }
        self.responder.expected = psn.plus(1);
        Ok(())
    }

    /// A message begins where none has begun, and goes on as it began (section 9.7.4.1.2).
    fn check_order(&self, operation: Operation) -> Result<(), Refusal> {
        let right = match &self.responder.message {
            None => operation.begins(),
            Some(Message::Send { .. }) => operation.is_send() && !operation.begins(),
            Some(Message::Write { .. }) => operation.is_write() && !operation.begins(),
        };
        if right { Ok(()) } else { Err(Refusal::Invalid("out of the order of a message's packets")) }
    }

    /// Packets before the last of a message are full (section 9.7.4.1.6).
    fn check_length(&self, packet: &Packet) -> Result<(), Refusal> {
        let (length, mtu) = (packet.payload.len(), self.context.mtu());
        let operation = packet.bth.opcode.operation;
        let right = if operation.continues() { length == mtu } else { length <= mtu };
        let empty_end = length == 0 && !operation.begins() && !operation.continues();
        if right && !empty_end { Ok(()) } else { Err(Refusal::Invalid("a payload of the wrong length")) }
    }

    /// The shared receive queue of an XRC request.
    fn xrc_target(&self, step: &Step<'_>, packet: &Packet) -> Result<Option<u32>, Refusal> {
        if self.kind != Kind::Xrc {
            return Ok(None);
        }
        let srqn = packet.extended.xrceth.unwrap_or(0);
        match step.srqs.get(srqn) {
            Some(srq) if srq.xrcd == self.context.xrcd() => Ok(Some(srqn)),
            _ => Err(Refusal::Invalid("no such shared receive queue in its XRC domain")),
        }
    }

    /// Takes a receive request.
    pub(crate) fn take_receive(&mut self, step: &mut Step<'_>, srqn: Option<u32>) -> Option<Receive> {
        if let Some(request) = self.responder.spare.take() {
            return Some(request);
        }
        match srqn.or(self.context.srqn()) {
            Some(srqn) => step.srqs.get_mut(srqn)?.take(step.card),
            None => self.rq.as_mut()?.take(step.card),
        }
    }

    /// Whose keys the elements of receive requests are, and of XRC the keys of remote requests.
    pub(crate) fn receive_user(&self, step: &Step<'_>, srqn: Option<u32>) -> User {
        let shared = srqn.or(self.context.srqn()).and_then(|srqn| step.srqs.get(srqn));
        let user = self.user();
        User { pd: shared.map_or(user.pd, |srq| srq.pd), ..user }
    }

    fn remote_user(&self, step: &Step<'_>, srqn: Option<u32>) -> User {
        if self.kind == Kind::Xrc { self.receive_user(step, srqn) } else { self.user() }
    }

    fn execute_send(&mut self, step: &mut Step<'_>, packet: &Packet) -> Result<(), Refusal> {
        let operation = packet.bth.opcode.operation;
        let srqn = self.xrc_target(step, packet)?;
        if self.responder.message.is_none() {
            let request = self.take_receive(step, srqn).ok_or(Refusal::NotReady)?;
            self.responder.message = Some(Message::Send { request, srqn, received: 0 });
        }
        let Some(Message::Send { request, received, .. }) = &self.responder.message else {
            return Err(Refusal::Invalid("no message to go on with"));
        };
        let received = *received;
        let length = received + packet.payload.len() as u64;
        if length > request.length() {
            return Err(Refusal::TooLong);
        }
        let user = self.receive_user(step, srqn);
        scatter(step.card, user, &request.elements, received, &packet.payload)
            .map_err(Refusal::Protection)?;
        if operation.continues() {
            if let Some(Message::Send { received, .. }) = &mut self.responder.message {
                *received = length;
            }
            return Ok(());
        }
        if let Some(key) = packet.extended.ieth {
            window::invalidate(step.card, self.remote_user(step, srqn), key).map_err(Refusal::Access)?;
        }
        let Some(Message::Send { request, .. }) = self.responder.message.take() else { return Ok(()) };
        let (kind, immediate) = match (packet.extended.immediate, packet.extended.ieth) {
            (Some(immediate), _) => (ReceivedKind::SendImmediate, immediate),
            (None, Some(key)) => (ReceivedKind::SendInvalidate, key),
            (None, None) => (ReceivedKind::Send, 0),
        };
        self.received(step, packet, &request, srqn, kind, immediate, length);
        Ok(())
    }

    fn execute_write(&mut self, step: &mut Step<'_>, packet: &Packet) -> Result<(), Refusal> {
        let operation = packet.bth.opcode.operation;
        let srqn = self.xrc_target(step, packet)?;
        let user = self.remote_user(step, srqn);
        let (address, rkey, written, length) = match (&self.responder.message, packet.extended.reth) {
            (Some(Message::Write { address, rkey, written, length }), _) => {
                (*address, *rkey, *written, *length)
            }
            (_, Some(Reth { address, rkey, length })) => (address, rkey, 0, u64::from(length)),
            _ => return Err(Refusal::Invalid("a write without its header")),
        };
        if !self.context.allows_remote_write() {
            return Err(Refusal::Invalid("the queue pair takes no writes"));
        }
        let now = written + packet.payload.len() as u64;
        if length > 1 << 31 || now > length || !operation.continues() && now != length {
            return Err(Refusal::Invalid("a write that is not as long as it says"));
        }
        if length != 0 {
            let need = Rights::REMOTE_WRITE;
            let memory =
                mpt::remote(step.card, user, rkey, address, length, need).map_err(Refusal::Access)?;
            let request = match packet.extended.immediate {
                Some(_) => Some(self.take_receive(step, srqn).ok_or(Refusal::NotReady)?),
                None => None,
            };
            let place = address.wrapping_add(written);
            memory.write(step.card, place, &packet.payload).map_err(Refusal::Access)?;
            return self.written(step, packet, srqn, request, (address, rkey, now, length));
        }
        let request = match packet.extended.immediate {
            Some(_) => Some(self.take_receive(step, srqn).ok_or(Refusal::NotReady)?),
            None => None,
        };
        self.written(step, packet, srqn, request, (address, rkey, now, length))
    }

    /// The payload of a write is in its place.
    fn written(
        &mut self,
        step: &mut Step<'_>,
        packet: &Packet,
        srqn: Option<u32>,
        request: Option<Receive>,
        (address, rkey, written, length): (u64, u32, u64, u64),
    ) -> Result<(), Refusal> {
        if packet.bth.opcode.operation.continues() {
            self.responder.message = Some(Message::Write { address, rkey, written, length });
            return Ok(());
        }
        self.responder.message = None;
        match request {
            Some(request) => {
                let immediate = packet.extended.immediate.unwrap_or(0);
                self.received(step, packet, &request, srqn, ReceivedKind::WriteImmediate, immediate, length);
            }
            None => self.responder.msn = self.responder.msn.wrapping_add(1),
        }
        Ok(())
    }

    /// A message is complete that has taken a receive request.
    #[expect(clippy::too_many_arguments, reason = "what a completion says")]
    fn received(
        &mut self,
        step: &mut Step<'_>,
        packet: &Packet,
        request: &Receive,
        srqn: Option<u32>,
        kind: ReceivedKind,
        immediate: u32,
        length: u64,
    ) {
        self.responder.msn = self.responder.msn.wrapping_add(1);
        let entry = Cqe::Received(Received {
            qpn: self.qpn,
            wqe: request.index,
            kind,
            immediate,
            byte_count: u32::try_from(length).unwrap_or(u32::MAX),
            remote_qpn: srqn.unwrap_or_else(|| self.context.remote_qpn()),
            slid: packet.lrh.slid,
            sl: packet.lrh.sl,
            path_bits: 0,
            grh: packet.grh.is_some(),
            ethernet: packet.lrh.ethernet,
        });
        let cqn = self.receive_cqn(step, srqn);
        self.complete(step, cqn, &entry, packet.bth.solicited);
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
