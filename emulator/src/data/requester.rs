//! The requester: sends requests, takes acknowledgements, tries again.

use super::qpc::Qpc;
use crate::packet::Psn;

/// The requester of a queue pair.
#[derive(Default)]
pub(crate) struct Requester {
    next: Psn,
}

impl Requester {
    pub(crate) fn start(&mut self, context: &Qpc) {
        self.next = Psn::new(context.next_send_psn());
    }

    pub(crate) fn reload(&mut self, _context: &Qpc) {}

    pub(crate) fn next_psn(&self) -> Psn {
        self.next
    }

    pub(crate) fn oldest_psn(&self) -> Psn {
        self.next
    }

    pub(crate) fn is_idle(&self) -> bool {
        true
    }
}
