//! Queue pairs: their states and transitions (section 10.3.1).

use std::time::Duration;

use super::{
    Step,
    attributes::Attributes,
    completion::{Completion, Error, Failed, QpEvent},
    key::User,
    request::Receive,
    requester::Requester,
    responder::Responder,
};
use crate::fabric::packet::Psn;

/// A transition that the driver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// RESET to INIT.
    RstToInit,
    /// INIT to INIT.
    InitToInit,
    /// INIT to RTR.
    InitToRtr,
    /// RTR to RTS.
    RtrToRts,
    /// RTS to RTS.
    RtsToRts,
    /// SQE to RTS.
    SqErrToRts,
    /// RTS to SQD.
    RtsToSqd,
    /// SQD to SQD.
    SqdToSqd,
    /// SQD to RTS.
    SqdToRts,
    /// Any state to ERR.
    ToErr,
    /// Any state to RESET.
    ToRst,
}

impl Transition {
    /// Whether the transition is permitted in `state`.
    pub fn is_allowed(self, state: State) -> bool {
        match self {
            Self::InitToInit | Self::InitToRtr => state == State::Init,
            Self::RtrToRts => state == State::Rtr,
            Self::RtsToRts | Self::RtsToSqd => state == State::Rts,
            Self::SqErrToRts => state == State::SqError,
            Self::SqdToSqd | Self::SqdToRts => state == State::SqDrained,
            Self::ToErr | Self::ToRst => true,
            Self::RstToInit => state == State::Reset,
        }
    }
}

/// The state of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Reset: nothing is done.
    Reset,
    /// Initialized: receive requests may be posted.
    Init,
    /// Ready to receive.
    Rtr,
    /// Ready to send.
    Rts,
    /// Send queue error: the send queue failed, the receive queue works.
    SqError,
    /// Send queue drained.
    SqDrained,
    /// Error: all requests are flushed.
    Error,
    /// The send queue finishes the requests that it has begun.
    SqDraining,
}

impl State {
    /// Whether the queue pair accepts packets from peers.
    pub fn receives(self) -> bool {
        matches!(self, Self::Rtr | Self::Rts | Self::SqError | Self::SqDrained | Self::SqDraining)
    }
}

/// A queue pair in a state other than RESET.
pub struct Qp {
    pub(crate) qpn: u32,
    pub(crate) state: State,
    pub(crate) attributes: Attributes,
    pub(super) requester: Requester,
    pub(super) responder: Responder,
    /// Whether the driver wants an event when the send queue is drained.
    notify_drained: bool,
    /// When it has work without a doorbell or a packet, as registered in [`QueuePairs`](super::QueuePairs).
    pub(super) alarm: Option<Duration>,
    /// In ERR: when to look for new receive requests, and the interval since the last look.
    pub(super) next_look: Option<Duration>,
    pub(super) look_interval: Duration,
}

/// The counters that a query reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The PSN of the next new request.
    pub next_send_psn: u32,
    /// The last PSN that was acknowledged.
    pub last_acked_psn: u32,
    /// The PSN of the next expected request.
    pub next_receive_psn: u32,
    /// Message sequence number.
    pub msn: u32,
}

impl Qp {
    /// A queue pair in INIT.
    pub(super) fn new(qpn: u32, attributes: Attributes) -> Self {
        Self {
            qpn,
            state: State::Init,
            attributes,
            requester: Requester::default(),
            responder: Responder::default(),
            notify_drained: false,
            alarm: None,
            next_look: None,
            look_interval: Duration::ZERO,
        }
    }

