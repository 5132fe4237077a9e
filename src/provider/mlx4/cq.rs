//! ConnectX's completion queue: the device fills entries in this process's memory, each with the lap bit that says so.

use std::sync::Arc;

use nix::errno::Errno;

use super::buffer::{Buffer, Position};
use super::cqe::{self, BeQpn, Cqe, Owner};
use super::lookup::{NONE, Table};
use super::registry::{Received, Registered, Shared};
use super::uar::Uar;
use super::wq::WorkQueue;
use super::{Context, command, dbrec};
use crate::error::{Error, Result};
use crate::provider::{self, CompletionQueue, Created, NewCq};
use crate::sys::barrier;
use crate::sys::process::Process;
use crate::sys::region::Word;
use crate::types::Wc;
use crate::uverbs::Uverbs;
use crate::uverbs::cq::CqParams;

/// Arm commands: an event at the next completion, or at the next solicited or failed one.
const NEXT: u32 = 2 << 24;
const SOLICITED: u32 = 1 << 24;

/// The device has 24 bits of an index, and queues have fewer entries than that.
const INDEX: u64 = 0xff_ffff;
pub(super) const MAX_CQE: u32 = 0x3f_ffff;

/// A completion queue.
pub(crate) struct Cq {
    buffer: Buffer,
    /// The entry to look at next.
    next: Position,
    senders: Senders,
    shared: Arc<Shared>,
    consumer: Word,
    armed: Word,
    cqn: u32,
    uar: Arc<Uar>,
    /// Entries have a timestamp.
    timestamps: bool,
    created_by: Process,
}

/// Finds the work queue of an entry. Keeps the two that were found last.
struct Senders {
    table: Table,
    /// The node of the queue pair that was found last, or [`NONE`]. It has not ended, so it stays the one that is found by its key.
    last: u32,
    /// The number and the send queue of a queue pair that was found twice in a row.
    sender: BeQpn,
    sent: Arc<WorkQueue>,
}

/// What the kernel's object uses while it exists, and where queues that complete into it are registered.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) shared: Arc<Shared>,
    _record: dbrec::Record,
}

/// Creates a completion queue.
pub(super) fn create(ctx: &Context, uverbs: &Uverbs, init: &CqParams<'_>) -> Result<NewCq<Cq>> {
    let fail = |errno| uverbs.error("create_cq", errno);
    let entries = entries(init.cqe).map_err(fail)?;
    let buffer = Buffer::map(entries, ctx.log2_cqe_size(), 0).map_err(fail)?;
    let record = ctx.records.take().map_err(fail)?;
    let params = CqParams { cqe: entries - 1, ..*init };
    let (made, cqn) =
        command::create_cq(uverbs, &params, buffer.memory.region(), ctx.log2_cqe_size(), &record)?;
    let created = Created::new(uverbs, made.handle, Uverbs::destroy_cq);
    if made.cqe != entries - 1 {
        let why = format!("it made a queue of {} entries where {} were asked for", made.cqe, entries - 1);
        return Err(Error::bad_answer("create_cq", uverbs.device(), why));
    }
    let mut ring = Cq::new(buffer, &record, cqn, Arc::clone(&ctx.uar)).map_err(fail)?;
    ring.timestamps = init.timestamps;
    let hold = provider::Hold::new(Hold { shared: Arc::clone(&ring.shared), _record: record });
    created.keep();
    Ok(NewCq { answer: made, ring, hold })
}

