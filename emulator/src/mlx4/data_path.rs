//! The data path: the queues of a card, and what moves between them.

use std::time::Duration;

use super::{card::Card, cq::Cqs, frames, qp::Qps, srq::Srqs, status::Status, uar::Uar};
use crate::{fabric::packet::Packet, transport::Next};

/// The queues of a card.
#[derive(Default)]
pub(crate) struct DataPath {
    pub(crate) cqs: Cqs,
    pub(crate) srqs: Srqs,
    pub(crate) qps: Qps,
    uar: Uar,
}

impl DataPath {
    /// CONF_SPECIAL_QP: QP0 of ports 1 and 2 are queue pairs `base_qpn` and the next, QP1 the two after them; 0 means
    /// that there are none.
    ///
    /// # Errors
    ///
    /// The number is not a multiple of 8.
    pub(crate) fn conf_special_qp(card: &mut Card, base_qpn: u32) -> Result<(), Status> {
        if base_qpn & !0xff_fff8 != 0 {
            return Err(Status::BadParam);
        }
        card.special_qpn = (base_qpn != 0).then_some(base_qpn);
        Ok(())
    }

    /// A write to BAR 2: UAR pages in the first half ([`UAR_BYTES`](super::uar::UAR_BYTES)), BlueFlame pages in the
    /// second.
    pub(crate) fn uar_write(&mut self, card: &mut Card, offset: u64, bytes: &[u8]) {
        self.uar.write(card, &mut self.cqs, &mut self.qps, offset, bytes);
    }

    /// Does a bounded amount of work: sends, retries, looks again at queues that were empty.
    pub(crate) fn run(&mut self, card: &mut Card, now: Duration, out: &mut Vec<Packet>) -> Next {
        let notifications = self.cqs.tick(card, now).map_or(Next::Idle, Next::At);
        self.qps.run(card, (&mut self.cqs, &mut self.srqs), now, out).or(notifications)
    }

    /// Takes a packet from the fabric. [`run`](Self::run) must be called afterwards.
    pub(crate) fn receive(&mut self, card: &mut Card, now: Duration, packet: Packet, out: &mut Vec<Packet>) {
        self.qps.receive(card, (&mut self.cqs, &mut self.srqs), now, packet, out);
    }

    /// Takes an Ethernet frame from the fabric. [`run`](Self::run) must be called afterwards.
    pub(crate) fn receive_frame(&mut self, card: &mut Card, now: Duration, frame: &[u8]) {
        frames::receive(card, &mut self.cqs, &mut self.srqs, &mut self.qps, now, frame);
    }
}
