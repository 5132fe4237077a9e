//! Answers, in the order of the requests. The answer to a read has as many packets as its data need.

use super::{
    super::{
        Step,
        adapter::Incident,
        headers::route,
        key::{Access, Right},
        qp::Qp,
    },
    Refusal, Reply,
};
use crate::fabric::packet::{Aeth, Bth, Extended, Opcode, Operation, Packet, Syndrome};

impl Qp {
    /// Sends up to `budget` answers and executes requests that waited for them. Returns whether there is more to do.
    pub(in super::super) fn respond(&mut self, step: &mut Step<'_>, budget: usize) -> bool {
        for _ in 0..budget {
            if !self.state.receives() {
                self.responder.replies.clear();
                self.responder.waiting.clear();
                return false;
            }
            if self.responder.is_reading() || self.responder.waiting.is_empty() {
                if self.responder.replies.is_empty() {
                    return false;
                }
                self.reply(step);
            } else if let Some(packet) = self.responder.waiting.pop_front() {
                self.requested_reliably(step, &packet);
            }
        }
        self.responder.is_busy()
    }

    /// Sends one packet of the first answer.
    pub(super) fn reply(&mut self, step: &mut Step<'_>) {
        let Some(reply) = self.responder.replies.pop_front() else { return };
        let mut extended = Extended::default();
        let mut payload = Vec::new();
        let (psn, operation) = match reply {
            Reply::Acknowledge { psn, syndrome, msn } => {
                step.adapter.count(Incident::Refused(syndrome));
                extended.aeth = Some(Aeth { syndrome, msn });
                (psn, Operation::Acknowledge)
            }
            Reply::Atomic { psn, was, msn } => {
                extended.aeth = Some(Aeth { syndrome: Syndrome::Ack, msn });
                extended.atomic_ack = Some(was);
                (psn, Operation::AtomicAcknowledge)
            }
            Reply::Read { psn, address, rkey, length, sent, user, msn } => {
                let part = (length - sent).min(self.attributes.mtu as u64);
                payload = vec![0; usize::try_from(part).unwrap_or(0)];
                if part != 0 {
                    let place = address.wrapping_add(sent);
                    let right = Right::RemoteRead;
                    let access = Access { user, key: rkey, address: place, length: part, right };
                    if let Err(error) = step.adapter.read(&access, &mut payload) {
                        // The key was invalidated while the read was answered.
                        self.responder.replies.clear();
                        return self.refused(step, psn, Refusal::Access(error));
                    }
                }
                let (first, last) = (sent == 0, sent + part == length);
                if first || last {
                    extended.aeth = Some(Aeth { syndrome: Syndrome::Ack, msn });
                }
                if !last {
                    let (psn, sent) = (psn.plus(1), sent + part);
                    let rest = Reply::Read { psn, address, rkey, length, sent, user, msn };
                    self.responder.replies.push_front(rest);
                }
                let operation = match (first, last) {
                    (true, true) => Operation::ReadResponseOnly,
                    (true, false) => Operation::ReadResponseFirst,
                    (false, true) => Operation::ReadResponseLast,
                    (false, false) => Operation::ReadResponseMiddle,
                };
                (psn, operation)
            }
        };
        let path = self.attributes.path;
        let port = step.adapter.port();
        let (lrh, grh) = route(port, &path);
        let bth = Bth {
            opcode: Opcode { service: self.attributes.kind.service(), operation },
            solicited: false,
            pkey: port.pkey(path.pkey_index.into()).unwrap_or(0),
            dest_qpn: self.attributes.remote_qpn,
            ack_request: false,
            psn,
        };
        step.send(Packet { lrh, grh, bth, extended, payload, bad_icrc: false });
    }
}
