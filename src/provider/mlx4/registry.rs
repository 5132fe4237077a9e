//! Which work queues complete into a completion queue: the part that every thread may change.
//!
//! An entry names its queue pair by number, and the kernel gives numbers out again. So a completion queue knows a queue pair
//! by a registration, which ends at the index where the device has written the last entry of it: entries before that index
//! belong to the old queue pair, entries after it to whoever has the number next. A queue pair that is reset starts again under a
//! new registration.
//!
//! Threads that create and destroy queue pairs add and end registrations under a lock, each at a constant cost. The poller
//! has a table of its own ([`Lookup`](super::lookup::Lookup)) and applies pending changes when a flag is set. It
//! looks at the flag after each entry that it finds, so a registration is known before the first entry of it.
//!
//! The poller allocates nothing: the thread that registers one queue pair too many for the poller's table makes the larger one.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use super::buffer::Buffer;
use super::cqe::Key;
use super::lookup::Table;
use super::srq;
use super::wq::WorkQueue;
use crate::sys::barrier;
use crate::sys::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering};

/// `Registered::until` of a queue pair that exists.
const ALIVE: u64 = u64::MAX;

/// `Registered::added_at` of a registration that the poller has taken over.
const TAKEN: u32 = u32::MAX;

/// Registrations that the first table has room for.
const FIRST_CAPACITY: usize = 4;

/// Which receive a completion belongs to.
#[derive(Debug)]
pub(super) enum Received {
    /// Receives of the queue pair do not complete here.
    Nowhere,
    Rq(Arc<WorkQueue>),
    Srq(Arc<srq::Receives>),
}

/// What is known of a queue pair (or of a shared receive queue, for XRC) that completes here.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) key: Key,
    pub(super) sent: Option<Arc<WorkQueue>>,
    pub(super) received: Received,
    /// Entries before this index are not of it.
    since: AtomicU64,
    /// Entries from this index on are not of it; [`ALIVE`] until it has ended. Written under the lock.
    until: AtomicU64,
    /// Where it is in `State::added`, or [`TAKEN`]. Used under the lock.
    added_at: AtomicU32,
}

impl Registered {
    /// Whether the entry with this index can be of it, as far as its end is concerned.
    #[inline(always)]
    pub(super) fn has(&self, index: u64) -> bool {
        index < self.until.load(Ordering::Relaxed)
    }

    /// Whether the queue pair is gone: completions that are left of it are not reported.
    #[inline(always)]
    pub(super) fn has_ended(&self) -> bool {
        self.until.load(Ordering::Relaxed) != ALIVE
    }

    fn end(&self, index: u64) {
        // Under the lock: nobody else writes it.
        self.until.store(self.until.load(Ordering::Relaxed).min(index), Ordering::Relaxed);
    }

    /// A registration of the same key follows: this one has ended where that one begins, whenever its owner comes to say so.
    pub(super) fn end_before(&self, next: &Self) {
        self.end(next.since.load(Ordering::Relaxed));
    }

    /// Every entry that has not been taken out has moved to the index after its own.
    pub(super) fn move_by_one(&self) {
        for index in [&self.since, &self.until] {
            index.store(index.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
    }
}

/// What a completion queue shares with those who complete into it: all that creating a queue pair needs of it.
#[derive(Debug)]
pub(crate) struct Shared {
    /// There are changes that the poller has not taken over.
    changed: AtomicBool,
    /// The poller's index: how many entries it has taken out.
    consumed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) buffer: Buffer,
    /// Entries before this index have been written by the device.
    produced: u64,
    /// Registrations that the poller has not taken over, in the order they were made. One that ended meanwhile without an
    /// entry leaves a gap.
    added: Vec<Option<Arc<Registered>>>,
    /// Registrations that have ended and that the poller may still have in its table.
    ended: VecDeque<Arc<Registered>>,
    /// How many registrations are in the poller's table, and how many it and `larger` have room for.
    known: usize,
    capacity: usize,
    /// A larger table for the poller, and the memory of a former one.
    larger: Option<Table>,
    former: Option<Table>,
}

/// A registration, which ends when this is dropped. By then the kernel's queue pair is gone or reset, so that the device writes no
/// more entries of it.
#[derive(Debug)]
pub(super) struct Registration {
    shared: Arc<Shared>,
    registered: Arc<Registered>,
}

impl Shared {
    pub(super) fn new(buffer: Buffer) -> Arc<Self> {
        let state = State {
            buffer,
            produced: 0,
            added: Vec::new(),
            ended: VecDeque::new(),
            known: 0,
            capacity: 0,
            larger: None,
            former: None,
        };
        Arc::new(Self {
            changed: AtomicBool::new(false),
            consumed: AtomicU64::new(0),
            state: Mutex::new(state),
        })
    }

