//! Send queues: the card owns a request as soon as its owner bit says so, and looks when a doorbell rings.

use super::{
    Queue, violate,
    wqe::{self, Head},
};
use crate::{
    be,
    mlx4::{card::Card, mtt::Mtt},
};

/// The card may read this many bytes and one entry ahead of the request that it executes: the driver leaves them
/// unused and stamped (providers/mlx4/qp.c, `sq_spare_wqes` and `stamp_send_wqe`).
const HEADROOM: usize = 2048;

/// A send queue.
#[derive(Clone, Debug)]
pub(crate) struct SendQueue {
    pub(crate) qpn: u32,
    pub(crate) log_size: u8,
    pub(crate) log_stride: u8,
    /// The buffer of the queue pair.
    pub(crate) buffer: Mtt,
    /// The offset of the queue in the buffer.
    pub(crate) offset: u64,
    /// Requests fetched since the queue pair was reset.
    pub(crate) fetched: u16,
    /// Whether a doorbell has rung since the card last found the queue empty.
    pub(crate) rung: bool,
    /// Whether a request may fill several entries.
    spans: bool,
    /// Requests fetched minus doorbells: a doorbell may announce several requests, but never none.
    surplus: i64,
    /// Whether the card may read ahead of the posted requests.
    prefetches: bool,
}

/// What the queue held.
pub(crate) enum Fetched {
    /// No request.
    Nothing,
    /// A request: its counter and its bytes.
    Request(u16, Vec<u8>),
    /// A request that cannot be executed, with its counter.
    Malformed(u16),
}

impl SendQueue {
    /// An empty queue.
    pub(crate) fn new(
        qpn: u32,
        (log_size, log_stride): (u8, u8),
        buffer: Mtt,
        offset: u64,
        prefetches: bool,
    ) -> Self {
        let (fetched, rung, spans, surplus) = (0, false, false, 0);
        Self { qpn, log_size, log_stride, buffer, offset, fetched, rung, spans, surplus, prefetches }
    }

    /// A queue whose requests may fill several entries.
    pub(crate) fn spanning(self) -> Self {
        Self { spans: true, ..self }
    }

    fn size(&self) -> u32 {
        1 << self.log_size
    }

    fn stride(&self) -> usize {
        1 << self.log_stride
    }

    fn place(&self, counter: u16) -> u64 {
        let slot = u64::from(counter) & u64::from(self.size() - 1);
        self.offset + (slot << self.log_stride)
    }

    fn queue(&self) -> Queue {
        Queue::Sq(self.qpn)
    }

    /// Records a doorbell.
    pub(crate) fn ring(&mut self) {
        self.rung = true;
        self.surplus = self.surplus.saturating_sub(1);
    }

    /// Fetches the next request, if its owner bit is valid.
    pub(crate) fn fetch(&mut self, card: &mut Card) -> Fetched {
        let counter = self.fetched;
        let Some(head) = self.head(card, counter) else {
            self.rung = false;
            violate(card, self.queue(), Some(counter.into()), "the queue's memory cannot be read", &[]);
            return Fetched::Nothing;
        };
        if !self.is_valid(head, counter) {
            self.settle(card, counter);
            return Fetched::Nothing;
        }
        let entries = if self.spans { head.bytes().div_ceil(self.stride()).max(1) } else { 1 };
        self.fetched = counter.wrapping_add(u16::try_from(entries).unwrap_or(1));
        self.surplus = self.surplus.saturating_add(1);
        let mut bytes = vec![0; head.bytes().min(self.longest())];
        let read = self.read(card, counter, &mut bytes);
        if !read || head.bytes() > self.longest() || head.bytes() < wqe::CONTROL {
            let what = format!("a request of {} bytes in entries of {}", head.bytes(), self.stride());
            violate(card, self.queue(), Some(counter.into()), what, &bytes);
            return Fetched::Malformed(counter);
        }
        // The stamp means that no request was written here; no request contains it.
        if let Some((at, _)) = stamps(&bytes).find(|(_, stamped)| *stamped) {
            let what = format!("stale headroom that looks like a request, with the stamp at byte {at}");
            violate(card, self.queue(), Some(counter.into()), what, &bytes);
            return Fetched::Malformed(counter);
        }
        Fetched::Request(counter, bytes)
    }

    /// The length of the longest request in bytes.
    fn longest(&self) -> usize {
        if self.spans { self.stride() << self.log_size } else { self.stride() }
    }

    /// Reads from an entry on, wrapping at the end of the queue. Returns whether the memory can be read.
    fn read(&self, card: &Card, counter: u16, bytes: &mut [u8]) -> bool {
        let mut entries = bytes.chunks_mut(self.stride()).zip(0..);
        entries.all(|(entry, at)| self.buffer.read(card, self.place(counter.wrapping_add(at)), entry).is_ok())
    }

    /// The first two words, with the owner bit. What the driver wrote before them is visible afterwards.
    fn head(&self, card: &Card, counter: u16) -> Option<Head> {
        let dma = self.buffer.dma(card, self.place(counter)).ok()?;
        Some(Head::new([card.memory.load32(dma).ok()?, card.memory.load32(dma + 4).ok()?]))
    }

