//! The responder: takes requests, answers them.

use super::wqe::Receive;
use crate::packet::Psn;

/// The responder of a queue pair.
#[derive(Default)]
pub(crate) struct Responder {
    expected: Psn,
    msn: u32,
    receiving: Option<(Receive, Option<u32>)>,
}

impl Responder {
    pub(crate) fn start(&mut self, expected: Psn) {
        self.expected = expected;
    }

    pub(crate) fn expected(&self) -> Psn {
        self.expected
    }

    pub(crate) fn msn(&self) -> u32 {
        self.msn
    }

    pub(crate) fn stop(&mut self) -> Option<(Receive, Option<u32>)> {
        self.receiving.take()
    }
}
