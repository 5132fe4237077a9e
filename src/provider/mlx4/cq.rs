//! ConnectX's completion queue: the device fills entries, each with the lap bit that says so.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use zerocopy::IntoBytes;

use super::cqe::{self, BeQpn, Cqe, Key, Owner, SIZE};
use super::queues::{Buffer, Position, Queue, Received, Shared};
use super::ring::Ring;
use super::uar::Uar;
use super::{Context, dbrec};
use crate::error::{Error, Result};
use crate::sys::barrier;
use crate::sys::region::{Region, Word};
use crate::sys::slots::Slots;
use crate::types::Wc;
use crate::uapi::mlx4::{CreateCq, CreateCqResp, ResizeCq};
use crate::uverbs::cq::CqInit;
use crate::uverbs::{Udata, Uverbs};

/// Of the arm command: at the next completion, or at the next solicited or failed one.
const NEXT: u32 = 2 << 24;
const SOLICITED: u32 = 1 << 24;

/// The device's counts of entries have 24 bits, and queues fewer entries than that.
const COUNT: u64 = 0xff_ffff;
const MAX_CQE: u32 = 0x3f_ffff;

/// A completion queue.
pub(crate) struct Cq {
    buffer: Buffer,
    /// The entry to look at next.
    next: Position,
    queues: Copied,
    shared: Arc<Shared>,
    consumer: Word,
    armed: Word,
    cqn: u32,
    uar: Arc<Uar>,
    /// Entries have the time.
    timestamps: bool,
}

/// Of a queue that is in no list.
const NOWHERE: usize = usize::MAX;

/// The poller's copy of the queues that complete here.
struct Copied {
    /// By key, and those of one key in the order they were made.
    all: Arc<[Queue]>,
    /// Which was found last, where whatever completes by its key from now on is its own; else [`NOWHERE`].
    last: usize,
    /// The same of a send queue that was found twice in a row.
    sender: BeQpn,
    sent: Arc<Ring>,
    /// Entries before this place may be of a queue that has ended.
    until: u64,
}

/// Makes a completion queue; gives its handle, its size, itself and what must outlive the kernel's object.
pub(crate) fn create(
    ctx: &Context,
    uverbs: &Uverbs,
    init: &CqInit<'_>,
) -> Result<(u32, u32, Cq, dbrec::Record)> {
    let fail = |errno| uverbs.error("create_cq", errno);
    let entries = entries(init.cqe).map_err(fail)?;
    let buffer = Buffer::fresh(entries, ctx.cqe_shift(), 0).map_err(fail)?;
    let record = ctx.records.take().map_err(fail)?;
    let input = CreateCq { buf_addr: buffer.memory.region().address(), db_addr: record.address() };
    let mut answer = CreateCqResp::default();
    let driver = Udata { input: input.as_bytes(), output: answer.as_mut_bytes() };
    let made = uverbs.create_cq(&CqInit { cqe: entries - 1, ..*init }, driver)?;
    if made.cqe != entries - 1 {
        // Nothing to add to the error.
        let _ = uverbs.destroy_cq(made.cq_handle);
        let why = format!("it made a queue of {} entries where {} were asked for", made.cqe, entries - 1);
        return Err(Error::bad_answer("create_cq", uverbs.device(), why));
    }
    let mut cq = Cq::new(buffer, &record, answer.cqn, Arc::clone(&ctx.uar)).map_err(|errno| {
        // Nothing to add to the error.
        let _ = uverbs.destroy_cq(made.cq_handle);
        fail(errno)
    })?;
    cq.timestamps = init.timestamps;
    Ok((made.cq_handle, made.cqe, cq, record))
}

/// Entries of a queue that holds `cqe` completions: the device leaves one empty, and counts in powers of two.
fn entries(cqe: u32) -> Result<u32, Errno> {
    if cqe > MAX_CQE { Err(Errno::EINVAL) } else { Ok((cqe + 1).next_power_of_two()) }
}

impl Buffer {
    /// Fresh memory whose entries are the device's, where `place` is the first that it will fill.
    fn fresh(entries: u32, shift: u32, place: u64) -> Result<Self, Errno> {
        Self::of(Region::anonymous((entries as usize) << shift)?, entries, shift, place).ok_or(Errno::EINVAL)
    }

    /// Makes the entries of `memory` the device's; `None` if they do not fit.
    pub(super) fn of(mut memory: Region, entries: u32, shift: u32, place: u64) -> Option<Self> {
        let size = 1 << shift;
        for n in place..place + u64::from(entries) {
            let slot = (n & u64::from(entries - 1)) as usize;
            let lap = n & u64::from(entries) != 0;
            memory.fill(slot * size + size - 1, &[if lap { 0 } else { 0x80 }]);
        }
        let slots = Slots::new(memory, entries.checked_mul(1 << (shift - SIZE.trailing_zeros()))?)?;
        Some(Self::new(slots, entries, shift))
    }
}