    /// Whether there are changes for the poller. One look for each entry: those that matter for an entry were made before the
    /// device wrote it.
    #[inline(always)]
    pub(super) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Records the poller's index.
    #[inline(always)]
    pub(super) fn set_consumed(&self, index: u64) {
        // Release: who sees it knows that the poller looks at no entry before.
        self.consumed.store(index, Ordering::Release);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a queue pair, before its first request.
    pub(super) fn register(
        self: &Arc<Self>,
        key: Key,
        sent: Option<Arc<WorkQueue>>,
        received: Received,
    ) -> Registration {
        let mut state = self.lock();
        let state = &mut *state;
        let since = self.produced(state);
        state.make_room(self.consumed.load(Ordering::Relaxed));
        let registered = Arc::new(Registered {
            key,
            sent,
            received,
            since: AtomicU64::new(since),
            until: AtomicU64::new(ALIVE),
            added_at: AtomicU32::new(state.added.len() as u32),
        });
        state.added.push(Some(Arc::clone(&registered)));
        self.changed.store(true, Ordering::Release);
        Registration { shared: Arc::clone(self), registered }
    }

    /// Returns how many entries the device has written. Each is looked at once, however often this is called.
    pub(super) fn produced(&self, state: &mut State) -> u64 {
        loop {
            let first = self.consumed.load(Ordering::Acquire);
            let last = first.saturating_add(state.buffer.entries.into());
            let mut index = first.max(state.produced);
            while index < last && state.buffer.filled(index).is_some() {
                index += 1;
            }
            barrier::from_device();
            // If the poller has passed the index meanwhile, the device may have filled the entry there for the next lap.
            if self.consumed.load(Ordering::Acquire) <= index {
                state.produced = index;
                return index;
            }
        }
    }

    /// Calls the poller's functions for each change since the last call. `index` is the poller's.
    #[cold]
    pub(super) fn take_changes(&self, table: &mut Table, index: u64) {
        let mut state = self.lock();
        self.changed.store(false, Ordering::Relaxed);
        state.take_changes(table, index);
    }

    /// The buffer has been replaced: the entries that are left have moved to the index after their own. The poller has
    /// taken all changes over and moves what is in its table itself.
    pub(super) fn moved_by_one(state: &mut State, buffer: Buffer) {
        debug_assert!(state.added.is_empty(), "the poller has taken all changes over");
        state.buffer = buffer;
        state.produced += 1;
    }

    /// How many registrations wait for the poller.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.lock().added.iter().flatten().count()
    }

    /// How many registrations the poller's table has room for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.lock().capacity
    }
}

impl State {
    pub(super) fn take_changes(&mut self, table: &mut Table, index: u64) {
        if let Some(larger) = self.larger.take() {
            // Whoever registers next frees it.
            self.former = Some(table.replace(larger));
        }
        for registered in self.added.drain(..).flatten() {
            registered.added_at.store(TAKEN, Ordering::Relaxed);
            table.insert(registered);
        }
        while let Some(registered) = self.ended.front()
            && !registered.has(index)
        {
            table.remove(registered);
            self.ended.pop_front();
        }
        self.known = table.len();
    }

    /// Makes room for one more registration in the poller's table. `consumed` is the poller's index.
    fn make_room(&mut self, consumed: u64) {
        self.former = None;
        if self.known + self.added.len() < self.capacity {
            return;
        }
        self.added.retain(|added| added.as_ref().is_some_and(|registered| registered.has(consumed)));
        for (at, registered) in self.added.iter().flatten().enumerate() {
            registered.added_at.store(at as u32, Ordering::Relaxed);
        }
        // A good part is free afterwards, so that this costs a constant for each registration.
        let needed = self.known + self.added.len() + 1;
        let capacity = (needed + needed / 2).next_power_of_two().max(FIRST_CAPACITY);
        if capacity > self.capacity {
            self.capacity = capacity;
            self.larger = Some(Table::with_capacity(capacity));
        }
    }

    /// Removes a registration that the poller need not learn of.
    fn withdraw(&mut self, at: usize) {
        if let Some(added) = self.added.get_mut(at) {
            *added = None;
        }
        while let Some(None) = self.added.last() {
            self.added.pop();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Self { shared, registered } = self;
        let mut state = shared.lock();
        registered.end(shared.produced(&mut state));
        let added_at = registered.added_at.load(Ordering::Relaxed);
        let consumed = shared.consumed.load(Ordering::Relaxed);
        let first = registered.since.load(Ordering::Relaxed).max(consumed);
        if added_at != TAKEN && !registered.has(first) {
            state.withdraw(added_at as usize);
        } else {
            state.ended.push_back(Arc::clone(registered));
            shared.changed.store(true, Ordering::Release);
        }
    }
}
