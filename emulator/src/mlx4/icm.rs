//! InterConnect context memory: the card's tables, which the driver keeps in guest memory and maps by MAP_ICM.
//!
//! The card has its own address space for them, mapped in pages of 4 KiB.

use std::collections::BTreeMap;

use crate::bus::memory::{GuestMemory, Outside};

/// Bytes of an ICM page.
pub const PAGE: u64 = 4096;

/// The mapping from ICM pages to guest memory.
#[derive(Default)]
pub struct Icm {
    pages: BTreeMap<u64, u64>,
}

/// Why the card cannot access ICM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmError {
    /// The page of this ICM address is not mapped.
    Unmapped(u64),
    /// The page is mapped to an address outside guest memory.
    Outside(Outside),
}

impl Icm {
    /// Maps the page at ICM address `virt` to DMA address `dma`; both are multiples of [`PAGE`].
    pub fn map(&mut self, virt: u64, dma: u64) {
        self.pages.insert(virt, dma);
    }

    /// Unmaps up to `pages` pages from ICM address `virt` on.
    pub fn unmap(&mut self, virt: u64, pages: u64) {
        let end = virt.saturating_add(pages.saturating_mul(PAGE));
        let mut after = self.pages.split_off(&virt);
        self.pages.append(&mut after.split_off(&end));
    }

    /// Unmaps all pages.
    pub fn clear(&mut self) {
        self.pages.clear();
    }

    /// The number of mapped pages.
    pub fn mapped(&self) -> usize {
        self.pages.len()
    }

    /// The DMA address of ICM address `virt`.
    pub fn dma(&self, virt: u64) -> Option<u64> {
        self.pages.get(&(virt & !(PAGE - 1))).map(|page| page + (virt & (PAGE - 1)))
    }

    /// Reads at ICM address `virt`; the range may cross pages.
    ///
    /// # Errors
    ///
    /// The first part that cannot be accessed.
    pub fn read(&self, memory: &GuestMemory, virt: u64, bytes: &mut [u8]) -> Result<(), IcmError> {
        let mut at = virt;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(PAGE - at % PAGE).unwrap_or(rest.len());
            let (part, after) = rest.split_at_mut(room.min(rest.len()));
            let dma = self.dma(at).ok_or(IcmError::Unmapped(at))?;
            memory.read(dma, part).map_err(IcmError::Outside)?;
            at = at.wrapping_add(part.len() as u64);
            rest = after;
        }
        Ok(())
    }

    /// Writes at ICM address `virt`; the range may cross pages.
    ///
    /// # Errors
    ///
    /// The first part that cannot be accessed; the parts before it are written.
    pub fn write(&self, memory: &GuestMemory, virt: u64, bytes: &[u8]) -> Result<(), IcmError> {
        let mut at = virt;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(PAGE - at % PAGE).unwrap_or(rest.len());
            let (part, after) = rest.split_at(room.min(rest.len()));
            let dma = self.dma(at).ok_or(IcmError::Unmapped(at))?;
            memory.write(dma, part).map_err(IcmError::Outside)?;
            at = at.wrapping_add(part.len() as u64);
            rest = after;
        }
        Ok(())
    }
}
