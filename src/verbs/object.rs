//! A kernel object: made by a command, unmade exactly once.

use std::sync::Arc;

use nix::errno::Errno;

use super::context::ContextInner;
use crate::error::{Cause, Error, Result};
use crate::provider::Hold;
use crate::uverbs::Uverbs;

/// The command that unmakes an object of one kind, and the verb that it is known by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) verb: &'static str,
    pub(super) unmake: fn(&Uverbs, u32) -> Result<(), Errno>,
}

/// A kernel object of a context, which it keeps open.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) ctx: Arc<ContextInner>,
    pub(super) handle: u32,
    kind: Kind,
    live: bool,
    /// What the kernel's object uses until it is unmade.
    pub(super) hold: Hold,
}

impl Object {
    pub(super) fn new(ctx: &Arc<ContextInner>, handle: u32, kind: Kind) -> Self {
        Self { ctx: Arc::clone(ctx), handle, kind, live: true, hold: Hold::NOTHING }
    }

    /// The same, with what must outlive it.
    pub(super) fn holding(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    /// Unmakes the object; what the kernel refuses to unmake stays until the context closes.
    pub(super) fn destroy(&mut self) -> Result<()> {
        self.unmake().map_err(|e| self.ctx.uverbs.error(self.kind.verb, e))
    }

    fn unmake(&mut self) -> Result<(), Errno> {
        if !std::mem::replace(&mut self.live, false) {
            return Ok(());
        }
        let unmade = (self.kind.unmake)(&self.ctx.uverbs, self.handle);
        let hold = std::mem::replace(&mut self.hold, Hold::NOTHING);
        match unmade {
            Ok(()) => drop(hold),
            // Lost rather than used by two.
            Err(_) => std::mem::forget(hold),
        }
        unmade
    }

    /// The error of unmaking an object that something else still holds.
    pub(super) fn in_use(&self, by: &'static str) -> Error {
        let cause = Cause::Invalid(format!("it is still used by {by}").into());
        Error::new(self.kind.verb, self.ctx.uverbs.device(), cause)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // Nobody is left to be told of a refusal.
        let _ = self.unmake();
    }
}
