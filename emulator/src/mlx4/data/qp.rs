//! Queue pairs: their states, and the commands that change them.

use std::time::Duration;

use super::{
    Step, cq,
    cqe::{Cqe, Error, Failed},
    mpt::User,
    qpc::{Kind, MAILBOX, Progress, Qpc},
    requester::Requester,
    responder::Responder,
    rq::ReceiveQueue,
    schedule::Qps,
    sq::SendQueue,
    wqe::Receive,
};
use crate::{
    be,
    fabric::{packet::Psn, port::LinkLayer},
    mlx4::{
        card::Card,
        event::{Event, QpEvent},
        status::Status,
    },
};

/// A transition that a firmware command asks for (include/linux/mlx4/cmd.h, `MLX4_CMD_*_QP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QpCommand {
    /// RST2INIT_QP.
    RstToInit,
    /// INIT2INIT_QP.
    InitToInit,
    /// INIT2RTR_QP.
    InitToRtr,
    /// RTR2RTS_QP.
    RtrToRts,
    /// RTS2RTS_QP.
    RtsToRts,
    /// SQERR2RTS_QP.
    SqErrToRts,
    /// RTS2SQD_QP.
    RtsToSqd,
    /// SQD2SQD_QP.
    SqdToSqd,
    /// SQD2RTS_QP.
    SqdToRts,
    /// 2ERR_QP.
    ToErr,
    /// 2RST_QP.
    ToRst,
}

/// The state of a queue pair, by the numbers of `MLX4_QP_STATE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Reset: nothing is done.
    Reset = 0,
    /// Initialised: receive requests may be posted.
    Init = 1,
    /// Ready to receive.
    Rtr = 2,
    /// Ready to send.
    Rts = 3,
    /// The send queue failed, the receive queue works.
    SqError = 4,
    /// The send queue is drained.
    SqDrained = 5,
    /// Everything is flushed.
    Error = 6,
    /// The send queue finishes what it has begun.
    SqDraining = 7,
}

/// The bit of a queue pair's number that says that it is the target of XRC requests.
const XRC: u32 = 1 << 23;

/// A queue pair.
pub(crate) struct Qp {
    pub(crate) qpn: u32,
    pub(crate) kind: Kind,
    pub(crate) state: State,
    pub(crate) context: Qpc,
    pub(crate) sq: Option<SendQueue>,
    pub(crate) rq: Option<ReceiveQueue>,
    pub(crate) requester: Requester,
    pub(crate) responder: Responder,
    /// Whether an event is wanted when the send queue is drained.
    notify_drained: bool,
    /// When it wants a turn without being asked.
    pub(crate) alarm: Option<Duration>,
    /// In error: when to look again for receive requests, and how long after the last time.
    pub(crate) next_look: Option<Duration>,
    pub(crate) look_interval: Duration,
}

impl State {
    /// Whether packets of peers are taken.
    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::Rtr | Self::Rts | Self::SqError | Self::SqDrained | Self::SqDraining)
    }
}

impl Qps {
    /// QUERY_QP.
    pub(crate) fn query(&self, qpn: u32) -> Result<[u8; MAILBOX], Status> {
        let qp = self.pairs.get(&qpn).ok_or(Status::BadResState)?;
        let mut mailbox = [0; MAILBOX];
        mailbox[super::qpc::CONTEXT_AT..].copy_from_slice(&qp.current_context().bytes);
        Ok(mailbox)
    }

    /// A transition of queue pair `qpn`.
    pub(crate) fn modify(
        &mut self,
        step: &mut Step<'_>,
        command: QpCommand,
        input_modifier: u32,
        mailbox: &[u8; MAILBOX],
    ) -> Result<(), Status> {
        let qpn = input_modifier & 0xff_ffff;
        if (qpn & !XRC).checked_shr(step.card.tables.log_qps.into()) != Some(0) {
            return Err(Status::BadIndex);
        }
        let from = Qpc::of(mailbox);
        let optional = be::get32(mailbox, 0);
        if command == QpCommand::ToRst {
            self.pairs.remove(&qpn);
            return Ok(());
        }
        if command == QpCommand::RstToInit {
            if self.pairs.contains_key(&qpn) {
                return Err(Status::BadQpState);
            }
            let qp = Qp::new(step.card, qpn, from)?;
            self.pairs.insert(qpn, qp);
            return Ok(());
        }
        let qp = match self.pairs.get_mut(&qpn) {
            Some(qp) => qp,
            // From reset to error there is nothing to flush; the driver does it and asks no more.
            None if command == QpCommand::ToErr => return Ok(()),
            None => return Err(Status::BadQpState),
        };
        qp.transition(step, command, &from, optional, input_modifier >> 31 != 0)?;
        self.wake(qpn);
        Ok(())
    }
}