    /// Carries out a transition that [`Transition::is_allowed`] permits. `notify` asks for an event when the send queue
    /// is drained.
    pub(super) fn transition(
        &mut self,
        step: &mut Step<'_>,
        transition: Transition,
        attributes: Attributes,
        notify: bool,
    ) {
        use Transition::*;
        self.attributes = attributes;
        match transition {
            InitToRtr => {
                self.responder.start(Psn::new(self.attributes.receive_psn));
                self.state = State::Rtr;
            }
            RtrToRts => {
                self.requester.start(&self.attributes);
                self.state = State::Rts;
            }
            RtsToSqd => {
                self.notify_drained = notify;
                self.state = State::SqDraining;
                self.drain(step);
            }
            SqErrToRts | SqdToRts => {
                self.requester.reload(&self.attributes);
                self.state = State::Rts;
            }
            SqdToSqd | RtsToRts | InitToInit => self.requester.reload(&self.attributes),
            ToErr => self.fail(step),
            RstToInit | ToRst => {}
        }
        if step.is_traced() {
            let (qpn, state) = (self.qpn, self.state);
            step.trace(format_args!("QP {qpn:#x} {transition:?}: {state:?}"));
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            next_send_psn: self.requester.next_psn().get(),
            last_acked_psn: self.requester.oldest_psn().before().get(),
            next_receive_psn: self.responder.expected().get(),
            msn: self.responder.msn(),
        }
    }

    /// The queue pair as the user of a key.
    pub fn user(&self) -> User {
        self.attributes.user(self.qpn)
    }

    /// A draining send queue is drained when no request is outstanding.
    pub(super) fn drain(&mut self, step: &mut Step<'_>) {
        if self.state == State::SqDraining && self.requester.is_idle() {
            self.state = State::SqDrained;
            if self.notify_drained {
                self.notify_drained = false;
                step.adapter.event(self.qpn, QpEvent::SqDrained);
            }
        }
    }

    /// Moves to the error state and flushes all outstanding and posted requests.
    pub fn fail(&mut self, step: &mut Step<'_>) {
        if self.state == State::Error {
            return;
        }
        self.state = State::Error;
        self.flush_send(step);
        self.flush_receive(step);
        if self.attributes.srqn.is_some() {
            step.adapter.event(self.qpn, QpEvent::LastWqeReached);
        }
    }

    /// Completes all posted receive requests as flushed, and returns whether there were any. More may be posted later.
    pub(super) fn flush_receive(&mut self, step: &mut Step<'_>) -> bool {
        let mut found = false;
        for (request, srqn) in self.responder.stop() {
            self.receive_failed(step, &request, srqn, Error::Flushed);
            found = true;
        }
        // As many as an index can count: a driver that posts as fast as this flushes must not keep it here forever.
        for _ in 0..=u16::MAX {
            let Some(request) = step.adapter.receive(self.qpn) else { break };
            self.receive_failed(step, &request, None, Error::Flushed);
            found = true;
        }
        found
    }

    /// Completes a receive request in error; `srqn` is the shared receive queue of an XRC message.
    pub fn receive_failed(
        &mut self,
        step: &mut Step<'_>,
        request: &Receive,
        srqn: Option<u32>,
        error: Error,
    ) {
        let failed = Failed { qpn: self.qpn, index: request.index, send: false, error, srqn };
        let cqn = self.receive_cqn_of(step, srqn);
        self.complete(step, cqn, &Completion::Failed(failed), false);
    }

    /// The completion queue of receive requests.
    pub fn receive_cqn(&self) -> u32 {
        self.attributes.receive_cqn
    }

    /// The same for a message to shared receive queue `srqn`, which has its own for XRC.
    pub(super) fn receive_cqn_of(&self, step: &Step<'_>, srqn: Option<u32>) -> u32 {
        match srqn.and_then(|srqn| step.adapter.shared_queue(srqn)) {
            Some(shared) => shared.cqn,
            None => self.receive_cqn(),
        }
    }

    /// Writes a completion.
    pub(super) fn complete(
        &mut self,
        step: &mut Step<'_>,
        cqn: u32,
        completion: &Completion,
        solicited: bool,
    ) {
        if step.adapter.complete(step.now, cqn, completion, solicited).is_err() {
            self.completion_lost(step);
        }
    }

    /// The queue pair cannot go on after a completion that could not be written.
    pub fn completion_lost(&mut self, step: &mut Step<'_>) {
        if self.state != State::Error {
            self.state = State::Error;
            step.adapter.event(self.qpn, QpEvent::WorkQueueCatastrophicError);
        }
    }
}
