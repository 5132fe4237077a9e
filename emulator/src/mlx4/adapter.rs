//! The card, as the transport sees it.

use std::time::Duration;

use super::{
    card::Card,
    cq::Cqs,
    cqe::Cqe,
    diagnostics::DATAGRAMS_DROPPED,
    event::Event,
    frames, mpt,
    multicast::{self, Protocol},
    qp::Queues,
    qpc::Kind,
    sq,
    srq::Srqs,
    window,
    wqe::{self, Local},
};
use crate::{
    fabric::port::Port,
    trace::Trace,
    transport::{
        Access, Adapter, Completion, CqFull, Error, Fetched, Incident, KeyError, QpEvent, Receive, Send,
        SharedQueue, User,
    },
};

/// A card and its queues, borrowed for one piece of work of the transport.
pub(crate) struct Hardware<'a> {
    pub(crate) card: &'a mut Card,
    pub(crate) cqs: &'a mut Cqs,
    pub(crate) srqs: &'a mut Srqs,
    pub(crate) queues: &'a mut Queues,
}

impl Hardware<'_> {
    /// The memory of an access, if its key permits it.
    fn translate(&self, access: &Access) -> Result<mpt::Memory, KeyError> {
        let queue = self.queues.get(access.user.qpn);
        let reserved_lkey = queue.is_some_and(|queue| queue.context.may_use_reserved_lkey());
        mpt::translate(self.card, reserved_lkey, access)
    }
}

impl Adapter for Hardware<'_> {
    fn port(&self) -> &Port {
        &self.card.port
    }

    fn port_mut(&mut self) -> &mut Port {
        &mut self.card.port
    }

    fn trace(&mut self) -> &mut Trace {
        &mut self.card.trace
    }

    fn fetch(&mut self, qpn: u32) -> Fetched {
        let Some(qp) = self.queues.get_mut(qpn) else { return Fetched::Nothing };
        let Some(sq) = qp.sq.as_mut().filter(|sq| sq.rung) else { return Fetched::Nothing };
        let (index, bytes) = match sq.fetch(self.card) {
            sq::Fetched::Nothing => return Fetched::Nothing,
            sq::Fetched::Malformed(index) => return Fetched::Malformed(index),
            sq::Fetched::Request(index, bytes) => (index, bytes),
        };
        match wqe::send(qp.kind, qpn, index, &bytes) {
            Ok((send, local)) => {
                if self.card.trace.on() {
                    let text = wqe::Shown { send: &send, local: local.as_ref() };
                    self.card.trace.line(format_args!("QP {qpn:#x} SQ [{index}] {text}"));
                }
                qp.local = local;
                Fetched::Request(send)
            }
            Err(wqe::Malformed(what)) => {
                super::violate(self.card, super::Queue::Sq(qpn), Some(index.into()), what, &bytes);
                Fetched::Malformed(index)
            }
        }
    }

    fn discard(&mut self, qpn: u32) -> Option<u16> {
        let sq = self.queues.get_mut(qpn)?.sq.as_mut()?;
        match sq.fetch(self.card) {
            sq::Fetched::Nothing => None,
            sq::Fetched::Malformed(index) | sq::Fetched::Request(index, _) => Some(index),
        }
    }

    fn receive(&mut self, qpn: u32) -> Option<Receive> {
        self.queues.get_mut(qpn)?.rq.as_mut()?.take(self.card)
    }

    fn receive_shared(&mut self, srqn: u32) -> Option<Receive> {
        self.srqs.get_mut(srqn)?.take(self.card)
    }

    fn shared_queue(&self, srqn: u32) -> Option<SharedQueue> {
        let srq = self.srqs.get(srqn)?;
        Some(SharedQueue { pd: srq.pd, xrcd: srq.xrcd, cqn: srq.cqn })
    }

    fn complete(
        &mut self,
        now: Duration,
        cqn: u32,
        completion: &Completion,
        solicited: bool,
    ) -> Result<(), CqFull> {
        let entry = match *completion {
            Completion::Sent(sent) => Cqe::Sent(sent),
            Completion::Failed(failed) => Cqe::Failed(failed),
            Completion::Received(received) => {
                let kind = self.queues.get(received.qpn).map(|qp| qp.kind);
                if matches!(kind, Some(Kind::Mlx(_))) {
                    Cqe::ManagementReceived(received)
                } else {
                    Cqe::Received(received)
                }
            }
        };
        self.cqs.post(self.card, now, cqn, &entry, solicited).map_err(|_| CqFull)
    }

    fn execute(&mut self, user: User, request: &Send) -> Result<(), Error> {
        let qp = self.queues.get_mut(user.qpn).ok_or(Error::LocalQpOperation)?;
        let local = qp.local.take().ok_or(Error::LocalQpOperation)?;
        match &local {
            Local::Frame(offload) => frames::send(self, user, request, offload),
            Local::FastRegister(_) if !qp.context.may_fast_register() => Err(Error::LocalQpOperation),
            Local::FastRegister(register) => window::register(self.card, user, register),
            Local::Bind(bind) => window::bind(self.card, user, bind),
            Local::Invalidate { key } => window::invalidate_locally(self.card, user, *key),
        }
    }

    fn check(&self, access: &Access) -> Result<(), KeyError> {
        self.translate(access).map(drop)
    }

    fn read(&self, access: &Access, bytes: &mut [u8]) -> Result<(), KeyError> {
        let memory = self.translate(access)?;
        memory.read(self.card, access.address, bytes)
    }

    fn write(&mut self, access: &Access, bytes: &[u8]) -> Result<(), KeyError> {
        let memory = self.translate(access)?;
        memory.write(self.card, access.address, bytes)
    }

    fn invalidate(&mut self, user: User, key: u32) -> Result<(), KeyError> {
        window::invalidate(self.card, user, key)
    }

    fn management_qpn(&self, qpn: u32) -> u32 {
        // QP0 of both ports come first, and QP1 of both ports after them.
        self.card.special_qpn.map_or(qpn, |base| base + 2 * qpn)
    }

    fn members(&self, mgid: &[u8; 16], sender: Option<u32>) -> Vec<u32> {
        multicast::members(self.card, Protocol::InfiniBand, mgid, sender)
    }

    fn event(&mut self, qpn: u32, kind: QpEvent) {
        self.card.events.push(Event::Qp { kind, qpn });
    }

    fn count(&mut self, incident: Incident) {
        let diagnostics = &mut self.card.diagnostics;
        match incident {
            Incident::Refused(syndrome) => diagnostics.refused(&syndrome),
            Incident::WasRefused(syndrome) => diagnostics.was_refused(&syndrome),
            Incident::DatagramDropped => diagnostics.count(DATAGRAMS_DROPPED),
        }
    }
}
