//! How the responder's answers change outstanding requests: acknowledgements, NAKs, fetched data.

use std::time::Duration;

use super::super::{Step, adapter::Incident, completion::Error, data::scatter, qp::Qp, request::Work};
use crate::fabric::packet::{Aeth, Nak, Operation, Packet, Psn, Syndrome};

/// An RNR retry counter with this value never runs out.
const WITHOUT_LIMIT: u8 = 7;

impl Qp {
    /// Takes an answer of the peer's responder.
    pub(in super::super) fn answered(&mut self, step: &mut Step<'_>, packet: &Packet) {
        let psn = packet.bth.psn;
        let requester = &self.requester;
        let expected = psn.since(requester.oldest_psn()) >= 0 && psn.since(requester.next) < 0;
        if !expected {
            // A duplicate, or a ghost from before the queue pair was reset.
            return;
        }
        match packet.bth.opcode.operation {
            Operation::AtomicAcknowledge => self.fetched(step, psn, packet.extended.atomic_ack, &[]),
            operation if operation.is_read_response() => self.fetched(step, psn, None, &packet.payload),
            _ => {
                if let Some(Aeth { syndrome, .. }) = packet.extended.aeth {
                    self.acknowledged(step, psn, syndrome);
                }
            }
        }
        self.complete_requests(step);
    }

    fn acknowledged(&mut self, step: &mut Step<'_>, psn: Psn, syndrome: Syndrome) {
        step.adapter.count(Incident::WasRefused(syndrome));
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
                if requester.rnr_retries != WITHOUT_LIMIT {
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

    /// Everything up to `psn` has been acknowledged. Returns false if that skips the data of a read or an atomic
    /// operation: the response was lost, and has to be requested again.
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
            self.progressed(step);
        }
        if let Some(oldest) = lost {
            self.requester.retry(oldest);
        }
        lost.is_none()
    }

    /// Takes the data of a read, or the original value `was` of an atomic operation.
    fn fetched(&mut self, step: &mut Step<'_>, psn: Psn, was: Option<u64>, payload: &[u8]) {
        let Some(at) = self.requester.requests.iter().position(|request| request.contains(psn)) else {
            return;
        };
        let first = self.requester.requests[at].first;
        if !self.requester.requests[at].fetches() || !self.acknowledge(step, first.before()) {
            return;
        }
        let (user, mtu) = (self.user(), self.attributes.mtu as u64);
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
        if let Err(error) = scatter(step.adapter, user, &request.send.data.elements, offset, data) {
            step.trace(format_args!("QP {:#x} SQ [{}]: {error}", user.qpn, request.send.index));
            request.outcome = Some(Err(Error::LocalProtection));
            return;
        }
        request.answered += 1;
        if request.answered == request.psns {
            request.outcome = Some(Ok(()));
        }
        self.progressed(step);
    }

    /// The peer is alive: retry counters and timer start again.
    fn progressed(&mut self, step: &Step<'_>) {
        self.requester.reload(&self.attributes);
        let oldest = self.requester.oldest_psn();
        if self.requester.cursor.since(oldest) < 0 {
            self.requester.cursor = oldest;
        }
        let waiting = self.requester.cursor.since(oldest) > 0;
        self.requester.deadline =
            self.attributes.ack_timeout.filter(|_| waiting).map(|timeout| step.now + timeout);
    }
}

/// The time that an RNR NAK code stands for (section 9.7.5.2.8); code 0 is the longest.
pub(in super::super) fn rnr_time(code: u8) -> Duration {
    // In units of 10 µs.
    const TIMES: [u64; 32] = [
        65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
        3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152,
    ];
    Duration::from_micros(10 * TIMES[usize::from(code & 31)])
}
