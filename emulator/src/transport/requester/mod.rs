//! The requester of a queue pair: fetches requests, sends them, takes the answers, retries.
//!
//! Sections 9.7.3 to 9.7.8 (reliable) and 9.8.2 (unreliable). Each packet of a request has a PSN; a read has as many as
//! its response has packets. `cursor` is the PSN that is sent next. A retry moves it back, so new and repeated requests
//! take the same way.

mod answers;
mod completions;
mod packet;

use std::{collections::VecDeque, time::Duration};

use super::{
    Fetched, Step,
    attributes::{Attributes, Kind},
    completion::Error,
    key::{Access, Right},
    qp::{Qp, State},
    request::{Element, Send, Work},
};
use crate::fabric::packet::Psn;

/// Requests that may be outstanding.
const MAX_OUTSTANDING: usize = 64;
/// Packets of one message that may be outstanding; half way there an acknowledgement is requested.
const WINDOW: u32 = 128;
/// PSNs that may be outstanding: with more, old ones could not be told from new ones.
const MAX_PSNS: i64 = 1 << 23;

/// The requester of a queue pair.
#[derive(Default)]
pub(super) struct Requester {
    /// Outstanding requests, oldest first.
    requests: VecDeque<Request>,
    /// A request that was fetched and has to wait for others.
    held: Option<Send>,
    /// The PSN of the next new request.
    next: Psn,
    /// The PSN to be sent next.
    cursor: Psn,
    /// When to retry if no answer arrives.
    deadline: Option<Duration>,
    /// The receiver was not ready; nothing is sent before this time.
    not_before: Option<Duration>,
    retries: u8,
    rnr_retries: u8,
}

/// An outstanding request.
struct Request {
    send: Send,
    /// PSN of its first packet.
    first: Psn,
    /// The number of its PSNs; 0 if nothing is sent.
    psns: u32,
    /// How many of them have been answered.
    answered: u32,
    outcome: Option<Result<(), Error>>,
}

impl Request {
    /// Whether its answer carries data, not a mere acknowledgement.
    fn fetches(&self) -> bool {
        self.send.work.fetches()
    }

    /// The first PSN that has not been answered.
    fn oldest(&self) -> Psn {
        self.first.plus(self.answered)
    }

    fn contains(&self, psn: Psn) -> bool {
        (0..i64::from(self.psns)).contains(&psn.since(self.first).into())
    }
}

impl Requester {
    /// Starts with the send PSN of the attributes.
    pub(super) fn start(&mut self, attributes: &Attributes) {
        self.next = Psn::new(attributes.send_psn);
        self.cursor = self.next;
        self.reload(attributes);
    }

    /// Resets the retry counters.
    pub(super) fn reload(&mut self, attributes: &Attributes) {
        self.retries = attributes.retries;
        self.rnr_retries = attributes.rnr_retries;
    }

    pub(super) fn next_psn(&self) -> Psn {
        self.next
    }

    /// The oldest PSN that has not been answered.
    pub(super) fn oldest_psn(&self) -> Psn {
        let unanswered = self.requests.iter().find(|request| request.outcome.is_none() && request.psns > 0);
        unanswered.map_or(self.next, Request::oldest)
    }

    /// Whether no request is outstanding.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// The PSN of the request that failed: only what was sent before it is still retried.
    fn failed_at(&self) -> Option<Psn> {
        let failed = self.requests.iter().find(|request| matches!(request.outcome, Some(Err(_))))?;
        Some(failed.first)
    }

    fn outstanding_fetches(&self) -> usize {
        self.requests.iter().filter(|request| request.fetches() && request.outcome.is_none()).count()
    }

    /// When there is work to do without an answer.
    pub(super) fn alarm(&self) -> Option<Duration> {
        self.not_before.or(self.deadline)
    }

    fn fail_at(&mut self, psn: Psn, error: Error) {
        self.deadline = None;
        self.not_before = None;
        if let Some(request) = self.requests.iter_mut().find(|request| request.contains(psn)) {
            request.outcome = Some(Err(error));
        }
    }