/// What a queue pair is. That of management on Ethernet is a special one; others that build their headers themselves
/// are of a network device.
fn kind(card: &Card, qpn: u32, context: &Qpc) -> Option<Kind> {
    let kind = context.kind()?;
    if !matches!(kind, Kind::Mlx(_)) || card.port.ethernet.is_none() {
        return Some(kind);
    }
    if card.special_qpn.is_some_and(|base| (base..base + 8).contains(&qpn)) {
        return Some(Kind::Mlx(LinkLayer::Ethernet));
    }
    if !context.is_rss() {
        return Some(Kind::Raw);
    }
    context.rss().map(|_| Kind::Rss)
}

impl Qp {
    fn new(card: &mut Card, qpn: u32, context: Qpc) -> Result<Self, Status> {
        let kind = kind(card, qpn, &context).ok_or(Status::BadParam)?;
        if let Some(what) = context.unsupported(kind) {
            card.trace.line(format_args!("QP {qpn:#x}: refused, the card has no {what}"));
            return Err(Status::BadParam);
        }
        // The target side of XRC never sends, and its driver leaves the send queue as it is.
        let is_target = kind == Kind::Xrc && qpn & XRC != 0;
        let send = context.send_queue().filter(|_| !is_target);
        let receive = context.receive_queue();
        // The queue with the larger entries is first in the buffer.
        let bytes = |queue: Option<(u8, u8)>| queue.map_or(0, |(size, stride)| 1_u64 << (size + stride));
        let stride = |queue: Option<(u8, u8)>| queue.map_or(0, |(_, stride)| stride);
        let receive_first = stride(receive) > stride(send);
        let (sq_at, rq_at) = if receive_first { (bytes(receive), 0) } else { (0, bytes(send)) };
        // A network device's queue pair uses one queue; the other has a single entry and nothing behind it.
        let is_used = |(log_size, _): &(u8, u8)| !kind.is_ethernet() || *log_size > 0;
        let (send, receive) = (send.filter(is_used), receive.filter(is_used));
        let prefetches = context.send_queue_is_prefetched();
        let sq = send.map(|size| {
            let queue = SendQueue::new(qpn, size, context.buffer(), sq_at, prefetches);
            if kind == Kind::Raw { queue.spanning() } else { queue }
        });
        let record = context.doorbell_record();
        let rq = receive.map(|size| ReceiveQueue::new(qpn, size, context.buffer(), rq_at, record));
        if rq.is_some() && (!record.is_multiple_of(4) || !card.memory.contains(record, 4)) {
            return Err(Status::BadParam);
        }
        // A network device's driver prepares the entries afterwards.
        if let Some(sq) = sq.as_ref().filter(|_| kind != Kind::Raw) {
            sq.check_fresh(card);
        }
        Ok(Self {
            qpn,
            kind,
            state: State::Init,
            context,
            sq,
            rq,
            requester: Requester::default(),
            responder: Responder::default(),
            notify_drained: false,
            alarm: None,
            next_look: None,
            look_interval: Duration::ZERO,
        })
    }

    fn transition(
        &mut self,
        step: &mut Step<'_>,
        command: QpCommand,
        from: &Qpc,
        optional: u32,
        notify: bool,
    ) -> Result<(), Status> {
        use QpCommand::*;
        let allowed = match command {
            InitToInit | InitToRtr => self.state == State::Init,
            RtrToRts => self.state == State::Rtr,
            RtsToRts | RtsToSqd => self.state == State::Rts,
            SqErrToRts => self.state == State::SqError,
            SqdToSqd | SqdToRts => self.state == State::SqDrained,
            ToErr => true,
            RstToInit | ToRst => false,
        };
        if !allowed {
            return Err(Status::BadQpState);
        }
        if from.migrates(optional) {
            let qpn = self.qpn;
            step.card
                .trace
                .line(format_args!("QP {qpn:#x}: refused, the card does not migrate to other paths"));
            return Err(Status::BadParam);
        }
        match command {
            InitToRtr => {
                if !self.kind.has_no_mtu() && from.mtu() == 0 {
                    return Err(Status::BadParam);
                }
                self.context.take_ready_to_receive(from);
                self.context.take_optional(from, optional);
                self.responder.start(Psn::new(self.context.next_receive_psn()));
                self.state = State::Rtr;
            }
            RtrToRts => {
                self.context.take_ready_to_send(from);
                self.context.take_optional(from, optional);
                self.requester.start(&self.context);
                self.state = State::Rts;
            }
            RtsToSqd => {
                self.notify_drained = notify;
                self.state = State::SqDraining;
                self.drain(step.card);
            }
            SqErrToRts | SqdToRts | SqdToSqd | RtsToRts | InitToInit => {
                self.context.take_optional(from, optional);
                self.requester.reload(&self.context);
                if matches!(command, SqErrToRts | SqdToRts) {
                    self.state = State::Rts;
                }
            }
            ToErr => self.fail(step),
            RstToInit | ToRst => return Err(Status::BadOp),
        }
        if step.card.trace.on() {
            let (qpn, state) = (self.qpn, self.state);
            step.card.trace.line(format_args!("QP {qpn:#x} {command:?}: {state:?}"));
        }
        Ok(())
    }

