//! Guest memory, as the bus master sees it: by DMA address, never outside of what the guest has mapped.

use std::{fs::File, io, sync::atomic::Ordering};

use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap, MmapRegion,
};

/// The guest's memory. Regions come and go while the guest boots.
#[derive(Default)]
pub struct GuestMemory {
    regions: GuestMemoryMmap,
}

/// An access that is not inside the guest's memory. Nothing was read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// DMA address of the access.
    pub address: u64,
    /// Its bytes.
    pub length: usize,
}

impl GuestMemory {
    /// Takes `size` bytes of `file`, from `offset` on, as the guest's memory at DMA address `address`.
    ///
    /// # Errors
    ///
    /// The range overlaps another, or the file cannot be mapped or is too short.
    pub fn map(&mut self, address: u64, size: u64, file: File, offset: u64) -> io::Result<()> {
        // Past the end of a file a mapping is there, and every access to it is a SIGBUS.
        if offset.checked_add(size).is_none_or(|end| file.metadata().is_ok_and(|file| end > file.len())) {
            return Err(io::Error::other("a region that ends after its file"));
        }
        let size = usize::try_from(size).map_err(io::Error::other)?;
        let mapping = MmapRegion::from_file(FileOffset::new(file, offset), size).map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(address))
            .ok_or_else(|| io::Error::other("a region that ends outside the address space"))?;
        self.regions = self.regions.insert_region(region.into()).map_err(io::Error::other)?;
        Ok(())
    }

    /// Forgets the region of `size` bytes at `address`, if there is such a one.
    pub fn unmap(&mut self, address: u64, size: u64) {
        if let Ok((left, _)) = self.regions.remove_region(GuestAddress(address), size) {
            self.regions = left;
        }
    }

    /// Forgets everything: the guest is gone.
    pub fn clear(&mut self) {
        self.regions = GuestMemoryMmap::default();
    }

    /// Reads `bytes.len()` bytes at `address`.
    ///
    /// # Errors
    ///
    /// [`Outside`] if not all of them are the guest's.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Outside> {
        let outside = Outside { address, length: bytes.len() };
        self.regions.read_slice(bytes, GuestAddress(address)).map_err(|_| outside)
    }

    /// Reads `N` bytes at `address`.
    ///
    /// # Errors
    ///
    /// As of [`read`](Self::read).
    pub fn array<const N: usize>(&self, address: u64) -> Result<[u8; N], Outside> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes `bytes` at `address`, all or none.
    ///
    /// # Errors
    ///
    /// [`Outside`] if not all of them are the guest's.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Outside> {
        let outside = Outside { address, length: bytes.len() };
        if !self.contains(address, bytes.len()) {
            return Err(outside);
        }
        self.regions.write_slice(bytes, GuestAddress(address)).map_err(|_| outside)
    }

    /// Reads the big-endian word at `address`, which the guest's processors may be writing: what they wrote
    /// before it is seen after it.
    ///
    /// # Errors
    ///
    /// [`Outside`], also where the address is not a multiple of 4.
    pub fn load32(&self, address: u64) -> Result<u32, Outside> {
        self.regions
            .load::<u32>(GuestAddress(address), Ordering::Acquire)
            .map(u32::from_be)
            .map_err(|_| Outside { address, length: 4 })
    }

    /// Writes the big-endian word at `address` after everything written before.
    ///
    /// # Errors
    ///
    /// [`Outside`], also where the address is not a multiple of 4.
    pub fn store32(&self, address: u64, value: u32) -> Result<(), Outside> {
        self.regions
            .store(value.to_be(), GuestAddress(address), Ordering::Release)
            .map_err(|_| Outside { address, length: 4 })
    }

    /// Writes one byte after everything written before: an owner bit.
    ///
    /// # Errors
    ///
    /// [`Outside`].
    pub fn store8(&self, address: u64, value: u8) -> Result<(), Outside> {
        self.regions
            .store(value, GuestAddress(address), Ordering::Release)
            .map_err(|_| Outside { address, length: 1 })
    }

    /// Whether `length` bytes at `address` are all the guest's.
    pub fn contains(&self, address: u64, length: usize) -> bool {
        self.regions.check_range(GuestAddress(address), length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(address: u64, size: u64) -> GuestMemory {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        let mut memory = GuestMemory::default();
        memory.map(address, size, file, 0).unwrap();
        memory
    }

    #[test]
    fn what_is_written_is_read() {
        let memory = memory(0x1000, 0x2000);
        memory.write(0x1ffe, &[1, 2, 3, 4]).unwrap();
        assert_eq!(memory.array::<4>(0x1ffe), Ok([1, 2, 3, 4]));
        memory.store32(0x1000, 0x0102_0304).unwrap();
        assert_eq!(memory.array::<4>(0x1000), Ok([1, 2, 3, 4]));
        assert_eq!(memory.load32(0x1000), Ok(0x0102_0304));
    }

    #[test]
    fn nothing_outside_is_touched() {
        let mut memory = memory(0x1000, 0x1000);
        assert_eq!(memory.write(0x1ffe, &[1; 4]), Err(Outside { address: 0x1ffe, length: 4 }));
        assert_eq!(memory.array::<2>(0x1ffe), Ok([0, 0]));
        assert!(memory.array::<1>(0xfff).is_err());
        assert!(memory.array::<8>(u64::MAX - 3).is_err());
        assert!(memory.load32(0x1002).is_err());
        memory.unmap(0x1000, 0x1000);
        assert!(memory.array::<1>(0x1000).is_err());
    }

    #[test]
    fn a_file_that_is_too_short_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x1000).unwrap();
        assert!(GuestMemory::default().map(0, 0x2000, file, 0).is_err());
    }
}
