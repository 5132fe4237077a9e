//! The HCAs of one fabric, and who may touch them when.
//!
//! Each HCA's guest has a thread, which holds the fabric for one access at a time, and after a doorbell for the first
//! bounded piece of the work that it asks for. What remains is the engine's, a thread that holds the fabric for such
//! pieces, gives way to the others between them, and sleeps until the next timer or doorbell.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{data::Next, hca::Hca, packet::Packet};

/// Packets that are delivered in one piece of work.
const PIECE: usize = 64;

/// A fabric.
pub struct Fabric {
    state: Mutex<State>,
    /// Wakes the engine.
    work: Condvar,
    start: Instant,
    /// Threads that want the state: the engine gives way to them.
    waiting: AtomicUsize,
}

/// What the lock protects.
pub struct State {
    /// The HCAs, in the order of their sockets.
    pub hcas: Vec<Hca>,
    /// Packets under way, each with the HCA that it goes to.
    wire: VecDeque<(usize, Packet)>,
    /// Packets that an HCA has just sent.
    sent: Vec<Packet>,
    /// Whether the engine sleeps.
    asleep: bool,
}

impl Fabric {
    /// A fabric of these HCAs.
    pub fn new(hcas: Vec<Hca>) -> Self {
        let state = State { hcas, wire: VecDeque::new(), sent: Vec::new(), asleep: false };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            start: Instant::now(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The HCAs, for one access.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A panic elsewhere ends the process; there is no poisoned state to see.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        state
    }

    /// Does something with HCA `number`, counted from 0.
    pub fn with<T>(&self, number: usize, act: impl FnOnce(&mut Hca, Duration) -> T) -> Option<T> {
        let now = self.now();
        self.lock().hcas.get_mut(number).map(|hca| act(hca, now))
    }

    /// Does something with HCA `number` that may give the data path work, and the first piece of that work.
    pub fn work<T>(&self, number: usize, act: impl FnOnce(&mut Hca, Duration) -> T) -> Option<T> {
        let now = self.now();
        let mut state = self.lock();
        let result = state.hcas.get_mut(number).map(|hca| act(hca, now));
        // A timer may have been set or have become another: the engine has to look at it.
        if state.turn(now) != Next::Idle && state.asleep {
            state.asleep = false;
            self.work.notify_one();
        }
        result
    }

    /// Moves the data of all HCAs, for ever.
    pub fn run_engine(&self) -> ! {
        let mut state = self.lock();
        loop {
            match state.turn(self.now()) {
                Next::Now => {
                    if self.waiting.load(Ordering::Relaxed) > 0 {
                        drop(state);
                        // The lock is not fair: whoever waits for it needs a moment to take it.
                        thread::yield_now();
                        state = self.lock();
                    }
                }
                next => {
                    let patience = match next {
                        Next::At(then) => then.saturating_sub(self.now()),
                        _ => Duration::from_secs(3600),
                    };
                    state.asleep = true;
                    state = self.work.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
                    state.asleep = false;
                }
            }
        }
    }

    /// Violations of all HCAs.
    pub fn violations(&self) -> u64 {
        self.lock().hcas.iter().map(|hca| hca.card.violations.count()).sum()
    }
}

impl State {
    /// A bounded piece of work of all HCAs, and when there is more.
    fn turn(&mut self, now: Duration) -> Next {
        let mut next = Next::Idle;
        for number in 0..self.hcas.len() {
            next = next.or(self.hcas[number].run(now, &mut self.sent));
            self.send(number);
        }
        for _ in 0..PIECE {
            let Some((number, packet)) = self.wire.pop_front() else { return next };
            self.hcas[number].receive(now, packet, &mut self.sent);
            self.send(number);
            next = Next::Now;
        }
        Next::Now
    }

    /// Puts what HCA `number` has sent on the wire.
    fn send(&mut self, number: usize) {
        for packet in self.sent.drain(..) {
            let is_target = |hca: &Hca| hca.card.port.is_active() && hca.card.port.lid == packet.lrh.dlid;
            if let Some(target) = self.hcas.iter().position(is_target) {
                self.wire.push_back((target, packet));
            } else {
                self.hcas[number].card.port.counters.send_discards += 1;
            }
        }
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fabric").finish_non_exhaustive()
    }
}
