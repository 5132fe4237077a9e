//! Guest memory, as the bus master sees it: by DMA address, never outside of what the guest has mapped.
//!
//! It is mapped into this process, so its file must not shrink: an access past the end of a file is a SIGBUS, which
//! would end the process with all its cards. Files are sealed against that (`F_SEAL_SHRINK`) before they are mapped,
//! and files that cannot be sealed are refused. A memfd can be sealed unless its creator decided otherwise.

use std::{fs::File, io, sync::atomic::Ordering};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap, MmapRegion,
};

/// The guest's memory. Regions come and go while the guest boots.
#[derive(Default)]
pub struct GuestMemory {
    regions: GuestMemoryMmap,
}

/// An access outside guest memory. Nothing was read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// DMA address.
    pub address: u64,
    /// Length in bytes.
    pub length: usize,
}

impl GuestMemory {
    /// Maps `size` bytes of `file`, from `offset` on, as guest memory at DMA address `address`. The file is sealed
    /// against shrinking.
    ///
    /// # Errors
    ///
    /// The file can shrink, is too short or cannot be mapped, or the range overlaps another.
    pub fn map(&mut self, address: u64, size: u64, file: File, offset: u64) -> io::Result<()> {
        seal(&file)?;
        // Only now is the size final.
        if offset.checked_add(size).is_none_or(|end| file.metadata().is_ok_and(|file| end > file.len())) {
            return Err(io::Error::other("the region ends after its file"));
        }
        let size = usize::try_from(size).map_err(io::Error::other)?;
        let mapping = MmapRegion::from_file(FileOffset::new(file, offset), size).map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(address))
            .ok_or_else(|| io::Error::other("the region ends outside the address space"))?;
        self.regions = self.regions.insert_region(region.into()).map_err(io::Error::other)?;
        Ok(())
    }

    /// Removes the region of `size` bytes at `address`, if it exists.
    pub fn unmap(&mut self, address: u64, size: u64) {
        if let Ok((left, _)) = self.regions.remove_region(GuestAddress(address), size) {
            self.regions = left;
        }
    }

    /// Removes all regions.
    pub fn clear(&mut self) {
        self.regions = GuestMemoryMmap::default();
    }

    /// Reads `bytes.len()` bytes at `address`.
    ///
    /// # Errors
    ///
    /// [`Outside`] if they are not all guest memory.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Outside> {
        let outside = Outside { address, length: bytes.len() };
        self.regions.read_slice(bytes, GuestAddress(address)).map_err(|_| outside)
    }

    /// Reads `N` bytes at `address`.
    ///
    /// # Errors
    ///
    /// The same as for [`read`](Self::read).
    pub fn array<const N: usize>(&self, address: u64) -> Result<[u8; N], Outside> {
        let mut bytes = [0; N];
        self.read(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes `bytes` at `address`, all or none.
    ///
    /// # Errors
    ///
    /// [`Outside`] if they are not all guest memory.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Outside> {
        let outside = Outside { address, length: bytes.len() };
        if !self.contains(address, bytes.len()) {
            return Err(outside);
        }
        self.regions.write_slice(bytes, GuestAddress(address)).map_err(|_| outside)
    }

    /// Reads the big-endian word at `address`, which the guest's processors may be writing. What they wrote before it
    /// is visible afterwards.
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

    /// Writes the big-endian word at `address`. Everything written before is visible to whoever sees the word.
    ///
    /// # Errors
    ///
    /// [`Outside`], also where the address is not a multiple of 4.
    pub fn store32(&self, address: u64, value: u32) -> Result<(), Outside> {
        self.regions
            .store(value.to_be(), GuestAddress(address), Ordering::Release)
            .map_err(|_| Outside { address, length: 4 })
    }

    /// Writes one byte, such as an owner bit. Everything written before is visible to whoever sees the byte.
    ///
    /// # Errors
    ///
    /// [`Outside`].
    pub fn store8(&self, address: u64, value: u8) -> Result<(), Outside> {
        self.regions
            .store(value, GuestAddress(address), Ordering::Release)
            .map_err(|_| Outside { address, length: 1 })
    }

    /// Whether `length` bytes at `address` are all guest memory.
    pub fn contains(&self, address: u64, length: usize) -> bool {
        self.regions.check_range(GuestAddress(address), length)
    }
}

/// Makes sure that a file never becomes shorter.
fn seal(file: &File) -> io::Result<()> {
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    if seals.is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_SHRINK)) {
        return Ok(());
    }
    fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).map(drop).map_err(|errno| {
        let advice = "back guest memory with a memfd (QEMU: -object memory-backend-memfd,share=on)";
        io::Error::other(format!("its file cannot be sealed against shrinking ({errno}); {advice}"))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;

    /// A file for guest memory.
    pub(crate) fn file(size: u64) -> File {
        let file = File::from(memfd_create("guest", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        file.set_len(size).unwrap();
        file
    }

    fn memory(address: u64, size: u64) -> GuestMemory {
        let mut memory = GuestMemory::default();
        memory.map(address, size, file(size), 0).unwrap();
        memory
    }

    #[test]
    fn guest_memory_cannot_shrink_under_the_card() {
        let file = file(0x2000);
        let mut memory = GuestMemory::default();
        memory.map(0, 0x2000, file.try_clone().unwrap(), 0).unwrap();
        file.set_len(0x1000).unwrap_err();
        // The same file may be mapped twice, and may grow.
        file.set_len(0x3000).unwrap();
        memory.map(0x10000, 0x3000, file, 0).unwrap();
        assert_eq!(memory.array::<4>(0x1ffc), Ok([0; 4]));
    }

    #[test]
    fn a_file_that_can_shrink_is_refused() {
        let not_sealable = File::from(memfd_create("guest", MFdFlags::empty()).unwrap());
        for file in [tempfile::tempfile().unwrap(), not_sealable] {
            file.set_len(0x2000).unwrap();
            let error = GuestMemory::default().map(0, 0x2000, file, 0).unwrap_err().to_string();
            assert!(error.contains("memory-backend-memfd"), "{error}");
        }
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
        let error = GuestMemory::default().map(0, 0x2000, file(0x1000), 0).unwrap_err();
        assert_eq!(error.to_string(), "the region ends after its file");
    }
}
