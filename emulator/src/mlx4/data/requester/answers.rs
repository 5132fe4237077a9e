//! What answers of the responder do to requests under way: acknowledgements, refusals, data that were fetched.

use std::time::Duration;

use super::{
    super::{Step, address::scatter, cqe::Error, qp::Qp, wqe::Work},
    FOR_EVER,
};
use crate::fabric::packet::{Aeth, Nak, Operation, Packet, Psn, Syndrome};

impl Qp {
    /// Takes an answer of the responder at the other side.
    pub(crate) fn answered(&mut self, step: &mut Step<'_>, packet: &Packet) {
        let psn = packet.bth.psn;
        let requester = &self.requester;
        let expected = psn.since(requester.oldest_psn()) >= 0 && psn.since(requester.next) < 0;
        if !expected {
            // Old, or of another time of the queue pair: a ghost.
            return;
        }
        match packet.bth.opcode.operation {
            Operation::AtomicAcknowledge => self.fetched(step, psn, &packet.extended.atomic_ack, &[]),
            operation if operation.is_read_response() => self.fetched(step, psn, &None, &packet.payload),
            _ => {
                if let Some(Aeth { syndrome, .. }) = packet.extended.aeth {
                    self.acknowledged(step, psn, syndrome);
                }
            }
        }
        self.complete_requests(step);
    }

    fn acknowledged(&mut self, step: &mut Step<'_>, psn: Psn, syndrome: Syndrome) {
        step.card.diagnostics.was_refused(&syndrome);
        match syndrome {
            Syndrome::Ack => {
                self.acknowledge(step, psn);
            }
            Syndrome::RnrNak(timer) => {
                if !self.acknowledge(step, psn.before()) {
                    return;
                }
                let requester = &mut self.requester;
                if requester.rnr_retries == 0 {
                    return requester.fail_at(psn, Error::RnrRetriesExceeded);
                }
                if requester.rnr_retries != FOR_EVER {
                    requester.rnr_retries -= 1;
                }
                requester.cursor = psn;
                requester.deadline = None;
                requester.not_before = Some(step.now + rnr_time(timer));
            }
            Syndrome::Nak(nak) => {
                if !self.acknowledge(step, psn.before()) {
                    return;
                }
                match nak {
                    Nak::PsnSequence => self.requester.retry(psn),
                    Nak::InvalidRequest => self.requester.fail_at(psn, Error::RemoteInvalidRequest),
                    Nak::RemoteAccess => self.requester.fail_at(psn, Error::RemoteAccess),
                    Nak::RemoteOperational => self.requester.fail_at(psn, Error::RemoteOperation),
                }
            }
        }
    }

    /// Everything up to `psn` has been acknowledged. False where that skips the data of a read or an atomic operation:
    /// its response was lost, and it has to be asked for again.
    fn acknowledge(&mut self, step: &mut Step<'_>, psn: Psn) -> bool {
        let mut progress = false;
        let mut lost = None;
        for request in &mut self.requester.requests {
            if request.outcome.is_some() {
                continue;
            }
            let acknowledged = psn.since(request.first) + 1;
            if acknowledged <= 0 {
                break;
            }
            if request.fetches() {
                lost = Some(request.oldest());
                break;
            }
            let acknowledged = acknowledged.cast_unsigned().min(request.psns);
            progress |= acknowledged > request.answered;
            request.answered = request.answered.max(acknowledged);
            if request.answered < request.psns {
                break;
            }
            request.outcome = Some(Ok(()));
        }
        if progress {
            self.progress(step);
        }
        if let Some(oldest) = lost {
            self.requester.retry(oldest);
        }
        lost.is_none()
    }

    /// Takes the data of a read or an atomic operation.
    fn fetched(&mut self, step: &mut Step<'_>, psn: Psn, was: &Option<u64>, payload: &[u8]) {
        let Some(at) = self.requester.requests.iter().position(|request| request.contains(psn)) else {
            return;
        };
        let first = self.requester.requests[at].first;
        if !self.requester.requests[at].fetches() || !self.acknowledge(step, first.before()) {
            return;
        }
        let (user, mtu) = (self.user(), self.context.mtu() as u64);
        let request = &mut self.requester.requests[at];
        if psn.since(request.oldest()) > 0 {
            let oldest = request.oldest();
            return self.requester.retry(oldest);
        }
        if psn.since(request.oldest()) < 0 || request.outcome.is_some() {
            return;
        }
        let offset = u64::from(request.answered) * mtu;
        let atomic = matches!(request.send.work, Work::Atomic { .. });
        let result = was.unwrap_or(0).to_le_bytes();
        let data = if atomic { &result[..] } else { payload };
        let right_length = atomic || payload.len() as u64 == (request.send.data.length - offset).min(mtu);
        if was.is_some() != atomic || !right_length {
            request.outcome = Some(Err(Error::BadResponse));
            return;
        }
        if let Err(error) = scatter(step.card, user, &request.send.data.elements, offset, data) {
            step.card.trace.line(format_args!("QP {:#x} SQ [{}]: {error}", user.qpn, request.send.index));
            request.outcome = Some(Err(Error::LocalProtection));
            return;
        }
        request.answered += 1;
        if request.answered == request.psns {
            request.outcome = Some(Ok(()));
        }
        self.progress(step);
    }

    /// The other side lives: counters and timer begin anew.
    fn progress(&mut self, step: &Step<'_>) {
        self.requester.reload(&self.context);
        let oldest = self.requester.oldest_psn();
        if self.requester.cursor.since(oldest) < 0 {
            self.requester.cursor = oldest;
        }
        let waiting = self.requester.cursor.since(oldest) > 0;
        self.requester.deadline =
            self.context.ack_timeout().filter(|_| waiting).map(|timeout| step.now + timeout);
    }
}

/// The time that a code of an RNR NAK stands for (table 47 of the specification), code 0 being the longest.
pub(crate) fn rnr_time(code: u8) -> Duration {
    // In units of 10 µs.
    const TIMES: [u64; 32] = [
        65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
        3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152,
    ];
    Duration::from_micros(10 * TIMES[usize::from(code & 31)])
}
