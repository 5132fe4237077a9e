//! Completion queues: contexts and commands, arming, and writing entries.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Queue,
    cqe::{self, Cqe},
    violate,
};
use crate::{
    be,
    mlx4::{card::Card, clock, diagnostics::CQ_OVERFLOW, event::Event, mtt::Mtt, status::Status},
};

/// Bytes of a context (`struct mlx4_cq_context`, drivers/net/ethernet/mellanox/mlx4/mlx4.h).
pub(super) const CONTEXT: usize = 64;

const FLAG_IGNORE_OVERRUN: u32 = 1 << 17;
const FLAG_COLLAPSED: u32 = 1 << 18;
const FLAG_TIMESTAMPS: u32 = 1 << 19;
const STATUS_OVERFLOW: u32 = 9 << 28;
const STATUS_WRITE_FAILED: u32 = 10 << 28;
const STATE_ARMED_NEXT: u32 = 9 << 8;
const STATE_ARMED_SOLICITED: u32 = 6 << 8;
const STATE_FIRED: u32 = 10 << 8;

const MAX_LOG_SIZE: u8 = 22;
/// Indices in doorbells and doorbell records have 24 bits.
const INDEX: u32 = 0xff_ffff;
/// The fill byte of a new queue's buffer, as in drivers that fill it themselves; the owner bits are set.
const FRESH: u8 = 0xcc;

const ARM_SOLICITED: u32 = 1 << 24;
const ARM_NEXT: u32 = 2 << 24;

/// The completion queues of a card.
#[derive(Default)]
pub(crate) struct Cqs {
    queues: BTreeMap<u32, Cq>,
}

/// What the queue is armed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    No,
    /// A solicited completion or one in error.
    Solicited,
    /// Any completion.
    Next,
}

/// A completion queue.
pub(crate) struct Cq {
    cqn: u32,
    context: [u8; CONTEXT],
    flags: u32,
    uar: u32,
    eqn: u32,
    buffer: Buffer,
    doorbell_record: u64,
    /// Entries written since the queue was created.
    producer: u32,
    /// The producer index after the last solicited entry.
    solicited: u32,
    /// The consumer index, as of the last look at the doorbell record.
    consumer: u32,
    armed: Armed,
    /// The sequence number that the next doorbell must have: one more than the number of notifications.
    arm_sn: u32,
    moderation: Moderation,
    failed: Option<Failure>,
    bad_record: Option<u32>,
}

/// The memory of a queue.
#[derive(Clone, Copy)]
struct Buffer {
    log_size: u8,
    mtt: Mtt,
}

/// Moderation: how many completions, or how much time, one notification may cover.
#[derive(Default)]
struct Moderation {
    count: u16,
    period: Duration,
    /// Completions without a notification, and the time of the first of them.
    pending: u16,
    since: Option<Duration>,
}

/// Why a queue takes no more entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is full.
    Overrun = 1,
    /// Its buffer cannot be written.
    Access = 2,
}

impl Buffer {
    fn size(&self) -> u32 {
        1 << self.log_size
    }

    fn parse(context: &[u8; CONTEXT]) -> Result<Self, Status> {
        let log_size = context[0x0c] & 0x1f;
        let first = u64::from(context[0x1b]) << 32 | u64::from(be::get32(context, 0x1c));
        if log_size > MAX_LOG_SIZE || be::get16(context, 0x0a) != 0 || context[0x18] & 0x3f > 51 {
            return Err(Status::BadParam);
        }
        Ok(Self { log_size, mtt: Mtt { first, page_shift: 12 + (context[0x18] & 0x3f) } })
    }

    /// The offset of entry `index` in the buffer.
    fn offset(&self, card: &Card, index: u32) -> u64 {
        u64::from(index & (self.size() - 1)) * entry_bytes(card)
    }

    /// Fills the buffer so that none of its entries, from index `next` on, looks valid to the driver.
    fn prepare(&self, card: &Card, next: u32) -> Result<(), Status> {
        let mut index = next;
        for _ in 0..self.size() {
            let fill = FRESH & !cqe::OWNER_BIT | owner(index ^ self.size(), self.size());
            let entry = [fill; 2 * cqe::BYTES];
            let bytes = if card.tables.cqe64 { &entry[..] } else { &entry[..cqe::BYTES] };
            self.mtt.write(card, self.offset(card, index), bytes).map_err(|_| Status::BadParam)?;
            index = index.wrapping_add(1);
        }
        Ok(())
    }
}

