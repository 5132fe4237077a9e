//! The data path: queues, and what moves between them.
//!
//! | file | idea |
//! |---|---|
//! | `uar` | doorbells and BlueFlame: what the driver writes to the card |
//! | `sq`, `rq`, `srq` | queues of requests in the guest's memory |
//! | `wqe`, `cqe` | their entries, decoded and encoded |
//! | `built` | headers that the driver built for management |
//! | `cq` | completion queues |
//! | `qp`, `qpc` | queue pairs: states, and the context that the driver gives |
//! | `schedule` | whose turn it is, and whose a packet is |
//! | `requester` | sends requests, takes acknowledgements, tries again |
//! | `responder` | takes requests, answers them |
//! | `raw` | sends and takes Ethernet frames |
//! | `datagram` | sends and takes datagrams |
//! | `address` | headers from paths, data from and to the elements of requests |
//! | `mpt`, `window` | keys: who may do what with which memory; binding, registering, invalidating |
//! | `multicast` | groups |
//!
//! Time goes in as `now`, since some beginning; nothing here sleeps or waits.

mod address;
mod built;
mod cq;
mod cqe;
mod datagram;
mod mpt;
mod multicast;
mod qp;
mod qpc;
mod raw;
mod requester;
mod responder;
mod rq;
mod schedule;
mod sq;
mod srq;
#[cfg(test)]
mod tests;
mod uar;
mod window;
mod wqe;

use std::{fmt, time::Duration};

pub use cq::CONTEXT as CQ_CONTEXT;
pub use mpt::{ENTRY as MPT_ENTRY, RESERVED_LKEY};
pub use qp::{QpCommand, State as QpState};
pub use qpc::MAILBOX as QP_MAILBOX;
pub use srq::CONTEXT as SRQ_CONTEXT;
pub use uar::{BLUEFLAME_BYTES, UAR_BYTES, UAR_PAGE};
pub use window::unbind;

use crate::{
    fabric::packet::Packet,
    mlx4::{card::Card, status::Status},
    violation::Violation,
};

/// When the data path has something to do without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Now,
    /// Then.
    At(Duration),
    /// Not until a doorbell or a packet comes.
    Idle,
}

/// The queues of a card and what is under way in them.
#[derive(Default)]
pub struct Data {
    cqs: cq::Cqs,
    srqs: srq::Srqs,
    qps: schedule::Qps,
    uar: uar::Uar,
    /// The time of the last call that said it.
    now: Duration,
}

/// What every part of the data path has at hand while it works.
pub(crate) struct Step<'a> {
    pub(crate) card: &'a mut Card,
    pub(crate) cqs: &'a mut cq::Cqs,
    pub(crate) srqs: &'a mut srq::Srqs,
    pub(crate) now: Duration,
    /// Packets to be sent.
    pub(crate) out: &'a mut Vec<Packet>,
}

impl Step<'_> {
    /// Gives a packet to the fabric, if the port is up.
    pub(crate) fn send(&mut self, packet: Packet) {
        if self.card.trace.on() {
            self.card.trace.line(format_args!("-> {packet}"));
        }
        let active = self.card.port.is_active();
        let counters = &mut self.card.port.counters;
        if active {
            counters.sent_packets = counters.sent_packets.wrapping_add(1);
            counters.sent_bytes = counters.sent_bytes.wrapping_add(packet.bytes() as u64);
            self.out.push(packet);
        } else {
            counters.send_discards = counters.send_discards.wrapping_add(1);
        }
    }
}

/// A queue, as reports name it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Queue {
    Sq(u32),
    Rq(u32),
    Srq(u32),
    Cq(u32),
    Uar(u32),
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sq(qpn) => write!(f, "QP {qpn:#x} SQ"),
            Self::Rq(qpn) => write!(f, "QP {qpn:#x} RQ"),
            Self::Srq(srqn) => write!(f, "SRQ {srqn:#x}"),
            Self::Cq(cqn) => write!(f, "CQ {cqn:#x}"),
            Self::Uar(page) => write!(f, "UAR {page}"),
        }
    }
}

/// Reports what no correct driver does.
pub(crate) fn violate(
    card: &mut Card,
    queue: Queue,
    index: Option<u64>,
    what: impl Into<String>,
    bytes: &[u8],
) {
    let violation = Violation { queue: queue.to_string(), index, what: what.into(), bytes: bytes.to_vec() };
    card.violations.report(violation);
}

impl Data {
    /// SW2HW_CQ: gives completion queue `cqn` to the card, which marks all of its entries as its own.
    ///
    /// # Errors
    ///
    /// The status that the command ends with.
    pub fn sw2hw_cq(&mut self, card: &mut Card, cqn: u32, context: &[u8; CQ_CONTEXT]) -> Result<(), Status> {
        self.cqs.create(card, cqn, context)
    }

    /// HW2SW_CQ: gives completion queue `cqn` back.
    ///
    /// # Errors
    ///
    /// The card does not have it.
    pub fn hw2sw_cq(&mut self, _card: &mut Card, cqn: u32) -> Result<(), Status> {
        self.cqs.destroy(cqn)
    }

    /// QUERY_CQ.
    ///
    /// # Errors
    ///
    /// The card does not have it.
    pub fn query_cq(&self, cqn: u32) -> Result<[u8; CQ_CONTEXT], Status> {
        self.cqs.query(cqn)
    }

    /// MODIFY_CQ: with operation modifier 0 another buffer, with 1 another moderation.
    ///
    /// # Errors
    ///
    /// The status that the command ends with.
    pub fn modify_cq(
        &mut self,
        card: &mut Card,
        cqn: u32,
        op_modifier: u8,
        context: &[u8; CQ_CONTEXT],
    ) -> Result<(), Status> {
        self.cqs.modify(card, self.now, cqn, op_modifier, context)
    }

