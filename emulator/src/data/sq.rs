//! Send queues: requests are the card's as soon as their owner bit says so, and a doorbell makes it look.

use super::{
    Queue, violate,
    wqe::{self, Head},
};
use crate::{card::Card, mtt::Mtt};

/// The card may have read so many bytes ahead of the request it works on; the driver leaves them unused, and stamped.
const HEADROOM: usize = 2048;

/// A send queue.
#[derive(Clone, Debug)]
pub(crate) struct SendQueue {
    pub(crate) qpn: u32,
    pub(crate) log_size: u8,
    pub(crate) log_stride: u8,
    /// The queue pair's buffer.
    pub(crate) buffer: Mtt,
    /// Where in it the queue begins.
    pub(crate) offset: u64,
    /// Requests fetched since the queue pair was reset.
    pub(crate) fetched: u16,
    /// Whether the queue may hold requests that the card has not seen.
    pub(crate) rung: bool,
    /// Requests fetched, less doorbells: one doorbell may stand for several requests, never for none.
    surplus: i64,
}

/// What there was in the queue.
pub(crate) enum Fetched {
    /// No request.
    Nothing,
    /// The bytes of one, and its counter.
    Request(u16, Vec<u8>),
    /// One that cannot be executed, with its counter.
    Malformed(u16),
}

impl SendQueue {
    /// An empty queue.
    pub(crate) fn new(qpn: u32, (log_size, log_stride): (u8, u8), buffer: Mtt, offset: u64) -> Self {
        Self { qpn, log_size, log_stride, buffer, offset, fetched: 0, rung: false, surplus: 0 }
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

    /// A doorbell.
    pub(crate) fn ring(&mut self) {
        self.rung = true;
        self.surplus = self.surplus.saturating_sub(1);
    }

    /// Fetches the next request, if its owner bit says that it is one.
    pub(crate) fn fetch(&mut self, card: &mut Card) -> Fetched {
        let counter = self.fetched;
        let Some(head) = self.head(card, counter) else {
            self.rung = false;
            violate(card, self.queue(), Some(counter.into()), "the queue's memory cannot be read", &[]);
            return Fetched::Nothing;
        };
        if head.owner() != (u32::from(counter) & self.size() != 0) {
            self.settle(card, counter);
            return Fetched::Nothing;
        }
        self.fetched = counter.wrapping_add(1);
        self.surplus = self.surplus.saturating_add(1);
        let mut bytes = vec![0; head.bytes().min(self.stride())];
        let read = self.buffer.read(card, self.place(counter), &mut bytes).is_ok();
        if !read || head.bytes() > self.stride() || head.bytes() < wqe::CONTROL {
            let what = format!("a request of {} bytes in entries of {}", head.bytes(), self.stride());
            violate(card, self.queue(), Some(counter.into()), what, &bytes);
            return Fetched::Malformed(counter);
        }
        Fetched::Request(counter, bytes)
    }

    /// The owner word, and what is written with it. What the driver wrote before it is seen after it.
    fn head(&self, card: &Card, counter: u16) -> Option<Head> {
        let dma = self.buffer.dma(card, self.place(counter)).ok()?;
        Some(Head::new([card.memory.load32(dma).ok()?, card.memory.load32(dma + 4).ok()?]))
    }

    /// Nothing more to fetch: doorbells and headroom must agree with that.
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

    /// The request after the next one must be stamped, so that a card which reads ahead does not take it for new.
    ///
    /// The driver may be filling the next request at this moment, but not yet the one after it.
    fn check_headroom(&self, card: &mut Card, counter: u16) {
        let spare = HEADROOM >> self.log_stride;
        if spare < 3 || self.stride() <= wqe::CHUNK || self.size() < 4 {
            return;
        }
        let after = counter.wrapping_add(1);
        let Some(head) = self.head(card, after) else { return };
        let unstamped = (wqe::CHUNK..head.bytes().min(self.stride())).step_by(wqe::CHUNK).find(|at| {
            let dma = self.buffer.dma(card, self.place(after) + *at as u64);
            dma.is_ok_and(|dma| card.memory.load32(dma).is_ok_and(|word| word != wqe::STAMP))
        });
        let Some(at) = unstamped else { return };
        let still_there = self.head(card, counter);
        if still_there.is_some_and(|head| head.owner() == (u32::from(counter) & self.size() != 0)) {
            return;
        }
        let mut bytes = [0; 16];
        let _unreadable = self.buffer.read(card, self.place(after) + at as u64, &mut bytes);
        let what = format!("headroom without the stamp at byte {at}");
        violate(card, self.queue(), Some(after.into()), what, &bytes);
    }

    /// Before the queue is used no request may be the card's already.
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

    /// Compares a request that came by BlueFlame with the one in the queue.
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
            // The card has executed it already, on an earlier doorbell.
            return;
        }
        if head.owner() != (u32::from(counter) & self.size() != 0) {
            let what = "BlueFlame with the wrong owner bit";
            return violate(card, self.queue(), Some(counter.into()), what, &bytes[..length]);
        }
        let mut there = vec![0; length.min(self.stride())];
        let read = self.buffer.read(card, self.place(counter), &mut there);
        if read.is_ok() && there != bytes[..length] {
            let first = there.iter().zip(bytes).position(|(one, other)| one != other).unwrap_or(there.len());
            let what = format!("BlueFlame differs from the queue at byte {first}");
            violate(card, self.queue(), Some(counter.into()), what, &bytes[..length]);
        }
    }
}
