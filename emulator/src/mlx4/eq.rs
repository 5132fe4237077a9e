//! Event queues.
//!
//! A queue is a ring of entries in guest memory. The card writes an entry, its owner bit last, and interrupts if
//! the queue is armed. The driver reports how far it has read, and arms, by a doorbell in a UAR page, which has four
//! queues' doorbells (drivers/net/ethernet/mellanox/mlx4/eq.c, `mlx4_get_eq_uar`).

use std::collections::BTreeMap;

use crate::{
    be::{get16, get32, get64, put16, put32, put64},
    bus::msix::Msix,
    mlx4::{card::Card, event::Event, mtt::Mtt, status::Status},
    transport::QpEvent,
};

/// Size of an event queue's context in bytes (mlx4.h, `struct mlx4_eq_context`).
pub const CONTEXT: usize = 64;
/// Size in bytes of the used part of an entry (device.h, `struct mlx4_eqe`).
const ENTRY: usize = 32;
/// Indices wrap at 24 bits.
const INDEX_MASK: u32 = 0xff_ffff;
/// The owner bit, in an entry's last byte.
const OWNER: u8 = 0x80;

/// Fields of the context.
mod field {
    pub(super) const FLAGS: usize = 0x00;
    pub(super) const PAGE_OFFSET: usize = 0x0a;
    pub(super) const LOG_SIZE: usize = 0x0c;
    pub(super) const VECTOR: usize = 0x17;
    pub(super) const LOG_PAGE: usize = 0x18;
    pub(super) const MTT: usize = 0x18;
    pub(super) const CONSUMER: usize = 0x28;
    pub(super) const PRODUCER: usize = 0x2c;
}

/// States of a queue, in the context's flags (eq.c, `MLX4_EQ_STATE_*`).
const ARMED: u32 = 9 << 8;
const FIRED: u32 = 10 << 8;
const ALWAYS_ARMED: u32 = 11 << 8;
const STATE: u32 = 0xf << 8;
/// The card could not write an entry (`MLX4_EQ_STATUS_WRITE_FAIL`).
const WRITE_FAIL: u32 = 10 << 28;

struct EventQueue {
    context: [u8; CONTEXT],
    mtt: Mtt,
    entries: u32,
    /// Distance between entries in bytes.
    stride: u32,
    vector: u8,
    producer: u32,
    consumer: u32,
    state: u32,
    failed: bool,
}

/// The event queues of a card, and the queue that each type of event goes to.
#[derive(Default)]
pub struct EventQueues {
    queues: BTreeMap<u32, EventQueue>,
    routes: BTreeMap<u8, u32>,
}

impl EventQueues {
    /// SW2HW_EQ: passes queue `eqn` to the card, which then owns all of its entries.
    ///
    /// # Errors
    ///
    /// The card owns the queue already, or the context is not valid.
    pub fn create(&mut self, card: &mut Card, eqn: u32, context: &[u8; CONTEXT]) -> Result<(), Status> {
        if self.queues.contains_key(&eqn) {
            return Err(Status::BadResState);
        }
        let name = format!("EQ {eqn:#x}");
        let log_size = context[field::LOG_SIZE];
        if log_size > 24 || get16(context, field::PAGE_OFFSET) != 0 {
            return Err(Status::BadParam);
        }
        let state = get32(context, field::FLAGS) & STATE;
        let mtt = Mtt {
            first: get64(context, field::MTT) & 0xff_ffff_fff8,
            page_shift: (context[field::LOG_PAGE] & 0x3f) + 12,
        };
        let stride = if card.tables.eqe64 { 64 } else { 32 };
        let queue = EventQueue {
            context: *context,
            mtt,
            entries: 1 << log_size,
            stride,
            vector: context[field::VECTOR],
            producer: 0,
            consumer: 0,
            state: if state == ALWAYS_ARMED { ALWAYS_ARMED } else { state & ARMED },
            failed: false,
        };
        queue.take(card).map_err(|error| {
            card.violation(name, None, format!("its memory cannot be reached: {error:?}"), context);
            Status::BadParam
        })?;
        if card.trace.on() {
            let EventQueue { entries, vector, .. } = &queue;
            card.trace
                .line(format_args!("EQ {eqn:#x}: {entries} entries of {stride} bytes, vector {vector}"));
        }
        self.queues.insert(eqn, queue);
        Ok(())
    }

