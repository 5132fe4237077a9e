//! Error counters, which DIAG_RPRT reports and the kernel shows under `hw_counters`.
//!
//! Their names and offsets are those of drivers/infiniband/hw/mlx4/main.c, `diag_basic` and `diag_device_only`: `rq` is
//! the responder's side, `sq` the requester's.

use std::collections::BTreeMap;

use crate::fabric::packet::{Nak, Syndrome};

/// Completion queues that overran.
pub const CQ_OVERFLOW: u16 = 0x1a0;
/// Datagrams dropped for lack of a receive request.
pub const DATAGRAMS_DROPPED: u16 = 0x118;

/// The counters of a card, by their offset in DIAG_RPRT's mailbox.
#[derive(Default)]
pub struct Diagnostics {
    counters: BTreeMap<u16, u32>,
}

impl Diagnostics {
    /// Increments a counter.
    pub fn count(&mut self, place: u16) {
        let counter = self.counters.entry(place).or_default();
        *counter = counter.saturating_add(1);
    }

    /// Counts a request that failed, by the syndrome of its completion (include/linux/mlx4/cq.h,
    /// `MLX4_CQE_SYNDROME_*`).
    pub fn completed(&mut self, syndrome: u8, send: bool) {
        let place = match (syndrome, send) {
            (0x01, false) => 0x00,
            (0x01, true) => 0x04,
            (0x02, false) => 0x08,
            (0x02, true) => 0x0c,
            (0x04, false) => 0x18,
            (0x04, true) => 0x1c,
            (0x05, false) => 0x20,
            (0x05, true) => 0x24,
            (0x06, true) => 0x2c,
            (0x10, true) => 0x34,
            (0x12, true) => 0x44,
            (0x13, true) => 0x4c,
            (0x14, true) => 0x54,
            (0x15, true) => 0x5c,
            (0x16, true) => 0x64,
            _ => return,
        };
        self.count(place);
    }

    /// Counts a NAK that the card has sent.
    pub fn refused(&mut self, syndrome: &Syndrome) {
        match syndrome {
            Syndrome::RnrNak(_) => self.count(0x68),
            Syndrome::Nak(Nak::PsnSequence) => self.count(0x100),
            Syndrome::Nak(Nak::InvalidRequest) => self.count(0x48),
            Syndrome::Nak(Nak::RemoteAccess) => self.count(0x50),
            Syndrome::Nak(Nak::RemoteOperational) | Syndrome::Ack => {}
        }
    }

    /// Counts a NAK that the card has received.
    pub fn was_refused(&mut self, syndrome: &Syndrome) {
        match syndrome {
            Syndrome::RnrNak(_) => self.count(0x6c),
            Syndrome::Nak(Nak::PsnSequence) => self.count(0x104),
            Syndrome::Nak(_) | Syndrome::Ack => {}
        }
    }

    /// The counters that are not 0, with their offsets.
    pub fn all(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.counters.iter().map(|(place, count)| (*place, *count))
    }
}
