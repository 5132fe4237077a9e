//! Executing sends and writes.

use super::{
    super::{
        Step,
        completion::{Completion, Received, ReceivedKind},
        data::scatter,
        key::{Access, Right},
        qp::Qp,
        request::Receive,
    },
    Message, Refusal,
};
use crate::fabric::packet::{Operation, Packet, Reth};

impl Qp {
    /// Executes the request that is next.
    pub(super) fn execute(&mut self, step: &mut Step<'_>, packet: &Packet) -> Result<(), Refusal> {
        let operation = packet.bth.opcode.operation;
        self.check_order(operation)?;
        self.check_length(packet)?;
        let psn = packet.bth.psn;
        match operation {
            _ if operation.is_send() => self.execute_send(step, packet)?,
            _ if operation.is_write() => self.execute_write(step, packet)?,
            Operation::ReadRequest => return self.execute_read(step, packet),
            _ if operation.is_atomic() => self.execute_atomic(step, packet)?,
            _ => return Err(Refusal::Invalid("an operation that is not a request")),
        }
        self.responder.expected = psn.plus(1);
        Ok(())
    }

    /// A message begins when none has begun, and continues as it began (section 9.7.4.1.2).
    fn check_order(&self, operation: Operation) -> Result<(), Refusal> {
        let right = match &self.responder.message {
            None => operation.begins(),
            Some(Message::Send { .. }) => operation.is_send() && !operation.begins(),
            Some(Message::Write { .. }) => operation.is_write() && !operation.begins(),
        };
        if right { Ok(()) } else { Err(Refusal::Invalid("the packets of a message are out of order")) }
    }

    /// All packets of a message but the last are full (section 9.7.4.1.6).
    fn check_length(&self, packet: &Packet) -> Result<(), Refusal> {
        let (length, mtu) = (packet.payload.len(), self.attributes.mtu);
        let operation = packet.bth.opcode.operation;
        let right = if operation.continues() { length == mtu } else { length <= mtu };
        let empty_end = length == 0 && !operation.begins() && !operation.continues();
        if right && !empty_end { Ok(()) } else { Err(Refusal::Invalid("a payload of the wrong length")) }
    }

    fn execute_send(&mut self, step: &mut Step<'_>, packet: &Packet) -> Result<(), Refusal> {
        let operation = packet.bth.opcode.operation;
        let srqn = self.xrc_target(step, packet)?;
        if self.responder.message.is_none() {
            let request = self.take_receive(step, srqn).ok_or(Refusal::NotReady)?;
            self.responder.message = Some(Message::Send { request, srqn, received: 0 });
        }
        let Some(Message::Send { request, received, .. }) = &self.responder.message else {
            return Err(Refusal::Invalid("no message has begun"));
        };
        let received = *received;
        let length = received + packet.payload.len() as u64;
        if length > request.length() {
            return Err(Refusal::TooLong);
        }
        let user = self.receive_user(step, srqn);
        scatter(step.adapter, user, &request.elements, received, &packet.payload)
            .map_err(Refusal::Protection)?;
        if operation.continues() {
            if let Some(Message::Send { received, .. }) = &mut self.responder.message {
                *received = length;
            }
            return Ok(());
        }
        if let Some(key) = packet.extended.ieth {
            let user = self.remote_user(step, srqn);
            step.adapter.invalidate(user, key).map_err(Refusal::Access)?;
        }
        let Some(Message::Send { request, .. }) = self.responder.message.take() else { return Ok(()) };
        let kind = match (packet.extended.immediate, packet.extended.ieth) {
            (Some(immediate), _) => ReceivedKind::SendImmediate(immediate),
            (None, Some(key)) => ReceivedKind::SendInvalidate(key),
            (None, None) => ReceivedKind::Send,
        };
        self.received(step, packet, &request, srqn, kind, length);
        Ok(())
    }

    fn execute_write(&mut self, step: &mut Step<'_>, packet: &Packet) -> Result<(), Refusal> {
        let operation = packet.bth.opcode.operation;
        let srqn = self.xrc_target(step, packet)?;
        let user = self.remote_user(step, srqn);
        let (address, rkey, written, length) = match (&self.responder.message, packet.extended.reth) {
            (Some(Message::Write { address, rkey, written, length }), _) => {
                (*address, *rkey, *written, *length)
            }
            (_, Some(Reth { address, rkey, length })) => (address, rkey, 0, u64::from(length)),
            _ => return Err(Refusal::Invalid("a write without its header")),
        };
        if !self.attributes.remote_write {
            return Err(Refusal::Invalid("the queue pair does not permit writes"));
        }
        let total = written + packet.payload.len() as u64;
        if length > 1 << 31 || total > length || !operation.continues() && total != length {
            return Err(Refusal::Invalid("a write whose packets do not add up to its length"));
        }
        // The key is checked for the whole message by its first packet, and for its own part by each packet.
        let access = Access { user, key: rkey, address, length, right: Right::RemoteWrite };
        if length != 0 && written == 0 {
            step.adapter.check(&access).map_err(Refusal::Access)?;
        }
        // The receive request first: without one the packet must not be executed.
        let request = match packet.extended.immediate {
            Some(_) => Some(self.take_receive(step, srqn).ok_or(Refusal::NotReady)?),
            None => None,
        };
        if !packet.payload.is_empty() {
            let address = address.wrapping_add(written);
            let part = Access { address, length: packet.payload.len() as u64, ..access };
            if let Err(error) = step.adapter.write(&part, &packet.payload) {
                // The message fails, and its receive request is not completed with it (section 9.9.3): a reliable queue
                // pair moves to ERR and flushes it, an unreliable one uses it for the next message.
                self.responder.spare = request.map(|request| (request, srqn)).or(self.responder.spare.take());
                return Err(Refusal::Access(error));
            }
        }
        if operation.continues() {
            self.responder.message = Some(Message::Write { address, rkey, written: total, length });
            return Ok(());
        }
        self.responder.message = None;
        match (request, packet.extended.immediate) {
            (Some(request), Some(immediate)) => {
                let kind = ReceivedKind::WriteImmediate(immediate);
                self.received(step, packet, &request, srqn, kind, length);
            }
            _ => self.responder.msn = self.responder.msn.wrapping_add(1),
        }
        Ok(())
    }

    /// A message that takes a receive request is complete.
    fn received(
        &mut self,
        step: &mut Step<'_>,
        packet: &Packet,
        request: &Receive,
        srqn: Option<u32>,
        kind: ReceivedKind,
        length: u64,
    ) {
        self.responder.msn = self.responder.msn.wrapping_add(1);
        let completion = Completion::Received(Received {
            qpn: self.qpn,
            index: request.index,
            kind,
            byte_count: u32::try_from(length).unwrap_or(u32::MAX),
            src_qpn: self.attributes.remote_qpn,
            srqn,
            pkey_index: self.attributes.path.pkey_index,
            slid: packet.lrh.slid,
            sl: packet.lrh.sl,
            path_bits: 0,
            grh: packet.grh.is_some(),
            ethernet: packet.lrh.ethernet,
        });
        let cqn = self.receive_cqn_of(step, srqn);
        self.complete(step, cqn, &completion, packet.bth.solicited);
    }
}