    /// HW2SW_EQ: passes queue `eqn` back to the driver.
    ///
    /// # Errors
    ///
    /// The card does not own it.
    pub fn destroy(&mut self, eqn: u32) -> Result<(), Status> {
        self.queues.remove(&eqn).map(drop).ok_or(Status::BadResState)
    }

    /// QUERY_EQ: returns the current context of queue `eqn`.
    ///
    /// # Errors
    ///
    /// The card does not own it.
    pub fn query(&self, eqn: u32) -> Result<[u8; CONTEXT], Status> {
        let queue = self.queues.get(&eqn).ok_or(Status::BadResState)?;
        let mut context = queue.context;
        let flags = get32(&context, field::FLAGS) & !STATE;
        let status = if queue.failed { WRITE_FAIL } else { 0 };
        put32(&mut context, field::FLAGS, flags | queue.state | status);
        put32(&mut context, field::CONSUMER, queue.consumer);
        put32(&mut context, field::PRODUCER, queue.producer);
        Ok(context)
    }

    /// Whether the card owns queue `eqn`.
    pub fn has(&self, eqn: u32) -> bool {
        self.queues.contains_key(&eqn)
    }

    /// MAP_EQ: routes the types of events in `mask` (a bit each) to queue `eqn`, or nowhere.
    pub fn route(&mut self, mask: u64, eqn: Option<u32>) {
        for kind in (0..64_u8).filter(|kind| mask >> kind & 1 == 1) {
            match eqn {
                Some(eqn) => self.routes.insert(kind, eqn),
                None => self.routes.remove(&kind),
            };
        }
    }

    /// Handles a doorbell: the driver has read up to an index, and may arm the queue.
    pub fn doorbell(&mut self, card: &mut Card, msix: &mut Msix, eqn: u32, word: u32) {
        let Some(queue) = self.queues.get_mut(&eqn) else {
            card.violation(
                format!("EQ {eqn:#x}"),
                None,
                "doorbell of a queue that the card does not have",
                &word.to_be_bytes(),
            );
            return;
        };
        let consumer = word & INDEX_MASK;
        let arm = word >> 31 == 1;
        let name = format!("EQ {eqn:#x}");
        if word & 0x7f00_0000 != 0 {
            card.violation(&name, None, "reserved bits in a doorbell", &word.to_be_bytes());
        }
        let read = consumer.wrapping_sub(queue.consumer) & INDEX_MASK;
        if read > queue.filled() {
            let what =
                format!("doorbell says {consumer:#x}, but the card has written up to {:#x}", queue.producer);
            card.violation(&name, Some(consumer.into()), what, &word.to_be_bytes());
            return;
        }
        queue.consumer = consumer;
        if card.trace.on() {
            let arm = if arm { ", armed" } else { "" };
            card.trace.line(format_args!("doorbell {name}: read up to {consumer:#x}{arm}"));
        }
        if arm && queue.state != ALWAYS_ARMED {
            queue.state = ARMED;
            if queue.filled() > 0 {
                queue.fire(card, msix, eqn);
            }
        }
    }

    /// Writes an event into the queue that it belongs to.
    pub fn push(&mut self, card: &mut Card, msix: &mut Msix, event: &Event) {
        let (kind, entry) = encode(event);
        let eqn = match event {
            Event::Completion { eqn, .. } => Some(*eqn),
            _ => self.routes.get(&kind).copied(),
        };
        let queue = eqn.and_then(|eqn| Some((eqn, self.queues.get_mut(&eqn)?)));
        let Some((eqn, queue)) = queue else {
            if matches!(event, Event::Command { .. } | Event::Completion { .. }) {
                card.violation("EQ", None, format!("no event queue for {event:?}"), &entry);
            } else if card.trace.on() {
                card.trace.line(format_args!("event {event:?}: no queue is mapped for it"));
            }
            return;
        };
        if card.trace.on() {
            card.trace.line(format_args!("EQ {eqn:#x} [{:#x}]: {event:?}", queue.producer));
        }
        if queue.failed {
            return;
        }
        if queue.filled() == queue.entries {
            card.violation(
                format!("EQ {eqn:#x}"),
                Some(queue.producer.into()),
                "overflow: the driver does not read it",
                &entry,
            );
            queue.failed = true;
            return;
        }
        if let Err(error) = queue.write(card, entry) {
            card.violation(
                format!("EQ {eqn:#x}"),
                Some(queue.producer.into()),
                format!("entry cannot be written: {error}"),
                &entry,
            );
            queue.failed = true;
            return;
        }
        if matches!(queue.state, ARMED | ALWAYS_ARMED) {
            queue.fire(card, msix, eqn);
        }
    }
}