    /// Goes back to `psn`, or fails its request when the retries are used up.
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
    /// Sends up to `budget` packets, and returns whether there may be more.
    pub(super) fn send(&mut self, step: &mut Step<'_>, budget: usize) -> bool {
        self.check_timers(step);
        for _ in 0..budget {
            let cursor = self.requester.cursor;
            let failed = self.requester.failed_at().is_some_and(|psn| cursor.since(psn) >= 0);
            if failed || self.requester.not_before.is_some() {
                return false;
            }
            let more = match self.state {
                State::Rts | State::SqDraining if self.requester.cursor != self.requester.next => {
                    self.send_packet(step)
                }
                State::Rts => self.begin_next(step),
                _ => false,
            };
            self.complete_requests(step);
            if !more {
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
            if step.is_traced() {
                let (qpn, left) = (self.qpn, requester.retries);
                step.trace(format_args!("QP {qpn:#x} timeout at PSN {oldest}, {left} retries left"));
            }
            requester.retry(oldest);
            self.complete_requests(step);
        }
    }

    /// Begins the next request, and returns whether there was one that could begin.
    fn begin_next(&mut self, step: &mut Step<'_>) -> bool {
        if self.requester.requests.len() >= MAX_OUTSTANDING {
            return false;
        }
        let send = match self.requester.held.take() {
            Some(send) => send,
            None => match step.adapter.fetch(self.qpn) {
                Fetched::Nothing => return false,
                Fetched::Request(send) => send,
                Fetched::Malformed(index) => {
                    self.begin_malformed(index);
                    return true;
                }
            },
        };
        if self.must_wait(&send) {
            self.requester.held = Some(send);
            return false;
        }
        self.begin(step, send);
        true
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

    /// The ordering rules: fences, strong order, and the limit of outstanding reads and atomics.
    fn must_wait(&self, send: &Send) -> bool {
        let requester = &self.requester;
        let fetching = requester.outstanding_fetches();
        let psns = i64::from(requester.next.since(requester.oldest_psn()));
        send.fence && fetching > 0
            || send.strong_order && !requester.is_idle()
            || send.work.fetches() && fetching >= self.attributes.reads_as_requester
            || psns > 0 && psns + i64::from(self.psns(send)) > MAX_PSNS
    }

    /// The number of PSNs that a request takes.
    fn psns(&self, send: &Send) -> u32 {
        let mtu = self.attributes.mtu.max(1) as u64;
        match send.work {
            Work::Message { datagram: Some(_), .. } | Work::Atomic { .. } => 1,
            Work::Message { .. } | Work::Write { .. } | Work::Read { .. } => {
                u32::try_from(send.data.length.div_ceil(mtu).max(1)).unwrap_or(u32::MAX)
            }
            Work::Nop | Work::Local => 0,
        }
    }

    fn begin(&mut self, step: &mut Step<'_>, send: Send) {
        let too_long = send.data.length > self.attributes.max_message.min(1 << 31)
            || matches!(send.work, Work::Message { datagram: Some(_), .. })
                && send.data.length > step.adapter.port().mtu_bytes() as u64;
        let outcome = match &send.work {
            _ if too_long => Some(Err(Error::LocalLength)),
            _ if !self.may_use(step, &send) => Some(Err(Error::LocalProtection)),
            Work::Nop => Some(Ok(())),
            Work::Local => Some(step.adapter.execute(self.user(), &send)),
            _ => None,
        };
        let psns = if outcome.is_some() { 0 } else { self.psns(&send) };
        let requester = &mut self.requester;
        let first = requester.next;
        requester.next = first.plus(psns);
        requester.requests.push_back(Request { send, first, psns, answered: 0, outcome });
    }

    /// Whether the keys permit what the request does with its data. Each packet checks them again, but a message whose
    /// end cannot be sent is not begun.
    fn may_use(&self, step: &mut Step<'_>, send: &Send) -> bool {
        let right = if send.work.fetches() { Right::LocalWrite } else { Right::LocalRead };
        let refused = send.data.elements.iter().find_map(|element| match *element {
            Element::Inline(_) => None,
            Element::Memory { lkey: key, address, length } => {
                let access = Access { user: self.user(), key, address, length: length.into(), right };
                step.adapter.check(&access).err()
            }
        });
        if let Some(error) = refused {
            step.trace(format_args!("QP {:#x} SQ [{}]: {error}", self.qpn, send.index));
        }
        refused.is_none()
    }

    /// Sends the packet at the cursor, and returns whether to go on.
    fn send_packet(&mut self, step: &mut Step<'_>) -> bool {
        let cursor = self.requester.cursor;
        let Some(at) = self.requester.requests.iter().position(|request| request.contains(cursor)) else {
            // The request that the cursor was moved back to has been answered in the meantime.
            self.requester.cursor = self.requester.oldest_psn();
            return self.requester.requests.iter().any(|request| request.contains(self.requester.cursor));
        };
        let request = &self.requester.requests[at];
        let number = cursor.since(request.first).cast_unsigned();
        if request.outcome.is_some() || number < request.answered {
            // Answered before it was sent again.
            let done = if request.outcome.is_some() { request.psns } else { request.answered };
            self.requester.cursor = request.first.plus(done);
            return true;
        }
        let reliable = self.attributes.kind.is_reliable();
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
                    self.requester.deadline = self.attributes.ack_timeout.map(|timeout| step.now + timeout);
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

    /// Completes requests that are done, in order; the first that failed ends it.
    fn complete_requests(&mut self, step: &mut Step<'_>) {
        while let Some(outcome) = self.requester.requests.front().and_then(|request| request.outcome) {
            let Some(request) = self.requester.requests.pop_front() else { return };
            match outcome {
                Ok(()) => self.completed(step, &request.send),
                Err(error) => {
                    self.request_failed(step, request.send.index, error);
                    if !self.attributes.kind.is_reliable() && self.state != State::Error {
                        self.state = State::SqError;
                        self.flush_send(step);
                    } else {
                        self.fail(step);
                    }
                    return;
                }
            }
        }
        self.drain(step);
    }

    /// Whether requests carry the number of a shared receive queue.
    fn is_xrc(&self) -> bool {
        self.attributes.kind == Kind::Xrc
    }
}
