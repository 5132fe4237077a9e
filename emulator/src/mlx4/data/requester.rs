//! The requester of a queue pair: takes requests from the send queue, sends them, takes the answers, tries again.
//!
//! InfiniBand Architecture Specification, volume 1, sections 9.7.3 to 9.7.8 (reliable), 9.8.2 (unreliable). Each packet
//! of a request has a PSN; a read has as many as its response has packets. `cursor` is the PSN that is sent next. It is
//! put back to try again, so new requests and repeated ones go the same way.

mod answers;
mod completions;

use std::{collections::VecDeque, time::Duration};

use super::{
    Step,
    address::{self, gather},
    cqe::Error,
    mpt::{self, Rights},
    qp::{Qp, State},
    qpc::{Kind, Qpc},
    sq::Fetched,
    window,
    wqe::{self, Element, Send, Tail, Work},
};
use crate::fabric::packet::{AtomicEth, Bth, Extended, Opcode, Operation, Packet, Psn, Reth, Service};

/// Requests that may be under way.
const MAX_UNDER_WAY: usize = 64;
/// Packets of one message that may be under way; half way there an acknowledgement is asked for.
const WINDOW: u32 = 128;
/// PSNs that may be under way: with more, old ones could not be told from new ones.
const MAX_PSNS: i64 = 1 << 23;
/// A retry counter that never runs out (RNR only).
const FOR_EVER: u8 = 7;

/// The requester of a queue pair.
#[derive(Default)]
pub(crate) struct Requester {
    /// Requests under way, oldest first.
    requests: VecDeque<Request>,
    /// A request that was fetched and has to wait for others.
    held: Option<Send>,
    /// The PSN of the next new request.
    next: Psn,
    /// The PSN to be sent next.
    cursor: Psn,
    /// When to try again if no answer comes.
    deadline: Option<Duration>,
    /// The receiver was not ready; nothing is sent before.
    not_before: Option<Duration>,
    retries: u8,
    rnr_retries: u8,
}

/// A request under way.
struct Request {
    send: Send,
    /// PSN of its first packet.
    first: Psn,
    /// PSNs it has: 0 where nothing is sent.
    psns: u32,
    /// PSNs of those that have been answered.
    answered: u32,
    outcome: Option<Result<(), Error>>,
}

impl Request {
    /// Whether its answer is data, not a mere acknowledgement.
    fn fetches(&self) -> bool {
        fetches(&self.send)
    }

    /// The first PSN that has not been answered.
    fn oldest(&self) -> Psn {
        self.first.plus(self.answered)
    }

    fn contains(&self, psn: Psn) -> bool {
        (0..i64::from(self.psns)).contains(&psn.since(self.first).into())
    }
}

fn fetches(send: &Send) -> bool {
    matches!(send.work, Work::Read { .. } | Work::Atomic { .. })
}

impl Requester {
    /// Begins with the send PSN of the context.
    pub(crate) fn start(&mut self, context: &Qpc) {
        self.next = Psn::new(context.next_send_psn());
        self.cursor = self.next;
        self.reload(context);
    }

    /// Takes over the retry counters of the context.
    pub(crate) fn reload(&mut self, context: &Qpc) {
        self.retries = context.retries();
        self.rnr_retries = context.rnr_retries();
    }

    pub(crate) fn next_psn(&self) -> Psn {
        self.next
    }

    /// The oldest PSN that has not been answered.
    pub(crate) fn oldest_psn(&self) -> Psn {
        let unanswered = self.requests.iter().find(|request| request.outcome.is_none() && request.psns > 0);
        unanswered.map_or(self.next, Request::oldest)
    }

    /// Whether no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// The PSN of the request that failed: only what was sent before it is still sent, again.
    fn failed_at(&self) -> Option<Psn> {
        let failed = self.requests.iter().find(|request| matches!(request.outcome, Some(Err(_))))?;
        Some(failed.first)
    }

    fn fetches_under_way(&self) -> usize {
        self.requests.iter().filter(|request| request.fetches() && request.outcome.is_none()).count()
    }

    /// When there is something to do without being asked.
    pub(crate) fn alarm(&self) -> Option<Duration> {
        self.not_before.or(self.deadline)
    }

    fn fail_at(&mut self, psn: Psn, error: Error) {
        self.deadline = None;
        self.not_before = None;
        if let Some(request) = self.requests.iter_mut().find(|request| request.contains(psn)) {
            request.outcome = Some(Err(error));
        }
    }

    /// Goes back to `psn`, or gives up.
    fn retry(&mut self, psn: Psn) {
        self.deadline = None;
        if self.retries == 0 {
            return self.fail_at(psn, Error::RetriesExceeded);
        }
        self.retries -= 1;
        self.cursor = psn;
    }
}

