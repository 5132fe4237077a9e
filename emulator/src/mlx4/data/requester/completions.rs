//! The ends of requests: done, failed, flushed.

use super::{
    super::{
        Step,
        cqe::{Cqe, Error, Failed, Sent},
        qp::Qp,
        sq::Fetched,
        wqe::Send,
    },
    fetches,
};

impl Qp {
    pub(super) fn completed(&mut self, step: &mut Step<'_>, send: &Send) {
        if !send.signaled {
            return;
        }
        let byte_count = if fetches(send) { u32::try_from(send.data.length).unwrap_or(0) } else { 0 };
        let sent = Sent { qpn: self.qpn, wqe: send.index, opcode: send.opcode, byte_count };
        self.complete(step, self.context.cqn_send(), &Cqe::Sent(sent), false);
    }

    pub(super) fn request_failed(&mut self, step: &mut Step<'_>, index: u16, error: Error) {
        let failed = Failed { qpn: self.qpn, wqe: index, send: true, error, srqn: 0 };
        self.complete(step, self.context.cqn_send(), &Cqe::Failed(failed), false);
    }

    /// Completes in error what is under way and what has been posted. More may be posted later.
    pub(crate) fn flush_send(&mut self, step: &mut Step<'_>) {
        let requester = &mut self.requester;
        requester.deadline = None;
        requester.not_before = None;
        requester.cursor = requester.next;
        let requests = std::mem::take(&mut requester.requests);
        let held = requester.held.take();
        let mut whole = true;
        for request in requests {
            whole &= request.outcome == Some(Ok(()));
            if whole {
                self.completed(step, &request.send);
            } else {
                self.request_failed(step, request.send.index, Error::Flushed);
            }
        }
        if let Some(send) = held {
            self.request_failed(step, send.index, Error::Flushed);
        }
        for _ in 0..=u16::MAX {
            let Some(sq) = self.sq.as_mut() else { return };
            let index = match sq.fetch(step.card) {
                Fetched::Nothing => return,
                Fetched::Malformed(index) | Fetched::Request(index, _) => index,
            };
            self.request_failed(step, index, Error::Flushed);
        }
    }
}
