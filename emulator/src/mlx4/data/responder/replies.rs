//! Answers, in the order of the requests; one of a read has as many packets as its data need.

use super::{
    super::{
        Step, address,
        mpt::{self, Rights},
        qp::Qp,
    },
    Refusal, Reply,
};
use crate::fabric::packet::{Aeth, Bth, Extended, Opcode, Operation, Packet, Syndrome};

impl Qp {
    /// Sends up to `budget` answers, and takes requests that waited for them. Whether there is more to do.
    pub(crate) fn respond(&mut self, step: &mut Step<'_>, budget: usize) -> bool {
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
                step.card.diagnostics.refused(&syndrome);
                extended.aeth = Some(Aeth { syndrome, msn });
                (psn, Operation::Acknowledge)
            }
            Reply::Atomic { psn, was, msn } => {
                extended.aeth = Some(Aeth { syndrome: Syndrome::Ack, msn });
                extended.atomic_ack = Some(was);
                (psn, Operation::AtomicAcknowledge)
            }
            Reply::Read { psn, address, rkey, length, sent, user, msn } => {
                let mtu = self.context.mtu() as u64;
                let part = (length - sent).min(mtu);
                payload = vec![0; usize::try_from(part).unwrap_or(0)];
                let place = address.wrapping_add(sent);
                let read = if part == 0 {
                    Ok(())
                } else {
                    mpt::remote(step.card, user, rkey, place, part, Rights::REMOTE_READ)
                        .and_then(|memory| memory.read(step.card, place, &mut payload))
                };
                if let Err(error) = read {
                    // The key went while the read was answered.
                    self.responder.replies.clear();
                    return self.refused(step, psn, Refusal::Access(error));
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
        let path = self.context.path();
        let (lrh, grh) = address::headers(step.card, &path);
        let bth = Bth {
            opcode: Opcode { service: self.service(), operation },
            solicited: false,
            pkey: step.card.port.pkey(path.pkey_index.into()).unwrap_or(0),
            dest_qpn: self.context.remote_qpn(),
            ack_request: false,
            psn,
        };
        step.send(Packet { lrh, grh, bth, extended, payload, bad_icrc: false });
    }
}
