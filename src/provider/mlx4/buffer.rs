//! The memory of a completion queue: entries that the device fills in order, round and round.

use std::sync::Arc;

use nix::errno::Errno;

use super::cqe::{Cqe, Owner, SIZE};
use crate::sys::barrier;
use crate::sys::region::Region;
use crate::sys::slots::{Slots, View};

/// The entries of a completion queue; their number is a power of two.
///
/// An entry is named by its index: how many entries the device has written before it, ever.
#[derive(Debug, Clone)]
pub(super) struct Buffer {
    pub(super) memory: Arc<Slots<SIZE>>,
    pub(super) entries: u32,
    /// Log2 of the bytes of an entry.
    pub(super) log2_size: u32,
    /// Pieces of an entry.
    step: u32,
    /// Multiplying an index by this moves its lap bit to the top, where the entry's owner word has it.
    lap_factor: u32,
}

/// Which entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    /// Its index.
    pub(super) index: u64,
    /// The piece that has its last 32 bytes.
    piece: u32,
}

impl Buffer {
    /// Maps memory for entries that all belong to the device, which will fill the one with the index `first` next.
    pub(super) fn map(entries: u32, log2_size: u32, first: u64) -> Result<Self, Errno> {
        let memory = Region::queue((entries as usize) << log2_size)?;
        Self::new(memory, entries, log2_size, first).ok_or(Errno::EINVAL)
    }

    /// As [`Buffer::map`], in this memory; `None` if the entries do not fit. `entries` is a power of two.
    pub(super) fn new(mut memory: Region, entries: u32, log2_size: u32, first: u64) -> Option<Self> {
        let size = 1 << log2_size;
        for index in first..first + u64::from(entries) {
            let slot = (index & u64::from(entries - 1)) as usize;
            let lap = index & u64::from(entries) != 0;
            memory.fill(slot * size + size - 1, &[if lap { 0 } else { 0x80 }]);
        }
        let step = 1 << (log2_size - SIZE.trailing_zeros());
        let memory = Slots::new(memory, entries.checked_mul(step)?)?;
        let lap_factor = 1 << (31 - entries.trailing_zeros());
        Some(Self { memory: Arc::new(memory), entries, log2_size, step, lap_factor })
    }

    /// The first piece of an entry.
    fn first_piece(&self, index: u64) -> u32 {
        (index as u32).wrapping_mul(self.step)
    }

    /// The position of the entry with this index.
    pub(super) fn position(&self, index: u64) -> Position {
        Position { index, piece: self.first_piece(index + 1).wrapping_sub(1) }
    }

    /// The position after this one.
    #[inline(always)]
    pub(super) fn next(&self, at: Position) -> Position {
        Position { index: at.index + 1, piece: at.piece.wrapping_add(self.step) }
    }

    /// Returns an entry and its owner word, or `None` while the device has not filled it.
    pub(super) fn filled(&self, index: u64) -> Option<(Cqe<'_>, Owner)> {
        self.filled_in(self.memory.view(), self.position(index))
    }

    /// As [`Buffer::filled`], with a view of the memory that the caller has.
    #[inline(always)]
    pub(super) fn filled_in<'r>(&self, entries: View<'r, SIZE>, at: Position) -> Option<(Cqe<'r>, Owner)> {
        let entry = entries.entry(at.piece);
        let owner = Owner::of(&entry);
        owner.is_of_lap((at.index as u32).wrapping_mul(self.lap_factor)).then_some((entry, owner))
    }

    /// Moves the entries from `index` on into a new buffer, each to the index after its own: the device has written one
    /// entry more into the old buffer, to say where it ends, and continues in the new one.
    pub(super) fn move_to(&self, to: &mut Self, index: u64) -> Result<(), &'static str> {
        let entries = to.entries;
        let Some(memory) = Arc::get_mut(&mut to.memory) else { return Err("the new buffer is in use") };
        let size = 1usize << self.log2_size;
        let mut bytes = [0; 64];
        let bytes = &mut bytes[..size];
        for from in index..index + u64::from(self.entries) {
            let Some((_, owner)) = self.filled(from) else { break };
            barrier::from_device();
            if owner.is_resize() {
                return Ok(());
            }
            let at = (from as usize & (self.entries as usize - 1)) << self.log2_size;
            self.memory.region().read_bytes(at, bytes);
            let lap = (from + 1) & u64::from(entries) != 0;
            bytes[size - 1] = bytes[size - 1] & 0x7f | if lap { 0x80 } else { 0 };
            for (piece, bytes) in (self.first_piece(from + 1)..).zip(bytes.chunks_exact(SIZE)) {
                memory.slot(piece).fill(0, bytes);
            }
        }
        Err("the device did not say where the old buffer ends")
    }
}