impl Qp {
    /// Sends up to `budget` packets. Whether there may be more.
    pub(crate) fn send(&mut self, step: &mut Step<'_>, budget: usize) -> bool {
        self.check_timers(step);
        for _ in 0..budget {
            let cursor = self.requester.cursor;
            let failed = self.requester.failed_at().is_some_and(|psn| cursor.since(psn) >= 0);
            if failed || self.requester.not_before.is_some() {
                return false;
            }
            let going = match self.state {
                State::Rts | State::SqDraining if self.requester.cursor != self.requester.next => {
                    self.send_packet(step)
                }
                State::Rts => self.begin_next(step),
                _ => false,
            };
            self.complete_requests(step);
            if !going {
                return false;
            }
        }
        true
    }

    fn check_timers(&mut self, step: &mut Step<'_>) {
        let requester = &mut self.requester;
        if requester.not_before.is_some_and(|time| time <= step.now) {
            requester.not_before = None;
        }
        if requester.deadline.is_some_and(|time| time <= step.now) {
            let oldest = requester.oldest_psn();
            if step.card.trace.on() {
                let (qpn, left) = (self.qpn, requester.retries);
                step.card
                    .trace
                    .line(format_args!("QP {qpn:#x} timeout at PSN {oldest}, {left} retries left"));
            }
            requester.retry(oldest);
            self.complete_requests(step);
        }
    }

    /// Takes the next request from the queue and begins with it. Whether there was one that could begin.
    fn begin_next(&mut self, step: &mut Step<'_>) -> bool {
        if self.requester.requests.len() >= MAX_UNDER_WAY {
            return false;
        }
        let send = match self.requester.held.take() {
            Some(send) => send,
            None => match self.fetch(step) {
                Some(Ok(send)) => send,
                Some(Err(index)) => {
                    self.begin_malformed(index);
                    return true;
                }
                None => return false,
            },
        };
        if self.must_wait(&send) {
            self.requester.held = Some(send);
            return false;
        }
        self.begin(step, send);
        true
    }

    /// Fetches a request; one that is malformed is reported, and its counter returned.
    fn fetch(&mut self, step: &mut Step<'_>) -> Option<Result<Send, u16>> {
        let sq = self.sq.as_mut().filter(|sq| sq.rung)?;
        let (index, bytes) = match sq.fetch(step.card) {
            Fetched::Nothing => return None,
            Fetched::Malformed(index) => return Some(Err(index)),
            Fetched::Request(index, bytes) => (index, bytes),
        };
        match wqe::send(self.kind, self.qpn, index, &bytes) {
            Ok(send) => {
                if step.card.trace.on() {
                    let qpn = self.qpn;
                    step.card.trace.line(format_args!("QP {qpn:#x} SQ [{index}] {send}"));
                }
                Some(Ok(send))
            }
            Err(wqe::Malformed(what)) => {
                super::violate(step.card, super::Queue::Sq(self.qpn), Some(index.into()), what, &bytes);
                Some(Err(index))
            }
        }
    }

    fn begin_malformed(&mut self, index: u16) {
        self.requester.requests.push_back(Request {
            send: Send::unreadable(index),
            first: self.requester.next,
            psns: 0,
            answered: 0,
            outcome: Some(Err(Error::LocalQpOperation)),
        });
    }

    /// The ordering rules: fences, strong order, and the limit of reads and atomics under way.
    fn must_wait(&self, send: &Send) -> bool {
        let requester = &self.requester;
        let fetching = requester.fetches_under_way();
        let psns = i64::from(requester.next.since(requester.oldest_psn()));
        send.fence && fetching > 0
            || send.strong_order && !requester.is_idle()
            || fetches(send) && fetching >= self.context.reads_as_requester()
            || psns > 0 && psns + i64::from(self.psns(send)) > MAX_PSNS
    }

    fn psns(&self, send: &Send) -> u32 {
        let mtu = self.context.mtu().max(1) as u64;
        match send.work {
            Work::Message { datagram: Some(_), .. } | Work::Atomic { .. } => 1,
            Work::Message { .. } | Work::Write { .. } | Work::Read { .. } => {
                u32::try_from(send.data.length.div_ceil(mtu).max(1)).unwrap_or(u32::MAX)
            }
            Work::Nop | Work::Bind(_) | Work::FastRegister(_) | Work::Invalidate { .. } | Work::Frame(_) => 0,
        }
    }