    /// Makes completion queue `cqn` fail as if it had overrun: a fault on request. Whether there is such a queue.
    pub fn overrun_cq(&mut self, card: &mut Card, cqn: u32) -> bool {
        self.cqs.overrun(card, cqn)
    }

    /// SW2HW_SRQ: gives shared receive queue `srqn` to the card.
    ///
    /// # Errors
    ///
    /// The status that the command ends with.
    pub fn sw2hw_srq(
        &mut self,
        card: &mut Card,
        srqn: u32,
        context: &[u8; SRQ_CONTEXT],
    ) -> Result<(), Status> {
        self.srqs.create(card, srqn, context)
    }

    /// HW2SW_SRQ: gives shared receive queue `srqn` back.
    ///
    /// # Errors
    ///
    /// The card does not have it.
    pub fn hw2sw_srq(&mut self, _card: &mut Card, srqn: u32) -> Result<(), Status> {
        self.srqs.destroy(srqn)
    }

    /// QUERY_SRQ.
    ///
    /// # Errors
    ///
    /// The card does not have it.
    pub fn query_srq(&self, srqn: u32) -> Result<[u8; SRQ_CONTEXT], Status> {
        self.srqs.query(srqn)
    }

    /// ARM_SRQ: one event as soon as the queue holds fewer than `limit` requests.
    ///
    /// # Errors
    ///
    /// The card does not have it.
    pub fn arm_srq(&mut self, card: &mut Card, srqn: u32, limit: u16) -> Result<(), Status> {
        self.srqs.arm(card, srqn, limit)
    }

    /// A transition of a queue pair. `input_modifier` is the command's: the number, and in bit 31 whether an event is
    /// wanted when the send queue is drained. 2RST_QP has no mailbox: give zeros.
    ///
    /// # Errors
    ///
    /// The status that the command ends with.
    pub fn modify_qp(
        &mut self,
        card: &mut Card,
        command: QpCommand,
        input_modifier: u32,
        mailbox: &[u8; QP_MAILBOX],
    ) -> Result<(), Status> {
        let mut nothing = Vec::new();
        let Self { cqs, srqs, qps, now, .. } = self;
        let mut step = Step { card, cqs, srqs, now: *now, out: &mut nothing };
        qps.modify(&mut step, command, input_modifier, mailbox)
    }

    /// QUERY_QP: the mailbox, with the context 8 bytes from its start.
    ///
    /// # Errors
    ///
    /// The queue pair is in the reset state.
    pub fn query_qp(&self, qpn: u32) -> Result<[u8; QP_MAILBOX], Status> {
        self.qps.query(qpn & 0xff_ffff)
    }

    /// CONF_SPECIAL_QP: QP0 of ports 1 and 2 have the numbers `base_qpn` and the next, QP1 the two after those;
    /// 0 says that there are none.
    ///
    /// # Errors
    ///
    /// The number is not a multiple of 8.
    pub fn conf_special_qp(&mut self, card: &mut Card, base_qpn: u32) -> Result<(), Status> {
        if base_qpn & !0xff_fff8 != 0 {
            return Err(Status::BadParam);
        }
        card.special_qpn = (base_qpn != 0).then_some(base_qpn);
        Ok(())
    }

    /// Forgets everything: the card is reset, or the guest gone.
    pub fn reset(&mut self) {
        *self = Self { now: self.now, ..Self::default() };
    }

    /// A write to BAR 2: UAR pages in the first half ([`UAR_BYTES`]), BlueFlame pages in the second.
    pub fn uar_write(&mut self, card: &mut Card, now: Duration, offset: u64, bytes: &[u8]) {
        self.now = now;
        let Self { uar, cqs, qps, .. } = self;
        uar.write(card, cqs, qps, offset, bytes);
    }

    /// Does a bounded amount of work: sends, tries again, looks again at queues that were empty.
    pub fn run(&mut self, card: &mut Card, now: Duration, out: &mut Vec<Packet>) -> Next {
        self.now = now;
        let Self { cqs, srqs, qps, .. } = self;
        let notifications = cqs.tick(card, now);
        let mut step = Step { card, cqs, srqs, now, out };
        qps.run(&mut step).or_at(notifications)
    }

    /// Takes a packet that the fabric delivers. [`run`](Self::run) must be called after it.
    pub fn receive(&mut self, card: &mut Card, now: Duration, packet: Packet, out: &mut Vec<Packet>) {
        self.now = now;
        let Self { cqs, srqs, qps, .. } = self;
        let mut step = Step { card, cqs, srqs, now, out };
        qps.receive(&mut step, packet);
    }

    /// Takes an Ethernet frame that the fabric delivers. [`run`](Self::run) must be called after it.
    pub fn receive_frame(&mut self, card: &mut Card, now: Duration, frame: &[u8]) {
        self.now = now;
        let mut nothing = Vec::new();
        let Self { cqs, srqs, qps, .. } = self;
        let mut step = Step { card, cqs, srqs, now, out: &mut nothing };
        qps.receive_frame(&mut step, frame);
    }
}

impl Next {
    /// The earlier of the two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now, _) | (_, Self::Now) => Self::Now,
            (Self::At(one), Self::At(two)) => Self::At(one.min(two)),
            (at @ Self::At(_), Self::Idle) | (Self::Idle, at) => at,
        }
    }

    fn or_at(self, other: Option<Duration>) -> Self {
        other.map_or(self, |at| self.or(Self::At(at)))
    }
}