    /// The context with the state and the counters of now.
    fn current_context(&self) -> Qpc {
        let mut context = self.context.clone();
        context.set_state(self.state as u8, self.qpn);
        context.set_progress(&Progress {
            next_send_psn: self.requester.next_psn().get(),
            last_acked_psn: self.requester.oldest_psn().before().get(),
            next_receive_psn: self.responder.expected().get(),
            msn: self.responder.msn(),
            rq_counter: self.rq.as_ref().map_or(0, |rq| rq.taken),
            sq_counter: self.sq.as_ref().map_or(0, |sq| sq.fetched),
        });
        context
    }

    /// Who the queue pair is to keys.
    pub(crate) fn user(&self) -> User {
        User { qpn: self.qpn, pd: self.context.pd(), reserved_lkey: self.context.may_use_reserved_lkey() }
    }

    /// A draining send queue is drained when nothing is under way.
    pub(crate) fn drain(&mut self, card: &mut Card) {
        if self.state == State::SqDraining && self.requester.is_idle() {
            self.state = State::SqDrained;
            if self.notify_drained {
                self.notify_drained = false;
                self.event(card, QpEvent::SqDrained);
            }
        }
    }

    /// Tells of something that happened to the queue pair.
    pub(crate) fn event(&self, card: &mut Card, kind: QpEvent) {
        card.events.push(Event::Qp { kind, qpn: self.qpn });
    }

    /// Goes to the error state: whatever is under way or posted is flushed.
    pub(crate) fn fail(&mut self, step: &mut Step<'_>) {
        if self.state == State::Error {
            return;
        }
        self.state = State::Error;
        self.flush_send(step);
        self.flush_receive(step);
        if self.context.srqn().is_some() {
            self.event(step.card, QpEvent::LastWqeReached);
        }
    }

    /// Completes what has been posted to the receive queue in error. More may be posted later.
    pub(crate) fn flush_receive(&mut self, step: &mut Step<'_>) {
        if let Some(taken) = self.responder.stop() {
            self.receive_failed(step, &taken.0, taken.1, Error::Flushed);
        }
        for _ in 0..=u16::MAX {
            let Some(request) = self.rq.as_mut().and_then(|rq| rq.take(step.card)) else { break };
            self.receive_failed(step, &request, None, Error::Flushed);
        }
    }

    /// Completes a receive request in error; `srqn` is that of XRC.
    pub(crate) fn receive_failed(
        &mut self,
        step: &mut Step<'_>,
        request: &Receive,
        srqn: Option<u32>,
        error: Error,
    ) {
        let failed =
            Failed { qpn: self.qpn, wqe: request.index, send: false, error, srqn: srqn.unwrap_or(0) };
        let cqn = self.receive_cqn(step, srqn);
        self.complete(step, cqn, &Cqe::Failed(failed), false);
    }

    /// Where completions of receive requests go.
    pub(crate) fn receive_cqn(&self, step: &Step<'_>, srqn: Option<u32>) -> u32 {
        match srqn.and_then(|srqn| step.srqs.get(srqn)) {
            Some(srq) => srq.cqn,
            None => self.context.cqn_receive(),
        }
    }

    /// Writes a completion. If there is no room for it, the queue pair cannot go on.
    pub(crate) fn complete(&mut self, step: &mut Step<'_>, cqn: u32, entry: &Cqe, solicited: bool) {
        let posted: Result<(), cq::Failure> = step.cqs.post(step.card, step.now, cqn, entry, solicited);
        if posted.is_err() && self.state != State::Error {
            self.state = State::Error;
            self.event(step.card, QpEvent::WorkQueueCatastrophicError);
        }
    }
}