fn entry_bytes(card: &Card) -> u64 {
    if card.tables.cqe64 { 64 } else { 32 }
}

/// The owner bit of entry `index`: it changes each time the queue wraps.
fn owner(index: u32, size: u32) -> u8 {
    if index & size == 0 { 0 } else { cqe::OWNER_BIT }
}

/// How far index `to` is ahead of `from`, in 24 bits that wrap.
fn ahead(to: u32, from: u32) -> i32 {
    (to.wrapping_sub(from) << 8).cast_signed() >> 8
}

impl Cqs {
    /// SW2HW_CQ: passes queue `cqn` to the card.
    pub(crate) fn create(
        &mut self,
        card: &mut Card,
        cqn: u32,
        context: &[u8; CONTEXT],
    ) -> Result<(), Status> {
        if cqn.checked_shr(card.tables.log_cqs.into()) != Some(0) {
            return Err(Status::BadIndex);
        }
        if self.queues.contains_key(&cqn) {
            return Err(Status::BadResState);
        }
        let flags = be::get32(context, 0);
        if flags & FLAG_TIMESTAMPS != 0 && !card.clock {
            card.trace.line(format_args!("CQ {cqn:#x}: refused, completions have no time stamps"));
            return Err(Status::BadParam);
        }
        let buffer = Buffer::parse(context)?;
        let doorbell_record = be::get64(context, 0x38);
        if !doorbell_record.is_multiple_of(8) || !card.memory.contains(doorbell_record, 8) {
            return Err(Status::BadParam);
        }
        buffer.prepare(card, 0)?;
        let queue = Cq {
            cqn,
            context: *context,
            flags,
            uar: be::get24(context, 0x0c),
            eqn: context[0x17].into(),
            buffer,
            doorbell_record,
            producer: 0,
            solicited: 0,
            consumer: 0,
            armed: Armed::No,
            arm_sn: 1,
            moderation: Moderation::parse(context),
            failed: None,
            bad_record: None,
        };
        self.queues.insert(cqn, queue);
        Ok(())
    }

    /// HW2SW_CQ: passes queue `cqn` back to the driver.
    pub(crate) fn destroy(&mut self, cqn: u32) -> Result<(), Status> {
        self.queues.remove(&cqn).map(|_| ()).ok_or(Status::BadResState)
    }

    /// QUERY_CQ.
    pub(crate) fn query(&self, cqn: u32) -> Result<[u8; CONTEXT], Status> {
        self.queues.get(&cqn).map(Cq::query).ok_or(Status::BadResState)
    }

    /// MODIFY_CQ: operation modifier 0 changes the buffer, 1 the moderation.
    pub(crate) fn modify(
        &mut self,
        card: &mut Card,
        now: Duration,
        cqn: u32,
        op_modifier: u8,
        context: &[u8; CONTEXT],
    ) -> Result<(), Status> {
        let queue = self.queues.get_mut(&cqn).ok_or(Status::BadResState)?;
        match op_modifier {
            0 => queue.resize(card, now, Buffer::parse(context)?),
            1 => {
                queue.moderation = Moderation::parse(context);
                queue.context[0x10..0x14].copy_from_slice(&context[0x10..0x14]);
                Ok(())
            }
            _ => Err(Status::BadOp),
        }
    }

    /// Writes an entry to queue `cqn`.
    ///
    /// # Errors
    ///
    /// The queue does not exist or takes no more entries: the queue pair must fail.
    pub(crate) fn post(
        &mut self,
        card: &mut Card,
        now: Duration,
        cqn: u32,
        entry: &Cqe,
        solicited: bool,
    ) -> Result<(), Failure> {
        let queue = self.queues.get_mut(&cqn).ok_or(Failure::Access)?;
        queue.post(card, now, entry, solicited)
    }

    /// Handles the doorbell that arms a queue: two words, written to UAR page `uar`.
    pub(crate) fn doorbell(&mut self, card: &mut Card, uar: u32, words: [u32; 2]) {
        let bytes = (u64::from(words[0]) << 32 | u64::from(words[1])).to_be_bytes();
        let cqn = words[0] & INDEX;
        match self.queues.get_mut(&cqn) {
            Some(queue) => queue.arm(card, uar, words, &bytes),
            None => violate(card, Queue::Cq(cqn), None, "a doorbell for a queue that is not there", &bytes),
        }
    }

