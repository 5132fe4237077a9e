//! Datagrams: sent to any queue pair of any port, received from any (section 9.8.3), management datagrams included.

use super::{
    Step,
    adapter::Incident,
    completion::{Completion, Error, Received, ReceivedKind},
    data::scatter,
    headers::route,
    qp::Qp,
    request::{Datagram, Send, Tail, Work},
};
use crate::fabric::packet::{Bth, Deth, Extended, GRH_BYTES, Opcode, Operation, Packet, Psn, Service};

/// A Q_Key with this bit stands for the Q_Key of the sending queue pair (section 10.2.5).
const OWN_QKEY: u32 = 1 << 31;

impl Qp {
    /// The packet of a datagram.
    pub(super) fn datagram(
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
        let attributes = &self.attributes;
        let (lrh, grh, bth, deth) = match *datagram {
            Datagram::Addressed { mut path, global, pd, qpn, qkey, force_loopback } => {
                if pd != attributes.pd {
                    step.trace(format_args!(
                        "QP {:#x}: the address handle is in another protection domain",
                        self.qpn
                    ));
                    return Err(Error::LocalQpOperation);
                }
                let port = step.adapter.port();
                if port.ethernet.is_some() {
                    path.grh = Some(global);
                }
                // An address vector does not say which of the port's addresses is the source.
                path.ethernet.source_index = attributes.path.ethernet.source_index;
                let (mut lrh, grh) = route(port, &path);
                lrh.force_loopback = force_loopback || send.force_loopback;
                let operation =
                    if immediate.is_some() { Operation::SendOnlyImmediate } else { Operation::SendOnly };
                let bth = Bth {
                    opcode: Opcode { service: Service::Ud, operation },
                    solicited: send.solicited,
                    pkey: port.pkey(attributes.path.pkey_index.into()).unwrap_or(0),
                    dest_qpn: qpn,
                    ack_request: false,
                    psn,
                };
                let qkey = if qkey & OWN_QKEY != 0 { attributes.qkey } else { qkey };
                (lrh, grh, bth, Deth { qkey, src_qpn: self.qpn })
            }
            Datagram::Built { mut lrh, grh, bth, deth } => {
                // The driver gives the path bits, and the card knows its LID. A port without a LID uses the permissive
                // one.
                if lrh.slid != 0xffff && lrh.ethernet.is_none() {
                    let port = step.adapter.port();
                    lrh.slid = port.lid | lrh.slid & ((1 << port.lmc.min(7)) - 1);
                }
                (lrh, grh, bth, deth)
            }
        };
        let extended = Extended { deth: Some(deth), immediate, ..Extended::default() };
        Ok(Packet { lrh, grh, bth, extended, payload, bad_icrc: false })
    }

    /// Receives a datagram, or drops it if there is no receive request. `pkey_index` is the place of its P_Key in the
    /// port's table.
    pub(super) fn receive_datagram(&mut self, step: &mut Step<'_>, packet: &Packet, pkey_index: u8) {
        let Some(deth) = packet.extended.deth else { return };
        let Some(request) = self.take_receive(step, None) else {
            step.trace(format_args!("QP {:#x}: no receive request, datagram dropped", self.qpn));
            return step.adapter.count(Incident::DatagramDropped);
        };
        let length = GRH_BYTES + packet.payload.len();
        if length as u64 > request.length() {
            self.receive_failed(step, &request, None, Error::LocalLength);
            return self.fail(step);
        }
        let user = self.receive_user(step, None);
        let grh = packet.grh.map(|grh| {
            let bytes = grh.bytes(u16::try_from(packet.transport_bytes()).unwrap_or(u16::MAX));
            scatter(step.adapter, user, &request.elements, 0, &bytes)
        });
        let payload = scatter(step.adapter, user, &request.elements, GRH_BYTES as u64, &packet.payload);
        if let Err(error) = grh.unwrap_or(Ok(())).and(payload) {
            step.trace(format_args!("QP {:#x} RQ [{}]: {error}", self.qpn, request.index));
            self.receive_failed(step, &request, None, Error::LocalProtection);
            return self.fail(step);
        }
        let lids = (1_u16 << step.adapter.port().lmc.min(7)) - 1;
        let completion = Completion::Received(Received {
            qpn: self.qpn,
            index: request.index,
            kind: packet.extended.immediate.map_or(ReceivedKind::Send, ReceivedKind::SendImmediate),
            byte_count: u32::try_from(length).unwrap_or(u32::MAX),
            src_qpn: deth.src_qpn,
            srqn: None,
            pkey_index,
            slid: packet.lrh.slid,
            sl: packet.lrh.sl,
            path_bits: (packet.lrh.dlid & lids) as u8,
            grh: packet.grh.is_some(),
            ethernet: packet.lrh.ethernet,
        });
        self.complete(step, self.attributes.receive_cqn, &completion, packet.bth.solicited);
    }
}