impl Cq {
    pub(super) fn new(
        buffer: Buffer,
        record: &dbrec::Record,
        cqn: u32,
        uar: Arc<Uar>,
    ) -> Result<Self, Errno> {
        let shared = Shared::new(buffer.clone());
        let (consumer, armed) = (record.word(0), record.word(1));
        let next = buffer.position(0);
        let queues = Copied::new()?;
        Ok(Self { buffer, next, queues, shared, consumer, armed, cqn, uar, timestamps: false })
    }

    /// What queues that complete here are registered with.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes completions out; gives how many.
    #[inline(never)]
    pub(crate) fn poll(&mut self, out: &mut [Wc]) -> usize {
        let before = self.next.place;
        let taken = if self.timestamps { self.take_with_time(out) } else { self.take::<false>(out) };
        if self.next.place != before {
            self.publish();
        }
        taken
    }

    /// The same, without giving the entries back.
    #[inline(always)]
    fn take<const TIME: bool>(&mut self, out: &mut [Wc]) -> usize {
        let room = out.len();
        let mut left = out;
        let entries = self.buffer.memory.view();
        let mut at = self.next;
        while let Some(wc) = left.first_mut()
            && let Some((entry, owner)) = self.buffer.filled_in(entries, at)
        {
            // The entry is ours: what the device wrote of it, and what was registered before that, is read after.
            barrier::from_device();
            if self.shared.changed.load(Ordering::Relaxed) {
                self.queues.renew(&self.shared, at.place);
            }
            if self.queues.complete(&entry, owner, at.place, wc) {
                if TIME {
                    cqe::tell_time(&entry, wc);
                }
                left = &mut left[1..];
            }
            at = self.buffer.next(at);
        }
        self.next = at;
        room - left.len()
    }

    #[inline(never)]
    fn take_with_time(&mut self, out: &mut [Wc]) -> usize {
        self.take::<true>(out)
    }

    /// Whether the device has filled none.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.filled_in(self.buffer.memory.view(), self.next).is_none()
    }

    /// Gives the device every entry read so far.
    #[inline(always)]
    fn publish(&mut self) {
        self.shared.consumed.store(self.next.place, Ordering::Release);
        // Our reads of the entries, and the count that others go by, come before the device fills the entries anew.
        barrier::back_to_device();
        self.consumer.store(((self.next.place & COUNT) as u32).to_be());
    }

    /// Asks for an event at the next completion; `events` counts those that there have been.
    pub(crate) fn arm(&mut self, solicited: bool, events: u32) {
        // The device takes a command for a repetition unless its number is another after each event.
        let number = (events.wrapping_add(1) & 3) << 28;
        let command = number | if solicited { SOLICITED } else { NEXT };
        let count = (self.next.place & COUNT) as u32;
        self.armed.store((command | count).to_be());
        // The device reads the record when the doorbell rings.
        barrier::before_doorbell();
        let command = u64::from(command | self.cqn) << 32 | u64::from(count);
        self.uar.ring_cq(command.to_be());
    }

    /// Changes the size; gives the new one.
    pub(crate) fn resize(&mut self, uverbs: &Uverbs, handle: u32, cqe: u32) -> Result<u32> {
        let fail = |errno| uverbs.error("resize_cq", errno);
        let entries = entries(cqe).map_err(fail)?;
        if entries == self.buffer.entries {
            return Ok(entries - 1);
        }
        let shared = Arc::clone(&self.shared);
        // Nobody looks at the old buffer until the new one has taken its place.
        let mut state = shared.lock();
        if u64::from(entries) <= shared.produced(&state) - self.next.place {
            return Err(fail(Errno::EINVAL));
        }
        let mut buffer = Buffer::fresh(entries, self.buffer.shift, self.next.place + 1).map_err(fail)?;
        let input = ResizeCq { buf_addr: buffer.memory.region().address() };
        let made =
            uverbs.resize_cq(handle, entries - 1, Udata { input: input.as_bytes(), output: &mut [] })?;
        let moved = self.buffer.move_to(&mut buffer, self.next.place);
        self.buffer = buffer.clone();
        state.buffer = buffer;
        self.next = self.buffer.position(self.next.place + 1);
        shared.shift(&mut state);
        self.publish();
        match moved {
            Ok(()) if made == entries - 1 => Ok(made),
            Ok(()) => {
                let why = format!("the kernel made it {made} entries where {} were asked for", entries - 1);
                Err(Error::bad_answer("resize_cq", uverbs.device(), why))
            }
            Err(why) => Err(Error::bad_answer("resize_cq", uverbs.device(), why)),
        }
    }
}

impl Drop for Cq {
    /// Nobody will take what is in it, but a slot of a shared receive queue is free again by its completion alone.
    fn drop(&mut self) {
        let mut wcs = [Wc::default(); 16];
        for _ in 0..self.buffer.entries {
            if self.take::<false>(&mut wcs) == 0 {
                break;
            }
        }
    }
}

