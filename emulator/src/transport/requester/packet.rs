//! The packets of requests on connected queue pairs.

use super::{
    super::{
        Step,
        attributes::Kind,
        completion::Error,
        data::gather,
        headers::route,
        qp::Qp,
        request::{Send, Tail, Work},
    },
    Request, WINDOW,
};
use crate::fabric::packet::{AtomicEth, Bth, Extended, Opcode, Operation, Packet, Reth};

impl Qp {
    /// Packet `number` of a request. A read asks for all that is missing.
    pub(super) fn packet(
        &self,
        step: &mut Step<'_>,
        request: &Request,
        number: u32,
    ) -> Result<Packet, Error> {
        let attributes = &self.attributes;
        let mtu = attributes.mtu as u64;
        let send = &request.send;
        let last = number + 1 == request.psns;
        let offset = u64::from(number) * mtu;
        let mut extended = Extended { xrceth: self.is_xrc().then_some(send.srqn), ..Extended::default() };
        let length = (send.data.length - offset).min(mtu);
        let mut payload = Vec::new();
        let place = (number == 0, last);
        let operation = match send.work {
            Work::Message { tail, .. } => {
                payload = self.gather(step, send, offset, length)?;
                if last {
                    match tail {
                        Tail::Nothing => {}
                        Tail::Immediate(immediate) => extended.immediate = Some(immediate),
                        Tail::Invalidate(key) => extended.ieth = Some(key),
                    }
                }
                message_operation(place, tail)
            }
            Work::Write { address, rkey, immediate } => {
                payload = self.gather(step, send, offset, length)?;
                if number == 0 {
                    // No longer than 2 GiB: checked when it began.
                    extended.reth = Some(Reth { address, rkey, length: send.data.length as u32 });
                }
                if last {
                    extended.immediate = immediate;
                }
                write_operation(place, immediate.is_some())
            }
            Work::Read { address, rkey } => {
                let length = (send.data.length - offset) as u32;
                extended.reth = Some(Reth { address: address.wrapping_add(offset), rkey, length });
                Operation::ReadRequest
            }
            Work::Atomic { operation, address, rkey, swap_add, compare, masks } => {
                let [swap_add_mask, compare_mask] = masks;
                let atomic = AtomicEth { address, rkey, swap_add, compare, swap_add_mask, compare_mask };
                extended.atomic = Some(atomic);
                operation
            }
            Work::Nop | Work::Local => return Err(Error::LocalQpOperation),
        };
        let port = step.adapter.port();
        let (mut lrh, grh) = route(port, &attributes.path);
        lrh.force_loopback |= send.force_loopback;
        let reliable = attributes.kind != Kind::Uc;
        let bth = Bth {
            opcode: Opcode { service: attributes.kind.service(), operation },
            solicited: send.solicited && last,
            pkey: port.pkey(attributes.path.pkey_index.into()).unwrap_or(0),
            dest_qpn: attributes.remote_qpn,
            ack_request: reliable && (last || number % (WINDOW / 2) == WINDOW / 2 - 1),
            psn: request.first.plus(number),
        };
        Ok(Packet { lrh, grh, bth, extended, payload, bad_icrc: false })
    }

    /// Reads the data of a request.
    pub(in super::super) fn gather(
        &self,
        step: &mut Step<'_>,
        send: &Send,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>, Error> {
        gather(step.adapter, self.user(), &send.data.elements, offset, length).map_err(|error| {
            step.trace(format_args!("QP {:#x} SQ [{}]: {error}", self.qpn, send.index));
            Error::LocalProtection
        })
    }
}

/// The operation of a packet of a send; `place` is whether it is the first and whether it is the last one.
fn message_operation(place: (bool, bool), tail: Tail) -> Operation {
    match (place, tail) {
        ((true, false), _) => Operation::SendFirst,
        ((false, false), _) => Operation::SendMiddle,
        ((false, true), Tail::Nothing) => Operation::SendLast,
        ((false, true), Tail::Immediate(_)) => Operation::SendLastImmediate,
        ((false, true), Tail::Invalidate(_)) => Operation::SendLastInvalidate,
        ((true, true), Tail::Nothing) => Operation::SendOnly,
        ((true, true), Tail::Immediate(_)) => Operation::SendOnlyImmediate,
        ((true, true), Tail::Invalidate(_)) => Operation::SendOnlyInvalidate,
    }
}

/// The same for a write.
fn write_operation(place: (bool, bool), immediate: bool) -> Operation {
    match (place, immediate) {
        ((true, false), _) => Operation::WriteFirst,
        ((false, false), _) => Operation::WriteMiddle,
        ((false, true), false) => Operation::WriteLast,
        ((false, true), true) => Operation::WriteLastImmediate,
        ((true, true), false) => Operation::WriteOnly,
        ((true, true), true) => Operation::WriteOnlyImmediate,
    }
}
