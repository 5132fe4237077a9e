//! Whose completions a completion queue holds.
//!
//! An entry names its queue pair by number, and the kernel gives numbers out again. So a completion queue knows each queue by a
//! registration, which ends where the device has written the last entry of it: entries before that place belong to what was,
//! entries after it to whoever has the number next. A queue pair that is reset begins anew, under a new registration.
//!
//! Registrations are made and ended by whoever makes and unmakes queue pairs, on any thread; the one who polls works on a
//! copy, and takes a new one (under the lock) only when a flag says that there is something new. A look at the flag comes after
//! each look at an entry, so a queue is always known before an entry of it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cqe::{Cqe, Key, Owner, SIZE};
use super::ring::Ring;
use super::srq;
use crate::sys::barrier;
use crate::sys::slots::{Slots, View};

/// Where a receive's completion is looked up.
#[derive(Debug, Clone)]
pub(super) enum Received {
    /// The queue pair does not complete receives here.
    Nowhere,
    Rq(Arc<Ring>),
    Srq(Arc<srq::Ring>),
}

/// A queue that completes here.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) key: Key,
    pub(super) sent: Option<Arc<Ring>>,
    pub(super) received: Received,
    /// Entries before this place are not of this queue yet.
    since: u64,
    /// Entries from this place on are not of this queue any more.
    pub(super) until: u64,
    /// Which registration it is.
    id: u64,
}

impl Queue {
    /// Whether it is gone: what is left of it is told to nobody.
    #[inline(always)]
    pub(super) fn ended(&self) -> bool {
        self.until != u64::MAX
    }
}

/// The entries of a completion queue, as many as a power of two.
#[derive(Debug, Clone)]
pub(super) struct Buffer {
    pub(super) memory: Arc<Slots<SIZE>>,
    pub(super) entries: u32,
    /// Log2 of the bytes of an entry.
    pub(super) shift: u32,
    /// Pieces of an entry.
    step: u32,
    /// By which the running count of an entry gives a word whose top bit is its lap bit once it is filled.
    turn: u32,
}

impl Buffer {
    /// Of `entries` entries, a power of two, of 2^`shift` bytes.
    pub(super) fn new(memory: Slots<SIZE>, entries: u32, shift: u32) -> Self {
        let (step, turn) = (1 << (shift - SIZE.trailing_zeros()), 1 << (31 - entries.trailing_zeros()));
        Self { memory: Arc::new(memory), entries, shift, step, turn }
    }

    /// The first piece of the entry with this running count; the last one is that which counts.
    pub(super) fn piece(&self, place: u64) -> u32 {
        (place as u32).wrapping_mul(self.step)
    }

    /// The entry with this running count.
    pub(super) fn position(&self, place: u64) -> Position {
        Position { place, piece: self.piece(place + 1).wrapping_sub(1) }
    }

    /// The one after.
    #[inline(always)]
    pub(super) fn next(&self, at: Position) -> Position {
        Position { place: at.place + 1, piece: at.piece.wrapping_add(self.step) }
    }

    /// An entry and its last word; nothing while the device has not filled it.
    pub(super) fn filled(&self, place: u64) -> Option<(Cqe<'_>, Owner)> {
        self.filled_in(self.memory.view(), self.position(place))
    }

    /// The same, of `entries` that are at hand.
    #[inline(always)]
    pub(super) fn filled_in<'r>(&self, entries: View<'r, SIZE>, at: Position) -> Option<(Cqe<'r>, Owner)> {
        let entry = entries.entry(at.piece);
        let owner = Owner::of(&entry);
        owner.is_of_lap((at.place as u32).wrapping_mul(self.turn)).then_some((entry, owner))
    }
}

/// Which entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// Its running count.
    pub(super) place: u64,
    /// Its piece that counts.
    piece: u32,
}

/// What a completion queue shares with those who complete into it.
#[derive(Debug)]
pub(super) struct Shared {
    /// The poller's copy of the registrations is out of date.
    pub(super) changed: AtomicBool,
    /// How many entries have been taken out: the poller's, before it tells the device.
    pub(super) consumed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) buffer: Buffer,
    /// By key, and those of one key in the order they were made. Made anew for each change, so that polling need not.
    queues: Arc<[Queue]>,
    next_id: u64,
}

/// A queue that completes into a completion queue, until dropped. By then the kernel's object is gone or reset.
#[derive(Debug)]
pub(super) struct Registration {
    shared: Arc<Shared>,
    id: u64,
}

impl Shared {
    pub(super) fn new(buffer: Buffer) -> Arc<Self> {
        Arc::new(Self {
            changed: AtomicBool::new(false),
            consumed: AtomicU64::new(0),
            state: Mutex::new(State { buffer, queues: Arc::new([]), next_id: 0 }),
        })
    }

    /// The state, for changing more than one thing of it.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a queue known.
    pub(super) fn register(
        self: &Arc<Self>,
        key: Key,
        sent: Option<Arc<Ring>>,
        received: Received,
    ) -> Registration {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        let alive = |queue: &Queue| queue.key == key && !queue.ended();
        if state.queues.iter().any(alive) {
            // The kernel has given the number out again before the thread that unmade its former owner came to say so.
            let until = self.produced(&state);
            let ended = |queue: &Queue| Queue {
                until: if alive(queue) { until } else { queue.until },
                ..queue.clone()
            };
            state.queues = state.queues.iter().map(ended).collect();
        }
        let since = self.produced(&state);
        let new = Queue { key, sent, received, since, until: u64::MAX, id };
        let place = state.queues.partition_point(|queue| queue.key <= key);
        let (before, after) = state.queues.split_at(place);
        state.queues = before.iter().cloned().chain([new]).chain(after.iter().cloned()).collect();
        // Before the queue's first request, and so before its first entry.
        self.changed.store(true, Ordering::Release);
        Registration { shared: Arc::clone(self), id }
    }

    /// The running count of the entries that the device has written.
    pub(super) fn produced(&self, state: &State) -> u64 {
        loop {
            let first = self.consumed.load(Ordering::Acquire);
            let last = first.saturating_add(state.buffer.entries.into());
            let mut place = first;
            while place < last && state.buffer.filled(place).is_some() {
                place += 1;
            }
            barrier::from_device();
            // Where the poller has passed the place meanwhile, the entry there may have been of another lap.
            if self.consumed.load(Ordering::Acquire) <= place {
                return place;
            }
        }
    }

    /// The registrations as they are now.
    pub(super) fn copy(&self) -> Arc<[Queue]> {
        let state = self.lock();
        self.changed.store(false, Ordering::Relaxed);
        Arc::clone(&state.queues)
    }

    /// Entries have moved on by one place.
    pub(super) fn shift(&self, state: &mut State) {
        let later = |queue: &Queue| Queue { until: queue.until.saturating_add(1), ..queue.clone() };
        state.queues = state.queues.iter().map(later).collect();
        self.changed.store(true, Ordering::Release);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let until = self.shared.produced(&state);
        let consumed = self.shared.consumed.load(Ordering::Relaxed);
        let left = state.queues.iter().cloned().map(|queue| Queue {
            until: if queue.id == self.id { queue.until.min(until) } else { queue.until },
            ..queue
        });
        state.queues = left.filter(|queue| queue.until > consumed.max(queue.since)).collect();
        self.shared.changed.store(true, Ordering::Release);
    }
}