    /// There is nothing more to fetch: checks that doorbells and headroom agree.
    fn settle(&mut self, card: &mut Card, counter: u16) {
        self.rung = false;
        if self.surplus < 0 {
            let what = "a doorbell, and the owner bit says that there is no request";
            let mut bytes = [0; wqe::CONTROL];
            let _unreadable = self.buffer.read(card, self.place(counter), &mut bytes);
            violate(card, self.queue(), Some(counter.into()), what, &bytes);
            self.surplus = 0;
        }
        self.check_headroom(card, counter);
    }

    /// Checks that no entry which the card may have read ahead looks valid: its owner bit is that of the last round,
    /// and each of its chunks but the first has the stamp.
    ///
    /// The driver stamps the last entry of the headroom after its doorbell. It may be writing the next request at this
    /// moment, but not yet the one after it.
    fn check_headroom(&self, card: &mut Card, counter: u16) {
        let entries = (HEADROOM >> self.log_stride).saturating_sub(1).min(self.size() as usize - 1);
        if !self.prefetches || entries == 0 {
            return;
        }
        let mut headroom = [0; HEADROOM];
        let headroom = &mut headroom[..entries << self.log_stride];
        let first = counter.wrapping_add(1);
        // From the first entry after the next request to the end of the queue, and from its beginning.
        let slot = u32::from(first) & (self.size() - 1);
        let to_end = ((self.size() - slot) as usize) << self.log_stride;
        let (before, after) = headroom.split_at_mut(to_end.min(headroom.len()));
        let read = self.buffer.read(card, self.place(first), before);
        if read.and_then(|()| self.buffer.read(card, self.offset, after)).is_err() {
            // It is reported when the queue gets there.
            return;
        }
        for (entry, index) in headroom.chunks_exact(self.stride()).zip(0..) {
            let index = first.wrapping_add(index);
            let Some((at, what)) = self.stale(index, entry) else { continue };
            // If the next request has been posted meanwhile, the ones after it may have been posted too.
            if self.head(card, counter).is_none_or(|head| self.is_valid(head, counter)) {
                return;
            }
            let what = format!("stale headroom behind the last request, {}: {what}", counter.wrapping_sub(1));
            return violate(card, self.queue(), Some(index.into()), what, &entry[at..at + wqe::CONTROL]);
        }
    }

    /// How an entry that has not been posted looks as if it had been, and at which byte.
    fn stale(&self, index: u16, entry: &[u8]) -> Option<(usize, &'static str)> {
        let head = Head::parse(entry);
        if self.is_valid(head, index) {
            return Some((0, "the owner bit says that there is a request"));
        }
        stamps(&entry[..head.bytes().min(entry.len())])
            .find(|(_, stamped)| !stamped)
            .map(|(at, _)| (at, "no stamp where one belongs"))
    }

    /// Whether the owner bit marks the entry as request `counter`.
    fn is_valid(&self, head: Head, counter: u16) -> bool {
        head.owner() == (u32::from(counter) & self.size() != 0)
    }

    /// Checks that the card owns no entry of a new queue.
    pub(crate) fn check_fresh(&self, card: &mut Card) {
        for slot in 0..u16::try_from(self.size()).unwrap_or(u16::MAX) {
            let Some(head) = self.head(card, slot) else { return };
            if !head.owner() {
                let what = "the owner bit of an unused entry is the card's";
                let mut bytes = [0; wqe::CONTROL];
                let _unreadable = self.buffer.read(card, self.place(slot), &mut bytes);
                return violate(card, self.queue(), Some(slot.into()), what, &bytes);
            }
        }
    }

    /// Compares a request that was written to BlueFlame with the one in the queue.
    pub(crate) fn check_blueflame(&self, card: &mut Card, bytes: &[u8]) {
        let head = Head::parse(bytes);
        let counter = head.counter();
        let length = head.bytes().min(bytes.len());
        if head.qpn() != self.qpn {
            let what = format!("BlueFlame for QP {:#x}", head.qpn());
            return violate(card, self.queue(), Some(counter.into()), what, &bytes[..length]);
        }
        let ahead = counter.wrapping_sub(self.fetched);
        if u32::from(ahead) >= self.size() {
            // An earlier doorbell has already announced it, and the card has executed it.
            return;
        }
        if !self.is_valid(head, counter) {
            let what = "BlueFlame with the wrong owner bit";
            return violate(card, self.queue(), Some(counter.into()), what, &bytes[..length]);
        }
        let mut there = vec![0; length.min(self.longest())];
        let read = self.read(card, counter, &mut there);
        if read && there != bytes[..length] {
            let first = there.iter().zip(bytes).position(|(one, other)| one != other).unwrap_or(there.len());
            let what = format!("BlueFlame differs from the queue at byte {first}");
            violate(card, self.queue(), Some(counter.into()), what, &bytes[..length]);
        }
    }
}

/// The offsets, other than 0, at which the card may begin to read an entry, and whether each is stamped.
fn stamps(entry: &[u8]) -> impl Iterator<Item = (usize, bool)> {
    (wqe::CHUNK..entry.len()).step_by(wqe::CHUNK).map(|at| (at, be::get32(entry, at) == wqe::STAMP))
}
