//! The clock of the card: a register that drivers read, and the source of completion time stamps.

use std::time::Duration;

/// Its frequency.
pub(crate) const MHZ: u32 = 427;
/// Its offset in BAR 0: the upper word, then the lower.
pub(crate) const REGISTER: u64 = 0xe_0000;

/// Its value in cycles.
pub(crate) fn ticks(now: Duration) -> u64 {
    (now.as_nanos() * u128::from(MHZ) / 1000) as u64
}
