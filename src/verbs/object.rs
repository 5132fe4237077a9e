//! A kernel object: created by a command, destroyed exactly once.
//!
//! A child process has a copy of every object that its parent had when it forked, on the same open file: it destroys none of them.

use std::sync::Arc;

use nix::errno::Errno;

use super::context::ContextInner;
use crate::error::{Cause, Error, Result};
use crate::provider::Hold;
use crate::sys::process::Process;
use crate::uverbs::Uverbs;

/// The command that destroys an object of one kind, and the name of its verb.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) verb: &'static str,
    pub(super) destroy: fn(&Uverbs, u32) -> Result<(), Errno>,
}

/// A kernel object of a context, which it keeps open.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) ctx: Arc<ContextInner>,
    pub(super) handle: u32,
    kind: Kind,
    live: bool,
    created_by: Process,
    /// What the kernel's object uses until it is destroyed.
    pub(super) hold: Hold,
}

impl Object {
    pub(super) fn new(ctx: &Arc<ContextInner>, handle: u32, kind: Kind) -> Self {
        Self {
            ctx: Arc::clone(ctx),
            handle,
            kind,
            live: true,
            created_by: Process::current(),
            hold: Hold::NOTHING,
        }
    }

    /// Adds what must outlive the kernel's object.
    pub(super) fn holding(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    /// Whether this process is the one that created the object, and not a child of it.
    pub(super) fn is_ours(&self) -> bool {
        self.created_by.is_current()
    }

    /// Destroys the object. If the kernel refuses, the object stays until the context closes.
    pub(super) fn destroy(&mut self) -> Result<()> {
        if !self.is_ours() {
            self.abandon();
            let why = "it belongs to the process that this one was forked from";
            return Err(Error::invalid(self.kind.verb, self.ctx.uverbs.device(), why));
        }
        self.destroy_now().map_err(|e| self.ctx.uverbs.error(self.kind.verb, e))
    }

    /// Leaves the kernel's object to the parent process. What a provider holds is not dropped either: locks may have been held by
    /// other threads at the fork, and queues are not mapped here.
    fn abandon(&mut self) {
        self.live = false;
        std::mem::forget(std::mem::replace(&mut self.hold, Hold::NOTHING));
    }

    fn destroy_now(&mut self) -> Result<(), Errno> {
        if !std::mem::replace(&mut self.live, false) {
            return Ok(());
        }
        let done = (self.kind.destroy)(&self.ctx.uverbs, self.handle);
        let hold = std::mem::replace(&mut self.hold, Hold::NOTHING);
        match done {
            Ok(()) => drop(hold),
            // Leaked: the kernel still uses it.
            Err(_) => std::mem::forget(hold),
        }
        done
    }

    /// The error of destroying an object that something else still holds.
    pub(super) fn in_use(&self, by: &'static str) -> Error {
        let cause = Cause::Invalid(format!("it is still used by {by}").into());
        Error::new(self.kind.verb, self.ctx.uverbs.device(), cause)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if self.is_ours() {
            // There is nobody to report a refusal to.
            let _ = self.destroy_now();
        } else {
            self.abandon();
        }
    }
}
