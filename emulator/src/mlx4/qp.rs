//! Queue pairs: the commands that change their state, and what belongs to mlx4 rather than to the transport.

use std::{collections::BTreeMap, time::Duration};

use super::{
    adapter::Hardware,
    card::Card,
    cq::Cqs,
    qpc::{self, Kind, MAILBOX, Qpc},
    rq::ReceiveQueue,
    sq::SendQueue,
    srq::Srqs,
    status::Status,
    wqe::Local,
};
use crate::{
    be,
    fabric::{packet::Packet, port::LinkLayer},
    transport::{Next, QueuePairs, State, Step, Transition},
};

/// The bit of a queue pair's number that marks the target side of XRC.
const XRC: u32 = 1 << 23;

/// The queue pairs of a card.
#[derive(Default)]
pub(crate) struct Qps {
    pub(crate) pairs: QueuePairs,
    pub(crate) queues: Queues,
}

/// The contexts and queues of all queue pairs that are not in RESET.
#[derive(Default)]
pub(crate) struct Queues {
    by_qpn: BTreeMap<u32, Queue>,
}

/// The context and the queues of a queue pair.
pub(crate) struct Queue {
    pub(crate) kind: Kind,
    pub(crate) context: Qpc,
    pub(crate) sq: Option<SendQueue>,
    pub(crate) rq: Option<ReceiveQueue>,
    /// What the last fetched request asks the card itself to do. There is at most one: a request that has to wait keeps
    /// the transport from fetching the next.
    pub(crate) local: Option<Local>,
}

impl Queues {
    pub(crate) fn get(&self, qpn: u32) -> Option<&Queue> {
        self.by_qpn.get(&qpn)
    }

    pub(crate) fn get_mut(&mut self, qpn: u32) -> Option<&mut Queue> {
        self.by_qpn.get_mut(&qpn)
    }
}

impl Qps {
    /// QUERY_QP: the mailbox, with the context 8 bytes from its start.
    ///
    /// # Errors
    ///
    /// The queue pair is in RESET.
    pub(crate) fn query(&self, qpn: u32) -> Result<[u8; MAILBOX], Status> {
        let qpn = qpn & 0xff_ffff;
        let queue = self.queues.get(qpn).ok_or(Status::BadResState)?;
        let progress = self.pairs.progress(qpn).ok_or(Status::BadResState)?;
        let mut context = queue.context.clone();
        context.set_state(self.pairs.state(qpn), qpn);
        let rq_counter = queue.rq.as_ref().map_or(0, |rq| rq.taken);
        let sq_counter = queue.sq.as_ref().map_or(0, |sq| sq.fetched);
        context.set_progress(&progress, rq_counter, sq_counter);
        let mut mailbox = [0; MAILBOX];
        mailbox[qpc::CONTEXT_AT..].copy_from_slice(&context.bytes);
        Ok(mailbox)
    }

    /// Carries out a transition. `input_modifier` is the command's: the number of the queue pair, and in bit 31 whether
    /// the driver wants an event when the send queue is drained. 2RST_QP and 2ERR_QP have no mailbox; they get zeros.
    ///
    /// # Errors
    ///
    /// The status of the command.
    pub(crate) fn modify(
        &mut self,
        card: &mut Card,
        (cqs, srqs): (&mut Cqs, &mut Srqs),
        now: Duration,
        transition: Transition,
        input_modifier: u32,
        mailbox: &[u8; MAILBOX],
    ) -> Result<(), Status> {
        let qpn = input_modifier & 0xff_ffff;
        if (qpn & !XRC).checked_shr(card.tables.log_qps.into()) != Some(0) {
            return Err(Status::BadIndex);
        }
        let from = Qpc::of(mailbox);
        let optional = be::get32(mailbox, 0);
        let state = self.pairs.state(qpn);
        match transition {
            Transition::ToRst => {
                self.pairs.remove(qpn);
                self.queues.by_qpn.remove(&qpn);
                return Ok(());
            }
            // There is nothing to flush, and the driver does not expect a failure.
            Transition::ToErr if state == State::Reset => return Ok(()),
            _ if !transition.is_allowed(state) => return Err(Status::BadQpState),
            Transition::RstToInit => {
                let queue = Queue::new(card, qpn, from)?;
                self.pairs.create(qpn, queue.context.attributes(queue.kind, queue.rq.is_some()));
                self.queues.by_qpn.insert(qpn, queue);
                return Ok(());
            }
            _ => {}
        }
        if from.migrates(optional) {
            card.trace.line(format_args!("QP {qpn:#x}: refused, the card does not migrate to other paths"));
            return Err(Status::BadParam);
        }
        let queue = self.queues.get_mut(qpn).ok_or(Status::BadQpState)?;
        queue.update(transition, &from, optional)?;
        let attributes = queue.context.attributes(queue.kind, queue.rq.is_some());
        let notify = input_modifier >> 31 != 0;
        self.work(card, (cqs, srqs), now, &mut Vec::new(), |pairs, step| {
            pairs.transition(step, qpn, transition, attributes, notify);
        });
        Ok(())
    }

    /// Lets queue pairs work.
    pub(crate) fn run(
        &mut self,
        card: &mut Card,
        queues: (&mut Cqs, &mut Srqs),
        now: Duration,
        out: &mut Vec<Packet>,
    ) -> Next {
        self.work(card, queues, now, out, QueuePairs::run)
    }

    /// Takes a packet from the fabric.
    pub(crate) fn receive(
        &mut self,
        card: &mut Card,
        queues: (&mut Cqs, &mut Srqs),
        now: Duration,
        packet: Packet,
        out: &mut Vec<Packet>,
    ) {
        self.work(card, queues, now, out, |pairs, step| pairs.receive(step, packet));
    }

    fn work<T>(
        &mut self,
        card: &mut Card,
        (cqs, srqs): (&mut Cqs, &mut Srqs),
        now: Duration,
        out: &mut Vec<Packet>,
        act: impl FnOnce(&mut QueuePairs, &mut Step<'_>) -> T,
    ) -> T {
        let mut hardware = Hardware { card, cqs, srqs, queues: &mut self.queues };
        act(&mut self.pairs, &mut Step { adapter: &mut hardware, now, out })
    }
}

/// The kind of a queue pair. On Ethernet those whose driver builds the headers are special queue pairs for management,
/// or else belong to a network device.
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

impl Queue {
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
        // A network device's queue pair uses one queue; the other has a single entry and no memory.
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
        Ok(Self { kind, context, sq, rq, local: None })
    }

    /// Takes over what a transition changes in the context.
    fn update(&mut self, transition: Transition, from: &Qpc, optional: u32) -> Result<(), Status> {
        use Transition::*;
        let context = &mut self.context;
        match transition {
            InitToRtr => {
                if !self.kind.has_no_mtu() && from.mtu() == 0 {
                    return Err(Status::BadParam);
                }
                context.take_ready_to_receive(from);
                context.take_optional(from, optional);
            }
            RtrToRts => {
                context.take_ready_to_send(from);
                context.take_optional(from, optional);
            }
            SqErrToRts | SqdToRts | SqdToSqd | RtsToRts | InitToInit => context.take_optional(from, optional),
            RtsToSqd | ToErr | RstToInit | ToRst => {}
        }
        Ok(())
    }
}
