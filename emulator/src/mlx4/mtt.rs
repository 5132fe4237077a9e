//! Memory translation: a queue or a region is a list of pages, given by 8-byte entries in ICM.
//!
//! The kernel writes the entries straight into the ICM's pages (drivers/net/ethernet/mellanox/mlx4/mr.c), so the card
//! reads them at each use.

use crate::{
    bus::memory::Outside,
    mlx4::{card::Card, icm::IcmError},
};

/// Bytes of an entry.
const ENTRY: u64 = 8;
/// The bit of an entry that marks the page as present (`MLX4_MTT_FLAG_PRESENT`).
const PRESENT: u64 = 1;

/// A list of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtt {
    /// The offset of its first entry in the MTT table, in bytes, as in the contexts of queues and regions.
    pub first: u64,
    /// Base-2 logarithm of the page size in bytes, at least 12.
    pub page_shift: u8,
}

/// Why a queue or region cannot be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MttError {
    /// The entry itself cannot be accessed.
    Icm(IcmError),
    /// The entry at this ICM address is not marked as present.
    NotPresent(u64),
    /// The page is outside guest memory.
    Outside(Outside),
}

impl Mtt {
    /// The DMA address of byte `offset`.
    ///
    /// # Errors
    ///
    /// The entry cannot be accessed or is not present.
    pub fn dma(&self, card: &Card, offset: u64) -> Result<u64, MttError> {
        let shift = u32::from(self.page_shift.min(63));
        let page = offset.checked_shr(shift).unwrap_or(0);
        let virt = card.tables.mtt_base.wrapping_add(self.first).wrapping_add(page.wrapping_mul(ENTRY));
        let mut entry = [0; 8];
        card.icm.read(&card.memory, virt, &mut entry).map_err(MttError::Icm)?;
        let entry = u64::from_be_bytes(entry);
        if entry & PRESENT == 0 {
            return Err(MttError::NotPresent(virt));
        }
        let within = offset & ((1 << shift) - 1);
        Ok((entry & !7).wrapping_add(within))
    }

    /// Reads at byte `offset`; the range may cross pages.
    ///
    /// # Errors
    ///
    /// The first part that cannot be accessed.
    pub fn read(&self, card: &Card, offset: u64, bytes: &mut [u8]) -> Result<(), MttError> {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, after) = rest.split_at_mut(self.room(at).min(rest.len()));
            card.memory.read(self.dma(card, at)?, part).map_err(MttError::Outside)?;
            at = at.wrapping_add(part.len() as u64);
            rest = after;
        }
        Ok(())
    }

    /// Writes at byte `offset`; the range may cross pages.
    ///
    /// # Errors
    ///
    /// The first part that cannot be accessed; the parts before it are written.
    pub fn write(&self, card: &Card, offset: u64, bytes: &[u8]) -> Result<(), MttError> {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(self.room(at).min(rest.len()));
            card.memory.write(self.dma(card, at)?, part).map_err(MttError::Outside)?;
            at = at.wrapping_add(part.len() as u64);
            rest = after;
        }
        Ok(())
    }

    /// Bytes from `offset` to the end of its page.
    fn room(&self, offset: u64) -> usize {
        let page = 1_u64 << self.page_shift.min(63);
        usize::try_from(page - (offset & (page - 1))).unwrap_or(usize::MAX)
    }
}