/// Returns the entries of a queue that holds `cqe` completions: a power of two, one of which the device leaves empty.
fn entries(cqe: u32) -> Result<u32, Errno> {
    if cqe > MAX_CQE { Err(Errno::EINVAL) } else { Ok((cqe + 1).next_power_of_two()) }
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
        let (senders, created_by) = (Senders::new()?, Process::current());
        Ok(Self { buffer, next, senders, shared, consumer, armed, cqn, uar, timestamps: false, created_by })
    }

    /// What queues that complete here are registered with.
    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// As [`CompletionQueue::poll`], without giving the entries back to the device.
    #[inline(always)]
    fn take<const TIMESTAMPS: bool>(&mut self, out: &mut [Wc]) -> usize {
        let room = out.len();
        let mut left = out;
        let entries = self.buffer.memory.view();
        let mut at = self.next;
        while let Some(wc) = left.first_mut()
            && let Some((entry, owner)) = self.buffer.filled_in(entries, at)
        {
            // The entry is ours: what the device wrote of it, and what was registered before that, is read after.
            barrier::from_device();
            if self.shared.has_changed() {
                self.senders.renew(&self.shared, at.index);
            }
            if self.senders.translate(&entry, owner, at.index, wc) {
                if TIMESTAMPS {
                    cqe::fill_timestamp(&entry, wc);
                }
                left = &mut left[1..];
            }
            at = self.buffer.next(at);
        }
        self.next = at;
        room - left.len()
    }

    #[inline(never)]
    fn take_with_timestamps(&mut self, out: &mut [Wc]) -> usize {
        self.take::<true>(out)
    }

    /// Asks for an event at the next completion; `events` counts those that there have been.
    fn ring_to_arm(&self, solicited: bool, events: u32) {
        // The device takes a command for a repetition unless its number is another after each event.
        let number = (events.wrapping_add(1) & 3) << 28;
        let command = number | if solicited { SOLICITED } else { NEXT };
        let index = (self.next.index & INDEX) as u32;
        self.armed.store((command | index).to_be());
        // The device reads the record when the doorbell arrives.
        barrier::before_doorbell();
        let command = u64::from(command | self.cqn) << 32 | u64::from(index);
        self.uar.arm_cq(command.to_be());
    }
}

impl CompletionQueue for Cq {
    const BYPASSES_KERNEL: bool = true;

    #[inline(never)]
    fn poll(&mut self, out: &mut [Wc]) -> usize {
        let before = self.next.index;
        let taken = if self.timestamps { self.take_with_timestamps(out) } else { self.take::<false>(out) };
        if self.next.index != before {
            self.publish();
        }
        taken
    }

    #[inline(never)]
    fn take_one(&mut self) -> Option<Wc> {
        let mut wc = [Wc::default()];
        let taken =
            if self.timestamps { self.take_with_timestamps(&mut wc) } else { self.take::<false>(&mut wc) };
        (taken == 1).then_some(wc[0])
    }

    #[inline(always)]
    fn publish(&mut self) {
        self.shared.set_consumed(self.next.index);
        // Our reads of the entries, and the index that other threads go by, come before the device fills the entries anew.
        barrier::back_to_device();
        self.consumer.store(((self.next.index & INDEX) as u32).to_be());
    }

    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.buffer.filled_in(self.buffer.memory.view(), self.next).is_none()
    }

    #[inline]
    fn arm(
        &mut self,
        _uverbs: &Uverbs,
        _handle: u32,
        solicited: bool,
        events: impl FnOnce() -> u32,
    ) -> Result<(), Errno> {
        self.ring_to_arm(solicited, events());
        Ok(())
    }

    fn resize(&mut self, uverbs: &Uverbs, handle: u32, cqe: u32) -> Result<u32> {
        let fail = |errno| uverbs.error("resize_cq", errno);
        let entries = entries(cqe).map_err(fail)?;
        if entries == self.buffer.entries {
            return Ok(entries - 1);
        }
        let shared = Arc::clone(&self.shared);
        // Until the new buffer has taken the place of the old one, no other thread looks at either.
        let mut state = shared.lock();
        if u64::from(entries) <= shared.produced(&mut state) - self.next.index {
            return Err(fail(Errno::EINVAL));
        }
        let mut buffer = Buffer::map(entries, self.buffer.log2_size, self.next.index + 1).map_err(fail)?;
        let made = command::resize_cq(uverbs, handle, entries - 1, buffer.memory.region(), buffer.log2_size)?;
        let moved = self.buffer.move_to(&mut buffer, self.next.index);
        state.take_changes(&mut self.senders.table, self.next.index);
        (self.senders.last, self.senders.sender) = (NONE, BeQpn::NONE);
        self.senders.table.for_each(Registered::move_by_one);
        Shared::moved_by_one(&mut state, buffer.clone());
        self.buffer = buffer;
        self.next = self.buffer.position(self.next.index + 1);
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
    /// Takes everything out: a slot of a shared receive queue becomes free by its completion alone.
    fn drop(&mut self) {
        if !self.created_by.is_current() {
            // A child process does not have the entries.
            return;
        }
        let mut wcs = [Wc::default(); 16];
        for _ in 0..self.buffer.entries {
            if self.take::<false>(&mut wcs) == 0 {
                break;
            }
        }
    }
}