    fn begin(&mut self, step: &mut Step<'_>, send: Send) {
        let too_long = send.data.length > self.context.max_message().min(1 << 31)
            || matches!(send.work, Work::Message { datagram: Some(_), .. })
                && send.data.length > self.datagram_mtu(step.card) as u64;
        let local = match &send.work {
            _ if too_long => Some(Err(Error::LocalLength)),
            _ if !self.may_use(step, &send) => Some(Err(Error::LocalProtection)),
            Work::Nop => Some(Ok(())),
            Work::Frame(frame) => Some(self.send_frame(step, &send, frame)),
            Work::Bind(bind) => Some(window::bind(step.card, self.user(), bind)),
            Work::FastRegister(register) => Some(if self.context.may_fast_register() {
                window::register(step.card, self.user(), register)
            } else {
                Err(Error::LocalQpOperation)
            }),
            Work::Invalidate { key } => Some(window::invalidate_locally(step.card, self.user(), *key)),
            _ => None,
        };
        let psns = if local.is_some() { 0 } else { self.psns(&send) };
        let requester = &mut self.requester;
        let first = requester.next;
        requester.next = first.plus(psns);
        requester.requests.push_back(Request { send, first, psns, answered: 0, outcome: local });
    }

    /// Whether the keys allow what the request does with its data. They are looked at once more with each packet, but a
    /// message whose end cannot be sent is not begun.
    fn may_use(&self, step: &mut Step<'_>, send: &Send) -> bool {
        let need = if fetches(send) { Rights::LOCAL_WRITE } else { Rights::LOCAL_READ };
        let refused = send.data.elements.iter().find_map(|element| match element {
            Element::Inline(_) => None,
            Element::Memory { lkey, address, length } => {
                mpt::local(step.card, self.user(), *lkey, *address, u64::from(*length), need).err()
            }
        });
        if let Some(error) = refused {
            step.card.trace.line(format_args!("QP {:#x} SQ [{}]: {error}", self.qpn, send.index));
        }
        refused.is_none()
    }

    /// Sends the packet at the cursor. Whether to go on.
    fn send_packet(&mut self, step: &mut Step<'_>) -> bool {
        let cursor = self.requester.cursor;
        let Some(at) = self.requester.requests.iter().position(|request| request.contains(cursor)) else {
            // What the cursor was put back to has been answered in the meantime.
            self.requester.cursor = self.requester.oldest_psn();
            return self.requester.requests.iter().any(|request| request.contains(self.requester.cursor));
        };
        let request = &self.requester.requests[at];
        let number = cursor.since(request.first).cast_unsigned();
        if request.outcome.is_some() || number < request.answered {
            // Answered while it was to be sent again.
            let done = if request.outcome.is_some() { request.psns } else { request.answered };
            self.requester.cursor = request.first.plus(done);
            return true;
        }
        let reliable = matches!(self.kind, Kind::Rc | Kind::Xrc);
        if reliable && number.saturating_sub(request.answered) >= WINDOW && !request.fetches() {
            return false;
        }
        let built = match &request.send.work {
            Work::Message { datagram: Some(datagram), .. } => {
                self.datagram(step, &request.send, datagram, cursor).map(|packet| (packet, true))
            }
            _ => self.packet(step, request, number).map(|packet| (packet, request.fetches())),
        };
        let request = &mut self.requester.requests[at];
        match built {
            Ok((packet, whole)) => {
                let advance = if whole { request.psns - number } else { 1 };
                self.requester.cursor = cursor.plus(advance);
                if !reliable && number + 1 == request.psns {
                    request.outcome = Some(Ok(()));
                }
                if reliable && self.requester.deadline.is_none() {
                    self.requester.deadline = self.context.ack_timeout().map(|timeout| step.now + timeout);
                }
                step.send(packet);
                true
            }
            Err(error) => {
                request.outcome = Some(Err(error));
                false
            }
        }
    }