    /// Makes a queue fail as if it had overrun, and returns whether it exists.
    pub(crate) fn overrun(&mut self, card: &mut Card, cqn: u32) -> bool {
        let Some(queue) = self.queues.get_mut(&cqn) else { return false };
        queue.fail(card, Failure::Overrun);
        true
    }

    /// Sends notifications whose moderation period has expired, and returns when the next one expires.
    pub(crate) fn tick(&mut self, card: &mut Card, now: Duration) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for queue in self.queues.values_mut() {
            let Some(due) = queue.moderation.due() else { continue };
            if due <= now {
                queue.notify(card);
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        next
    }
}

impl Moderation {
    fn parse(context: &[u8; CONTEXT]) -> Self {
        let period = Duration::from_micros(be::get16(context, 0x10).into());
        Self { count: be::get16(context, 0x12), period, pending: 0, since: None }
    }

    fn due(&self) -> Option<Duration> {
        self.since.map(|since| since + self.period)
    }

    /// Counts a completion, and returns whether to notify at once.
    fn completion(&mut self, now: Duration) -> bool {
        self.pending = self.pending.saturating_add(1);
        self.since.get_or_insert(now);
        self.pending >= self.count.max(1) || self.period.is_zero() && self.count == 0
    }
}

impl Cq {
    fn query(&self) -> [u8; CONTEXT] {
        let mut context = self.context;
        let state = match self.armed {
            Armed::Next => STATE_ARMED_NEXT,
            Armed::Solicited => STATE_ARMED_SOLICITED,
            Armed::No => STATE_FIRED,
        };
        let status = match self.failed {
            None => 0,
            Some(Failure::Overrun) => STATUS_OVERFLOW,
            Some(Failure::Access) => STATUS_WRITE_FAILED,
        };
        be::put32(&mut context, 0x00, self.flags & 0x0fff_f0ff | status | state);
        context[0x0c] = self.buffer.log_size;
        be::put32(&mut context, 0x24, self.solicited & INDEX);
        be::put32(&mut context, 0x28, self.consumer & INDEX);
        be::put32(&mut context, 0x2c, self.producer & INDEX);
        context
    }

    /// Moves the queue to another buffer. The last entry in the old one says so.
    fn resize(&mut self, card: &mut Card, now: Duration, buffer: Buffer) -> Result<(), Status> {
        if self.failed.is_some() {
            return Err(Status::BadResState);
        }
        self.look_at_consumer(card);
        // The entries that the driver has not polled must fit, with the entry about the move.
        if ahead(self.producer, self.consumer) + 1 > buffer.size().cast_signed() {
            return Err(Status::BadSize);
        }
        buffer.prepare(card, self.producer.wrapping_add(1))?;
        self.post(card, now, &Cqe::Resized, false).map_err(|_| Status::BadSize)?;
        self.buffer = buffer;
        Ok(())
    }

    fn post(&mut self, card: &mut Card, now: Duration, entry: &Cqe, solicited: bool) -> Result<(), Failure> {
        if let Some(failure) = self.failed {
            return Err(failure);
        }
        self.look_at_consumer(card);
        let full = ahead(self.producer, self.consumer) >= self.buffer.size().cast_signed();
        if full && self.flags & FLAG_IGNORE_OVERRUN == 0 {
            return Err(self.fail(card, Failure::Overrun));
        }
        if card.trace.on() {
            card.trace.line(format_args!("CQ {:#x} [{}] {entry}", self.cqn, self.producer));
        }
        let index = if self.flags & FLAG_COLLAPSED == 0 { self.producer } else { 0 };
        if !self.write(card, now, index, entry) {
            return Err(self.fail(card, Failure::Access));
        }
        self.producer = self.producer.wrapping_add(1);
        if let Cqe::Failed(failed) = entry {
            card.diagnostics.completed(cqe::syndrome(failed.error), failed.send);
        }
        let solicited = solicited || matches!(entry, Cqe::Failed(_));
        if solicited || ahead(self.producer, self.solicited) > self.buffer.size().cast_signed() {
            // The index must not fall behind by half of its range; such an old entry is no longer of interest.
            self.solicited = if solicited { self.producer } else { self.consumer };
        }
        let wanted = self.armed == Armed::Next || self.armed == Armed::Solicited && solicited;
        if wanted && self.moderation.completion(now) {
            self.notify(card);
        }
        Ok(())
    }

