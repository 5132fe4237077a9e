//! User access regions: doorbells and BlueFlame.
//!
//! Each process has a page for doorbells (send at 0x14, completion queues at 0x20) and one for BlueFlame, where a short
//! request is written as a whole. A guest's BlueFlame writes arrive in pieces of 8 bytes.

use std::collections::BTreeMap;

use super::{Queue, card::Card, cq::Cqs, qp::Qps, violate, wqe::Head};
use crate::{be, transport::State};

/// Size of all doorbell pages in BAR 2; the BlueFlame pages with the same numbers follow.
pub(super) const UAR_BYTES: u64 = 4 << 20;
/// Size of a page.
pub(super) const UAR_PAGE: u64 = 4096;
/// Size of a BlueFlame buffer; a BlueFlame register is two of them.
pub(super) const BLUEFLAME_BYTES: usize = 256;

const SEND_DOORBELL: u64 = 0x14;
const CQ_DOORBELL: u64 = 0x20;
/// Requests are written to BlueFlame in multiples of this size.
const BLUEFLAME_UNIT: usize = 64;
/// The limit of partial writes; more than a guest has processors.
const MAX_PARTIAL: usize = 1024;

/// Doorbells and requests that have been written in part.
#[derive(Default)]
pub(crate) struct Uar {
    /// The first word of a completion queue's doorbell, by page.
    cq_doorbells: BTreeMap<u32, u32>,
    /// Requests, by their offset in the BAR.
    blueflame: BTreeMap<u64, Vec<u8>>,
}

impl Uar {
    /// Handles a write to BAR 2.
    pub(crate) fn write(&mut self, card: &mut Card, cqs: &mut Cqs, qps: &mut Qps, offset: u64, bytes: &[u8]) {
        if offset >= UAR_BYTES {
            return self.blueflame(card, qps, offset, bytes);
        }
        #[expect(clippy::cast_possible_truncation, reason = "there are 1024 pages")]
        let page = (offset / UAR_PAGE) as u32;
        match (offset % UAR_PAGE, bytes.len()) {
            (SEND_DOORBELL, 4) => send_doorbell(card, qps, page, bytes),
            (CQ_DOORBELL, 8) => cqs.doorbell(card, page, [be::get32(bytes, 0), be::get32(bytes, 4)]),
            (CQ_DOORBELL, 4) if self.cq_doorbells.len() < MAX_PARTIAL => {
                self.cq_doorbells.insert(page, be::get32(bytes, 0));
            }
            (at, 4) if at == CQ_DOORBELL + 4 && self.cq_doorbells.contains_key(&page) => {
                let first = self.cq_doorbells.remove(&page).unwrap_or(0);
                cqs.doorbell(card, page, [first, be::get32(bytes, 0)]);
            }
            (at, length) => {
                let what = format!("a write of {length} bytes at {at:#x}, where there is no doorbell");
                violate(card, Queue::Uar(page), None, what, bytes);
            }
        }
    }

    /// Handles a piece of a request, which is complete when it has the length in its own size field.
    fn blueflame(&mut self, card: &mut Card, qps: &mut Qps, offset: u64, bytes: &[u8]) {
        let within = offset % BLUEFLAME_BYTES as u64;
        let begin = offset - within;
        #[expect(clippy::cast_possible_truncation, reason = "there are 1024 pages")]
        let page = (begin.wrapping_sub(UAR_BYTES) / UAR_PAGE) as u32;
        if within == 0 {
            if self.blueflame.len() >= MAX_PARTIAL {
                self.blueflame.clear();
            }
            if let Some(partial) = self.blueflame.insert(begin, Vec::new()) {
                violate(card, Queue::Uar(page), None, "BlueFlame begun anew before its end", &partial);
            }
        }
        let Some(request) = self.blueflame.get_mut(&begin) else {
            return violate(
                card,
                Queue::Uar(page),
                None,
                "BlueFlame that does not begin at its beginning",
                bytes,
            );
        };
        if request.len() as u64 != within || request.len() + bytes.len() > BLUEFLAME_BYTES {
            let what = format!("BlueFlame at byte {within}, after {}", request.len());
            violate(card, Queue::Uar(page), None, what, bytes);
            self.blueflame.remove(&begin);
            return;
        }
        request.extend_from_slice(bytes);
        if request.len() < 8 {
            return;
        }
        let length = Head::parse(request).bytes().next_multiple_of(BLUEFLAME_UNIT).max(BLUEFLAME_UNIT);
        if request.len() < length.min(BLUEFLAME_BYTES) {
            return;
        }
        let request = self.blueflame.remove(&begin).unwrap_or_default();
        let qpn = Head::parse(&request).qpn();
        if card.trace.on() {
            let counter = Head::parse(&request).counter();
            card.trace
                .line(format_args!("UAR {page} BlueFlame QP {qpn:#x} [{counter}], {} bytes", request.len()));
        }
        if length > BLUEFLAME_BYTES {
            return violate(
                card,
                Queue::Uar(page),
                None,
                "BlueFlame with a request that is too long",
                &request,
            );
        }
        ring(card, qps, page, qpn, Some(&request));
    }
}

fn send_doorbell(card: &mut Card, qps: &mut Qps, page: u32, bytes: &[u8]) {
    let word = be::get32(bytes, 0);
    if word & 0xff != 0 {
        violate(
            card,
            Queue::Uar(page),
            None,
            format!("a send doorbell with reserved bits: {word:#x}"),
            bytes,
        );
    }
    if card.trace.on() {
        card.trace.line(format_args!("UAR {page} doorbell QP {:#x}", word >> 8));
    }
    ring(card, qps, page, word >> 8, None);
}

/// Rings the doorbell of queue pair `qpn`, if `page` is its page.
fn ring(card: &mut Card, qps: &mut Qps, page: u32, qpn: u32, blueflame: Option<&[u8]>) {
    let bytes = blueflame.unwrap_or_default();
    let Some(qp) = qps.queues.get_mut(qpn) else {
        let what = format!("a doorbell for QP {qpn:#x}, which is not there or reset");
        return violate(card, Queue::Uar(page), None, what, bytes);
    };
    let owner = qp.context.uar();
    let state = qps.pairs.state(qpn);
    let Some(sq) = qp.sq.as_mut() else {
        return violate(
            card,
            Queue::Sq(qpn),
            None,
            "a doorbell for a queue pair without a send queue",
            bytes,
        );
    };
    if page != owner {
        let what = format!("a doorbell on UAR page {page}, and the queue pair's is {owner}");
        return violate(card, Queue::Sq(qpn), None, what, bytes);
    }
    if matches!(state, State::Init | State::Rtr) {
        return violate(card, Queue::Sq(qpn), None, format!("a doorbell in state {state:?}"), bytes);
    }
    if let Some(request) = blueflame {
        sq.check_blueflame(card, request);
    }
    sq.ring();
    qps.pairs.wake(qpn);
}
