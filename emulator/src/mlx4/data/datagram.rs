//! Datagrams: sent to any queue pair of any port, taken from any (section 9.8.3), and those of management.

use super::{
    Step,
    address::{headers, scatter},
    cqe::{Cqe, Error, Received, ReceivedKind},
    qp::Qp,
    qpc::Kind,
    wqe::{Datagram, Send, Tail, Work},
};
use crate::{
    fabric::packet::{Bth, Deth, Extended, GRH_BYTES, Opcode, Operation, Packet, Psn, Service},
    mlx4::{card::Card, diagnostics::DATAGRAMS_DROPPED},
};

/// The queue key that stands for that of the sending queue pair: its top bit is set.
const OWN_QKEY: u32 = 1 << 31;

impl Qp {
    /// Bytes of the longest datagram.
    pub(crate) fn datagram_mtu(&self, card: &Card) -> usize {
        card.port.mtu_bytes()
    }

    /// The packet of a datagram.
    pub(crate) fn datagram(
        &self,
        step: &mut Step<'_>,
        send: &Send,
        datagram: &Datagram,
        psn: Psn,
    ) -> Result<Packet, Error> {
        let payload = self.gather(step, send, 0, send.data.length)?;
        let immediate = match send.work {
            Work::Message { tail: Tail::Immediate(immediate), .. } => Some(immediate),
            _ => None,
        };
        let (lrh, grh, bth, deth) = match *datagram {
            Datagram::Addressed { mut path, global, pd, qpn, qkey, force_loopback } => {
                if pd != self.context.pd() {
                    step.card.trace.line(format_args!("QP {:#x}: address of another domain", self.qpn));
                    return Err(Error::LocalQpOperation);
                }
                if step.card.port.ethernet.is_some() {
                    path.grh = Some(global);
                }
                // An address vector does not say which own address is the source.
                path.ethernet.source_index = self.context.path().ethernet.source_index;
                let (mut lrh, grh) = headers(step.card, &path);
                lrh.force_loopback = force_loopback || send.force_loopback;
                let operation =
                    if immediate.is_some() { Operation::SendOnlyImmediate } else { Operation::SendOnly };
                let pkey_index = self.context.path().pkey_index;
                let bth = Bth {
                    opcode: Opcode { service: Service::Ud, operation },
                    solicited: send.solicited,
                    pkey: step.card.port.pkey(pkey_index.into()).unwrap_or(0),
                    dest_qpn: qpn,
                    ack_request: false,
                    psn,
                };
                let qkey = if qkey & OWN_QKEY != 0 { self.context.qkey() } else { qkey };
                (lrh, grh, bth, Deth { qkey, src_qpn: self.qpn })
            }
            Datagram::Built { mut lrh, grh, bth, deth } => {
                // The driver gives the path bits; the card knows its LID. A card without one says the permissive LID.
                if lrh.slid != 0xffff && lrh.ethernet.is_none() {
                    lrh.slid = step.card.port.lid | lrh.slid & ((1 << step.card.port.lmc.min(7)) - 1);
                }
                (lrh, grh, bth, deth)
            }
        };
        let extended = Extended { deth: Some(deth), immediate, ..Extended::default() };
        Ok(Packet { lrh, grh, bth, extended, payload, bad_icrc: false })
    }

    /// Takes a datagram; without a receive request it is dropped. `pkey_index` is where its P_Key is in the table.
    pub(crate) fn datagram_came(&mut self, step: &mut Step<'_>, packet: &Packet, pkey_index: u8) {
        let Some(deth) = packet.extended.deth else { return };
        let Some(request) = self.take_receive(step, None) else {
            step.card.trace.line(format_args!("QP {:#x}: no receive request, dropped", self.qpn));
            step.card.diagnostics.count(DATAGRAMS_DROPPED);
            return;
        };
        let length = GRH_BYTES + packet.payload.len();
        if length as u64 > request.length() {
            self.receive_failed(step, &request, None, Error::LocalLength);
            return self.fail(step);
        }
        let user = self.receive_user(step, None);
        let grh = packet.grh.map(|grh| {
            let bytes = grh.bytes(u16::try_from(packet.transport_bytes()).unwrap_or(u16::MAX));
            scatter(step.card, user, &request.elements, 0, &bytes)
        });
        let payload = scatter(step.card, user, &request.elements, GRH_BYTES as u64, &packet.payload);
        if let Err(error) = grh.unwrap_or(Ok(())).and(payload) {
            step.card.trace.line(format_args!("QP {:#x} RQ [{}]: {error}", self.qpn, request.index));
            self.receive_failed(step, &request, None, Error::LocalProtection);
            return self.fail(step);
        }
        let (kind, immediate) = match packet.extended.immediate {
            Some(immediate) => (ReceivedKind::SendImmediate, immediate),
            None => (ReceivedKind::Send, 0),
        };
        let lids = (1_u16 << step.card.port.lmc.min(7)) - 1;
        let entry = Cqe::Received(Received {
            qpn: self.qpn,
            wqe: request.index,
            kind,
            immediate: if matches!(self.kind, Kind::Mlx(_)) { pkey_index.into() } else { immediate },
            byte_count: u32::try_from(length).unwrap_or(u32::MAX),
            remote_qpn: deth.src_qpn,
            slid: packet.lrh.slid,
            sl: packet.lrh.sl,
            path_bits: (packet.lrh.dlid & lids) as u8,
            grh: packet.grh.is_some(),
            ethernet: packet.lrh.ethernet,
        });
        self.complete(step, self.context.cqn_receive(), &entry, packet.bth.solicited);
    }
}