    /// Writes the body and then the byte with the owner bit: a driver that sees the bit sees the body.
    fn write(&self, card: &Card, now: Duration, index: u32, entry: &Cqe) -> bool {
        let mut bytes = entry.bytes();
        if self.flags & FLAG_TIMESTAMPS != 0 {
            cqe::stamp(&mut bytes, clock::ticks(now));
        }
        let end = self.buffer.offset(card, index) + entry_bytes(card);
        let (body, last) = bytes.split_at(cqe::OWNER);
        let last = last[0] | owner(self.producer, self.buffer.size());
        let Ok(dma) = self.buffer.mtt.dma(card, end - cqe::BYTES as u64) else { return false };
        card.memory.write(dma, body).is_ok() && card.memory.store8(dma + cqe::OWNER as u64, last).is_ok()
    }

    /// Reads how far the driver has polled.
    fn look_at_consumer(&mut self, card: &mut Card) {
        let Ok(record) = card.memory.load32(self.doorbell_record) else { return };
        let index = record & INDEX;
        let valid = record == index && ahead(index, self.consumer) >= 0 && ahead(index, self.producer) <= 0;
        if valid {
            self.consumer = index;
        } else if self.bad_record != Some(record) {
            self.bad_record = Some(record);
            let what = if record != index {
                format!("doorbell record with more than 24 bits: {record:#x}")
            } else if ahead(index, self.consumer) < 0 {
                format!("doorbell record goes back from {} to {index}", self.consumer & INDEX)
            } else {
                format!(
                    "doorbell record runs past the producer: {index}, and {} written",
                    self.producer & INDEX
                )
            };
            let at = u64::from(self.consumer);
            violate(card, Queue::Cq(self.cqn), Some(at), what, &record.to_be_bytes());
        }
    }

    fn arm(&mut self, card: &mut Card, uar: u32, words: [u32; 2], bytes: &[u8]) {
        let queue = Queue::Cq(self.cqn);
        let (sn, command, index) = (words[0] >> 28 & 3, words[0] & 0xf00_0000, words[1] & INDEX);
        if uar != self.uar {
            let what = format!("a doorbell on UAR page {uar}, and the queue's is {}", self.uar);
            return violate(card, queue, None, what, bytes);
        }
        let armed = match command {
            ARM_SOLICITED => Armed::Solicited,
            ARM_NEXT => Armed::Next,
            _ => return violate(card, queue, None, "a doorbell with an unknown command", bytes),
        };
        if words[0] >> 30 != 0 || words[1] != index {
            violate(card, queue, None, "a doorbell with reserved bits", bytes);
        }
        if ahead(index, self.producer) > 0 {
            return violate(card, queue, None, "a doorbell with a consumer index past the producer", bytes);
        }
        self.check_arm_record(card, index);
        if card.trace.on() {
            card.trace.line(format_args!("{queue} armed {armed:?} at {index}, sequence {sn}"));
        }
        let behind = self.arm_sn.wrapping_sub(sn) & 3;
        match behind {
            0 => {}
            // The notification with that number was sent, but the driver had not seen it when it rang.
            1 => return,
            _ => {
                let what = format!("a doorbell with sequence number {sn} where {} is next", self.arm_sn & 3);
                return violate(card, queue, None, what, bytes);
            }
        }
        self.armed = armed;
        let newest = if armed == Armed::Next { self.producer } else { self.solicited };
        if ahead(newest, index) > 0 {
            self.notify(card);
        }
    }

    /// Checks the second word of the doorbell record, which repeats the doorbell and is written before it.
    fn check_arm_record(&mut self, card: &mut Card, index: u32) {
        let Ok(record) = card.memory.load32(self.doorbell_record + 4) else { return };
        if ahead(index, record & INDEX) > 0 || !matches!(record & 0xf00_0000, ARM_SOLICITED | ARM_NEXT) {
            let what = format!("a doorbell at {index} whose record was not written before");
            violate(card, Queue::Cq(self.cqn), Some(index.into()), what, &record.to_be_bytes());
        }
    }

    fn notify(&mut self, card: &mut Card) {
        self.armed = Armed::No;
        self.arm_sn = self.arm_sn.wrapping_add(1);
        self.moderation.pending = 0;
        self.moderation.since = None;
        card.events.push(Event::Completion { eqn: self.eqn, cqn: self.cqn });
    }

    fn fail(&mut self, card: &mut Card, failure: Failure) -> Failure {
        if self.failed.is_none() {
            self.failed = Some(failure);
            if failure == Failure::Overrun {
                card.diagnostics.count(CQ_OVERFLOW);
            }
            card.events.push(Event::CqError { cqn: self.cqn, syndrome: failure as u8 });
        }
        failure
    }
}