impl EventQueue {
    /// Entries that the driver has not read.
    fn filled(&self) -> u32 {
        self.producer.wrapping_sub(self.consumer) & INDEX_MASK
    }

    /// Marks every entry as owned by the card.
    fn take(&self, card: &Card) -> Result<(), crate::mlx4::mtt::MttError> {
        let mut page = [0; 4096];
        for entry in page.chunks_mut(self.stride as usize) {
            entry[self.stride as usize - 1] = OWNER;
        }
        let bytes = u64::from(self.entries) * u64::from(self.stride);
        let mut at = 0;
        while at < bytes {
            let part = usize::try_from(bytes - at).unwrap_or(page.len()).min(page.len());
            self.mtt.write(card, at, &page[..part])?;
            at += part as u64;
        }
        Ok(())
    }

    /// Writes the next entry, its owner bit last.
    fn write(&mut self, card: &Card, entry: [u8; ENTRY]) -> Result<(), String> {
        let slot = u64::from(self.producer & (self.entries - 1)) * u64::from(self.stride);
        // The upper half of a 64-byte entry is used (eq.c, `get_eqe`).
        let at = slot + u64::from(self.stride) - ENTRY as u64;
        self.mtt.write(card, at, &entry[..ENTRY - 1]).map_err(|error| format!("{error:?}"))?;
        let owner = self.mtt.dma(card, at + ENTRY as u64 - 1).map_err(|error| format!("{error:?}"))?;
        let bit = if self.producer & self.entries == 0 { 0 } else { OWNER };
        card.memory.store8(owner, bit).map_err(|error| format!("{error:?}"))?;
        self.producer = (self.producer + 1) & INDEX_MASK;
        Ok(())
    }

    fn fire(&mut self, card: &mut Card, msix: &mut Msix, eqn: u32) {
        if self.state != ALWAYS_ARMED {
            self.state = FIRED;
        }
        if !msix.fire(self.vector.into()) && card.trace.on() {
            card.trace.line(format_args!("EQ {eqn:#x}: no eventfd is connected to vector {}", self.vector));
        }
    }
}

/// The entry of an event, without its owner bit (device.h, `struct mlx4_eqe`).
fn encode(event: &Event) -> (u8, [u8; ENTRY]) {
    let mut entry = [0; ENTRY];
    let kind = match *event {
        Event::Completion { cqn, .. } => {
            put32(&mut entry, 4, cqn);
            0x00
        }
        Event::CqError { cqn, syndrome } => {
            put32(&mut entry, 4, cqn);
            entry[0x0f] = syndrome;
            0x04
        }
        Event::Qp { kind, qpn } => {
            put32(&mut entry, 4, qpn);
            qp_event(kind)
        }
        Event::Srq { kind, srqn } => {
            put32(&mut entry, 4, srqn);
            kind as u8
        }
        Event::Port { active } => {
            entry[3] = if active { 4 } else { 1 };
            put32(&mut entry, 0x0c, 1 << 28);
            0x09
        }
        Event::Command { token, status, out } => {
            put16(&mut entry, 6, token);
            entry[0x0f] = status;
            put64(&mut entry, 0x10, out);
            0x0a
        }
    };
    entry[1] = kind;
    (kind, entry)
}

/// The type of a queue pair's event (device.h, `MLX4_EVENT_TYPE_*`).
fn qp_event(event: QpEvent) -> u8 {
    match event {
        QpEvent::CommunicationEstablished => 0x02,
        QpEvent::SqDrained => 0x03,
        QpEvent::WorkQueueCatastrophicError => 0x05,
        QpEvent::InvalidRequestError => 0x10,
        QpEvent::AccessError => 0x11,
        QpEvent::LastWqeReached => 0x13,
    }
}
