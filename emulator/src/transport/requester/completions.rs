//! How requests end: done, failed, flushed.

use super::super::{
    Step,
    completion::{Completion, Error, Failed, Sent},
    qp::Qp,
    request::Send,
};

impl Qp {
    pub(super) fn completed(&mut self, step: &mut Step<'_>, send: &Send) {
        if !send.signaled {
            return;
        }
        let byte_count = if send.work.fetches() { u32::try_from(send.data.length).unwrap_or(0) } else { 0 };
        let sent = Sent { qpn: self.qpn, index: send.index, opcode: send.opcode, byte_count };
        self.complete(step, self.attributes.send_cqn, &Completion::Sent(sent), false);
    }

    pub(super) fn request_failed(&mut self, step: &mut Step<'_>, index: u16, error: Error) {
        let failed = Failed { qpn: self.qpn, index, send: true, error, srqn: None };
        self.complete(step, self.attributes.send_cqn, &Completion::Failed(failed), false);
    }

    /// Completes all outstanding and posted send requests as flushed. More may be posted later.
    pub(in super::super) fn flush_send(&mut self, step: &mut Step<'_>) {
        let requester = &mut self.requester;
        requester.deadline = None;
        requester.not_before = None;
        requester.cursor = requester.next;
        let requests = std::mem::take(&mut requester.requests);
        let held = requester.held.take();
        let mut done = true;
        for request in requests {
            done &= request.outcome == Some(Ok(()));
            if done {
                self.completed(step, &request.send);
            } else {
                self.request_failed(step, request.send.index, Error::Flushed);
            }
        }
        if let Some(send) = held {
            self.request_failed(step, send.index, Error::Flushed);
        }
        // As many as an index can count: a driver that posts as fast as this flushes must not keep it here forever.
        for _ in 0..=u16::MAX {
            let Some(index) = step.adapter.discard(self.qpn) else { return };
            self.request_failed(step, index, Error::Flushed);
        }
    }
}
