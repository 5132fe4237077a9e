//! Atomics, fences and locks of lock-free code: the standard library's, or loom's when its tests explore every interleaving
//! (`RUSTFLAGS="--cfg bareverbs_loom" cargo test`).

#[cfg(not(all(bareverbs_loom, test)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(all(bareverbs_loom, test)))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(all(bareverbs_loom, test))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(all(bareverbs_loom, test))]
pub(crate) use loom::sync::{Mutex, MutexGuard};