impl Buffer {
    /// Moves the entries from `place` on into another buffer, where each stands one place further: the device has ended them with
    /// an entry that says so, and goes on behind it.
    pub(super) fn move_to(&self, to: &mut Self, place: u64) -> Result<(), &'static str> {
        let entries = to.entries;
        let Some(memory) = Arc::get_mut(&mut to.memory) else { return Err("the new buffer is in use") };
        let size = 1usize << self.shift;
        let mut bytes = [0; 64];
        let bytes = &mut bytes[..size];
        for from in place..place + u64::from(self.entries) {
            let Some((_, owner)) = self.filled(from) else { break };
            barrier::from_device();
            if owner.is_resize() {
                return Ok(());
            }
            let at = (from as usize & (self.entries as usize - 1)) << self.shift;
            self.memory.region().read_bytes(at, bytes);
            let lap = (from + 1) & u64::from(entries) != 0;
            let first = self.piece(from + 1);
            bytes[size - 1] = bytes[size - 1] & 0x7f | if lap { 0x80 } else { 0 };
            for (piece, bytes) in (first..).zip(bytes.chunks_exact(SIZE)) {
                memory.slot(piece).fill(0, bytes);
            }
        }
        Err("the device did not say where the old buffer ends")
    }
}

impl Copied {
    fn new() -> Result<Self, Errno> {
        let sent = Ring::new(1)?;
        Ok(Self { all: Arc::default(), last: NOWHERE, sender: BeQpn::NONE, sent, until: 0 })
    }

    /// Takes a new copy; entries from `place` on are to come.
    #[cold]
    fn renew(&mut self, shared: &Shared, place: u64) {
        self.all = shared.copy();
        (self.last, self.sender) = (NOWHERE, BeQpn::NONE);
        self.until =
            self.all.iter().filter(|queue| queue.ended()).map(|queue| queue.until).max().unwrap_or(place);
    }

    /// Says of the entry at `place` what a program is told; false where it is told nothing.
    #[inline(always)]
    fn complete(&mut self, entry: &Cqe<'_>, owner: Owner, place: u64, wc: &mut Wc) -> bool {
        let qpn = BeQpn::of(entry);
        if qpn == self.sender && owner.is_send() {
            tell_sent(entry, owner, qpn, &self.sent, wc);
            return true;
        }
        let key = cqe::key(entry, owner, qpn.get());
        match self.all.get(self.last) {
            Some(queue) if queue.key == key => {
                if owner.is_send()
                    && let Some(sent) = &queue.sent
                {
                    (self.sender, self.sent) = (qpn, Arc::clone(sent));
                }
                tell(entry, owner, qpn, queue, wc);
                true
            }
            _ => self.complete_other(key, entry, owner, place, wc),
        }
    }

    /// The same where the queue has to be looked for.
    #[inline(never)]
    fn complete_other(&mut self, key: Key, entry: &Cqe<'_>, owner: Owner, place: u64, wc: &mut Wc) -> bool {
        let found = self.search(key, place);
        // From `until` on, whatever is found is there to stay.
        self.last = found.filter(|_| place >= self.until).unwrap_or(NOWHERE);
        match found.and_then(|found| self.all.get(found)) {
            Some(queue) => {
                tell(entry, owner, BeQpn::of(entry), queue, wc);
                !queue.ended()
            }
            None => {
                cqe::stray(entry, owner, wc);
                true
            }
        }
    }

    /// The first of this key that the entry is not too late for.
    fn search(&self, key: Key, place: u64) -> Option<usize> {
        let first = self.all.partition_point(|queue| queue.key < key);
        let mut same = self.all.get(first..)?.iter().take_while(|queue| queue.key == key);
        same.position(|queue| place < queue.until).map(|n| first + n)
    }
}

/// Says of an entry of `queue` what a program is told.
#[inline(always)]
fn tell(entry: &Cqe<'_>, owner: Owner, qpn: BeQpn, queue: &Queue, wc: &mut Wc) {
    if owner.is_send() {
        match &queue.sent {
            Some(ring) => tell_sent(entry, owner, qpn, ring, wc),
            None => cqe::stray(entry, owner, wc),
        }
    } else {
        let wr_id = match &queue.received {
            Received::Rq(ring) => ring.complete_oldest(),
            // A slot of a shared queue is free again whoever took it.
            Received::Srq(ring) => ring.complete(cqe::wqe_index(entry)),
            Received::Nowhere => None,
        };
        match wr_id {
            Some(wr_id) => cqe::tell_received(entry, owner, qpn.get(), wr_id, wc),
            None => cqe::stray(entry, owner, wc),
        }
    }
}

/// The same of an entry of a send queue whose ring this is.
#[inline(always)]
fn tell_sent(entry: &Cqe<'_>, owner: Owner, qpn: BeQpn, ring: &Ring, wc: &mut Wc) {
    match ring.complete(cqe::wqe_index(entry)) {
        Some(wr_id) => cqe::tell_sent(entry, owner, qpn.get(), wr_id, wc),
        None => cqe::stray(entry, owner, wc),
    }
}

#[cfg(test)]
#[path = "cq_tests.rs"]
mod tests;
