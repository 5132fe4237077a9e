//! Signals: an interrupt that lets what was measured be printed, and a tick that ends every blocking call once a second.

#![allow(unsafe_code)] // installing handlers

use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

extern "C" fn on_tick(_: libc::c_int) {}

/// Whether SIGINT or SIGTERM has come since [`watch`].
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Notes SIGINT and SIGTERM instead of dying of the first (the second kills), and ticks. Blocking calls answer `EINTR` to both.
pub(crate) fn watch() {
    let once = SigAction::new(SigHandler::Handler(on_interrupt), SaFlags::SA_RESETHAND, SigSet::empty());
    let tick = SigAction::new(SigHandler::Handler(on_tick), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handlers do nothing but store to an atomic.
    let installed = unsafe {
        sigaction(Signal::SIGINT, &once)
            .and_then(|_| sigaction(Signal::SIGTERM, &once))
            .and_then(|_| sigaction(Signal::SIGALRM, &tick))
    };
    // These signals exist on every Linux: there is nothing to report.
    if installed.is_ok() {
        let second = libc::timeval { tv_sec: 1, tv_usec: 0 };
        let every = libc::itimerval { it_interval: second, it_value: second };
        // SAFETY: the timer's description outlives the call.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const every, std::ptr::null_mut()) };
    }
}