impl Senders {
    fn new() -> Result<Self, Errno> {
        let sent = WorkQueue::new(1)?;
        Ok(Self { table: Table::with_capacity(0), last: NONE, sender: BeQpn::NONE, sent })
    }

    /// Takes over what has changed; entries from `index` on are still to come.
    #[cold]
    fn renew(&mut self, shared: &Shared, index: u64) {
        (self.last, self.sender) = (NONE, BeQpn::NONE);
        shared.take_changes(&mut self.table, index);
    }

    /// Fills `wc` from the entry at `index`. Returns false for an entry that is not reported.
    #[inline(always)]
    fn translate(&mut self, entry: &Cqe<'_>, owner: Owner, index: u64, wc: &mut Wc) -> bool {
        let qpn = BeQpn::of(entry);
        if qpn == self.sender && owner.is_send() {
            translate_sent(entry, owner, qpn, &self.sent, wc);
            return true;
        }
        let key = cqe::key(entry, owner, qpn.get());
        match self.table.at(self.last, key) {
            Some(found) => {
                if owner.is_send()
                    && let Some(sent) = &found.sent
                {
                    (self.sender, self.sent) = (qpn, Arc::clone(sent));
                }
                translate(entry, owner, qpn, found, wc);
                true
            }
            None => {
                let Some((node, found)) = self.table.find(key, index) else {
                    cqe::fill_stray(entry, owner, wc);
                    return true;
                };
                let ended = found.has_ended();
                self.last = if ended { NONE } else { node };
                translate(entry, owner, qpn, found, wc);
                !ended
            }
        }
    }
}

/// Fills `wc` from an entry of this queue pair.
#[inline(always)]
fn translate(entry: &Cqe<'_>, owner: Owner, qpn: BeQpn, found: &Registered, wc: &mut Wc) {
    if owner.is_send() {
        match &found.sent {
            Some(sent) => translate_sent(entry, owner, qpn, sent, wc),
            None => cqe::fill_stray(entry, owner, wc),
        }
    } else {
        let wr_id = match &found.received {
            Received::Rq(rq) => rq.retire_oldest(),
            // A slot of a shared receive queue becomes free even if its completion is not reported.
            Received::Srq(receives) => receives.retire(cqe::wqe_index(entry)),
            Received::Nowhere => None,
        };
        match wr_id {
            Some(wr_id) => cqe::fill_received(entry, owner, qpn.get(), wr_id, wc),
            None => cqe::fill_stray(entry, owner, wc),
        }
    }
}

/// Fills `wc` from an entry of this send queue.
#[inline(always)]
fn translate_sent(entry: &Cqe<'_>, owner: Owner, qpn: BeQpn, sent: &WorkQueue, wc: &mut Wc) {
    match sent.retire(cqe::wqe_index(entry)) {
        Some(wr_id) => cqe::fill_sent(entry, owner, qpn.get(), wr_id, wc),
        None => cqe::fill_stray(entry, owner, wc),
    }
}

#[cfg(test)]
#[path = "cq_tests.rs"]
mod tests;
