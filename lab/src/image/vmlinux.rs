//! The uncompressed kernel of a compressed image.
//!
//! An emulated processor takes seconds to decompress a kernel, the host a moment. QEMU starts the ELF file by its PVH entry
//! point. A kernel without one, or with a compression that is not supported here, boots from its image.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::elf::Elf;
use crate::{Result, cache};

/// Offsets in the boot protocol's header.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

const XZ: &[u8] = b"\xfd7zXZ\0";

/// Returns the file that boots fastest: the uncompressed kernel, or the image itself.
pub fn bootable(image: &Path, key: u64) -> Result<PathBuf> {
    let bytes = super::read(image)?;
    let Some(packed) = payload(&bytes).filter(|packed| packed.starts_with(XZ)) else {
        return Ok(image.to_owned());
    };
    let path = cache::produce(&format!("images/vmlinux-{key:016x}"), "kernel, decompressed", |path, _| {
        let mut kernel = Vec::new();
        let name = image.display();
        lzma_rust2::XzReader::new(packed, false)
            .read_to_end(&mut kernel)
            .map_err(|error| format!("{name}: {error}"))?;
        // An empty file says that this kernel has to boot from its image.
        if !Elf::parse(&name.to_string(), &kernel)?.has_pvh_entry() {
            kernel.clear();
        }
        fs::write(path, kernel).map_err(|error| format!("{}: {error}", path.display()))
    })?;
    let usable = fs::metadata(&path).is_ok_and(|data| data.len() > 0);
    Ok(if usable { path } else { image.to_owned() })
}

/// The compressed kernel in an image.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let (at, magic) = MAGIC;
    if image.get(at..)?.get(..magic.len())? != magic {
        return None;
    }
    let number = |at: usize| {
        let bytes = image.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let sectors = match *image.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (sectors + 1) * 512 + number(PAYLOAD_OFFSET)?;
    // The compressed stream is followed by four bytes with the kernel's size.
    image.get(start..)?.get(..number(PAYLOAD_LENGTH)?.checked_sub(4)?)
}

#[cfg(test)]
mod tests {
    use super::{MAGIC, PAYLOAD_LENGTH, PAYLOAD_OFFSET, SETUP_SECTORS, payload};

    #[test]
    fn the_payload_is_found_and_nothing_else_is_taken_for_one() {
        let mut image = vec![0; 2048];
        assert_eq!(payload(&image), None);
        image[MAGIC.0..MAGIC.0 + 4].copy_from_slice(MAGIC.1);
        image[SETUP_SECTORS] = 1;
        image[PAYLOAD_OFFSET] = 8;
        image[PAYLOAD_LENGTH] = 7;
        image[1032..1039].copy_from_slice(b"abc\x01\0\0\0");
        assert_eq!(payload(&image), Some(&b"abc"[..]));
        image[PAYLOAD_LENGTH + 3] = 0xff;
        assert_eq!(payload(&image), None);
    }
}
