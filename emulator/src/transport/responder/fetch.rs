//! Executing requests that fetch data: reads and atomic operations.

use super::{
    super::{
        Step,
        key::{Access, Right, User},
        qp::Qp,
    },
    MAX_RESULTS, Refusal, Reply,
};
use crate::fabric::packet::{AtomicEth, Operation, Packet, Reth};

impl Qp {
    pub(super) fn execute_read(&mut self, step: &mut Step<'_>, packet: &Packet) -> Result<(), Refusal> {
        let srqn = self.xrc_target(step, packet)?;
        let user = self.remote_user(step, srqn);
        self.check_outstanding_reads()?;
        let reply = self.read_reply(step, packet, user)?;
        let Reply::Read { length, .. } = reply else { return Ok(()) };
        let psns = length.div_ceil(self.attributes.mtu.max(1) as u64).max(1);
        self.responder.expected = packet.bth.psn.plus(u32::try_from(psns).unwrap_or(1));
        self.responder.msn = self.responder.msn.wrapping_add(1);
        self.responder.replies.push_back(reply);
        Ok(())
    }

    pub(super) fn read_reply(&self, step: &Step<'_>, packet: &Packet, user: User) -> Result<Reply, Refusal> {
        let Some(Reth { address, rkey, length }) = packet.extended.reth else {
            return Err(Refusal::Invalid("a read without its header"));
        };
        if !self.attributes.remote_read {
            return Err(Refusal::Invalid("the queue pair does not permit reads"));
        }
        let length = u64::from(length);
        if length > 1 << 31 {
            return Err(Refusal::Invalid("a read of more than 2 GiB"));
        }
        if length != 0 {
            let access = Access { user, key: rkey, address, length, right: Right::RemoteRead };
            step.adapter.check(&access).map_err(Refusal::Access)?;
        }
        let msn = self.responder.msn.wrapping_add(1);
        Ok(Reply::Read { psn: packet.bth.psn, address, rkey, length, sent: 0, user, msn })
    }

    pub(super) fn execute_atomic(&mut self, step: &mut Step<'_>, packet: &Packet) -> Result<(), Refusal> {
        let srqn = self.xrc_target(step, packet)?;
        let user = self.remote_user(step, srqn);
        let operation = packet.bth.opcode.operation;
        let Some(atomic) = packet.extended.atomic else {
            return Err(Refusal::Invalid("an atomic operation without its header"));
        };
        if !self.attributes.remote_atomic {
            return Err(Refusal::Invalid("the queue pair does not permit atomic operations"));
        }
        if !atomic.address.is_multiple_of(8) {
            return Err(Refusal::Invalid("an atomic operation that is not aligned"));
        }
        self.check_outstanding_reads()?;
        let (key, address) = (atomic.rkey, atomic.address);
        let access = Access { user, key, address, length: 8, right: Right::RemoteAtomic };
        // Numbers in memory are in the byte order of the guest's processor.
        let mut bytes = [0; 8];
        step.adapter.read(&access, &mut bytes).map_err(Refusal::Access)?;
        let was = u64::from_le_bytes(bytes);
        let becomes = atomic_result(operation, &atomic, was);
        step.adapter.write(&access, &becomes.to_le_bytes()).map_err(Refusal::Access)?;
        let psn = packet.bth.psn;
        let responder = &mut self.responder;
        responder.msn = responder.msn.wrapping_add(1);
        responder.replies.push_back(Reply::Atomic { psn, was, msn: responder.msn });
        responder.results.push_back((psn, was));
        if responder.results.len() > MAX_RESULTS {
            responder.results.pop_front();
        }
        Ok(())
    }

    fn check_outstanding_reads(&self) -> Result<(), Refusal> {
        if self.responder.outstanding_reads() < self.attributes.reads_as_responder {
            Ok(())
        } else {
            Err(Refusal::Invalid("more outstanding reads and atomics than it accepts"))
        }
    }
}

/// What an atomic operation stores where `was` was.
fn atomic_result(operation: Operation, atomic: &AtomicEth, was: u64) -> u64 {
    let AtomicEth { swap_add, compare, swap_add_mask, compare_mask, .. } = *atomic;
    match operation {
        Operation::FetchAdd => was.wrapping_add(swap_add),
        Operation::MaskedFetchAdd => add_in_fields(was, swap_add, swap_add_mask),
        _ if (was ^ compare) & compare_mask == 0 => was & !swap_add_mask | swap_add & swap_add_mask,
        _ => was,
    }
}

/// Adds without a carry out of the bits that `ends` marks.
fn add_in_fields(one: u64, other: u64, ends: u64) -> u64 {
    // Without the marked bits no carry leaves a field; they are added afterwards, without their carries.
    let low = (one & !ends).wrapping_add(other & !ends);
    low ^ (one ^ other) & ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_additions_stay_in_their_fields() {
        let bytes = 0x8080_8080_8080_8080;
        assert_eq!(add_in_fields(0x00ff_00ff, 0x0001_0001, bytes), 0);
        assert_eq!(add_in_fields(0x7f, 0x01, bytes), 0x80);
        assert_eq!(add_in_fields(0xffff, 1, 0), 0x1_0000);
    }
}
