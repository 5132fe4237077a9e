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
        unless_ignored(Signal::SIGINT, &once)
            .and_then(|()| unless_ignored(Signal::SIGTERM, &once))
            .and_then(|()| sigaction(Signal::SIGALRM, &tick))
    };
    // These signals exist on every Linux: there is nothing to report.
    if installed.is_ok() {
        let second = libc::timeval { tv_sec: 1, tv_usec: 0 };
        let every = libc::itimerval { it_interval: second, it_value: second };
        // SAFETY: the timer's description outlives the call.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const every, std::ptr::null_mut()) };
    }
}

/// Installs a handler, except where whoever started this process has it ignore the signal, as shells do for jobs in the background.
///
/// # Safety
/// As [`sigaction`].
unsafe fn unless_ignored(signal: Signal, action: &SigAction) -> nix::Result<()> {
    // SAFETY: the caller's.
    let before = unsafe { sigaction(signal, action) }?;
    if matches!(before.handler(), SigHandler::SigIgn) {
        // SAFETY: what was there before is as good as it was.
        unsafe { sigaction(signal, &before) }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_stays_ignored() {
        let action = |handler| SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        let noted = action(SigHandler::Handler(on_tick));
        for (before, ignored) in [(SigHandler::SigIgn, true), (SigHandler::SigDfl, false)] {
            // SAFETY: the handler does nothing, and nobody here sends the signal.
            let after = unsafe {
                sigaction(Signal::SIGUSR2, &action(before)).unwrap();
                unless_ignored(Signal::SIGUSR2, &noted).unwrap();
                sigaction(Signal::SIGUSR2, &action(SigHandler::SigDfl)).unwrap()
            };
            assert_eq!(matches!(after.handler(), SigHandler::SigIgn), ignored);
        }
    }
}