    /// Packet `number` of a request of a connected queue pair. Of a read it asks for all that is missing.
    fn packet(&self, step: &mut Step<'_>, request: &Request, number: u32) -> Result<Packet, Error> {
        let mtu = self.context.mtu();
        let send = &request.send;
        let last = number + 1 == request.psns;
        let offset = u64::from(number) * mtu as u64;
        let mut extended =
            Extended { xrceth: (self.kind == Kind::Xrc).then_some(send.srqn), ..Extended::default() };
        let length = (send.data.length - offset).min(mtu as u64);
        let mut payload = Vec::new();
        let place = (number == 0, last);
        let operation = match send.work {
            Work::Message { tail, .. } => {
                payload = self.gather(step, send, offset, length)?;
                if last {
                    match tail {
                        Tail::Nothing => {}
                        Tail::Immediate(immediate) => extended.immediate = Some(immediate),
                        Tail::Invalidate(key) => extended.ieth = Some(key),
                    }
                }
                message_operation(place, tail)
            }
            Work::Write { address, rkey, immediate } => {
                payload = self.gather(step, send, offset, length)?;
                if number == 0 {
                    // No longer than 2 GiB: checked when it began.
                    extended.reth = Some(Reth { address, rkey, length: send.data.length as u32 });
                }
                if last {
                    extended.immediate = immediate;
                }
                write_operation(place, immediate.is_some())
            }
            Work::Read { address, rkey } => {
                let length = (send.data.length - offset) as u32;
                extended.reth = Some(Reth { address: address.wrapping_add(offset), rkey, length });
                Operation::ReadRequest
            }
            Work::Atomic { operation, address, rkey, swap_add, compare, masks } => {
                let [swap_add_mask, compare_mask] = masks;
                let atomic = AtomicEth { address, rkey, swap_add, compare, swap_add_mask, compare_mask };
                extended.atomic = Some(atomic);
                operation
            }
            Work::Nop | Work::Bind(_) | Work::FastRegister(_) | Work::Invalidate { .. } | Work::Frame(_) => {
                return Err(Error::LocalQpOperation);
            }
        };
        let path = self.context.path();
        let (mut lrh, grh) = address::headers(step.card, &path);
        lrh.force_loopback |= send.force_loopback;
        let reliable = self.kind != Kind::Uc;
        let bth = Bth {
            opcode: Opcode { service: self.service(), operation },
            solicited: send.solicited && last,
            pkey: step.card.port.pkey(path.pkey_index.into()).unwrap_or(0),
            dest_qpn: self.context.remote_qpn(),
            ack_request: reliable && (last || number % (WINDOW / 2) == WINDOW / 2 - 1),
            psn: request.first.plus(number),
        };
        Ok(Packet { lrh, grh, bth, extended, payload, bad_icrc: false })
    }

    pub(crate) fn service(&self) -> Service {
        match self.kind {
            Kind::Rc => Service::Rc,
            Kind::Uc => Service::Uc,
            Kind::Ud | Kind::Mlx(_) | Kind::Raw | Kind::Rss => Service::Ud,
            Kind::Xrc => Service::Xrc,
        }
    }

    /// Reads the data of a request.
    pub(crate) fn gather(
        &self,
        step: &mut Step<'_>,
        send: &Send,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, Error> {
        gather(step.card, self.user(), &send.data.elements, offset, length).map_err(|error| {
            step.card.trace.line(format_args!("QP {:#x} SQ [{}]: {error}", self.qpn, send.index));
            Error::LocalProtection
        })
    }

    /// Completes requests that are done, in order; the first that failed ends it.
    fn complete_requests(&mut self, step: &mut Step<'_>) {
        while let Some(outcome) = self.requester.requests.front().and_then(|request| request.outcome) {
            let Some(request) = self.requester.requests.pop_front() else { return };
            match outcome {
                Ok(()) => self.completed(step, &request.send),
                Err(error) => {
                    self.request_failed(step, request.send.index, error);
                    let unreliable = !matches!(self.kind, Kind::Rc | Kind::Xrc);
                    if unreliable && self.state != State::Error {
                        self.state = State::SqError;
                        self.flush_send(step);
                    } else {
                        self.fail(step);
                    }
                    return;
                }
            }
        }
        self.drain(step.card);
    }
}

fn message_operation(place: (bool, bool), tail: Tail) -> Operation {
    match (place, tail) {
        ((true, false), _) => Operation::SendFirst,
        ((false, false), _) => Operation::SendMiddle,
        ((false, true), Tail::Nothing) => Operation::SendLast,
        ((false, true), Tail::Immediate(_)) => Operation::SendLastImmediate,
        ((false, true), Tail::Invalidate(_)) => Operation::SendLastInvalidate,
        ((true, true), Tail::Nothing) => Operation::SendOnly,
        ((true, true), Tail::Immediate(_)) => Operation::SendOnlyImmediate,
        ((true, true), Tail::Invalidate(_)) => Operation::SendOnlyInvalidate,
    }
}

fn write_operation(place: (bool, bool), immediate: bool) -> Operation {
    match (place, immediate) {
        ((true, false), _) => Operation::WriteFirst,
        ((false, false), _) => Operation::WriteMiddle,
        ((false, true), false) => Operation::WriteLast,
        ((false, true), true) => Operation::WriteLastImmediate,
        ((true, true), false) => Operation::WriteOnly,
        ((true, true), true) => Operation::WriteOnlyImmediate,
    }
}
