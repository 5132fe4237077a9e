//! The parts of an ELF file that an image depends on.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection};

use crate::Result;

type Header = FileHeader64<Endianness>;

/// A 64-bit ELF file.
pub struct Elf<'data>(ElfFile64<'data, Endianness>);

impl<'data> Elf<'data> {
    /// Reads a file's headers; `name` is for the error.
    pub fn parse(name: &str, bytes: &'data [u8]) -> Result<Self> {
        ElfFile64::parse(bytes).map(Self).map_err(|error| format!("{name}: not a 64-bit ELF file: {error}"))
    }

    /// Whether it is a program for x86-64.
    pub fn is_x86_64(&self) -> bool {
        self.0.architecture() == object::Architecture::X86_64
    }

    /// Whether it needs a dynamic loader.
    pub fn has_interpreter(&self) -> bool {
        self.0.elf_program_headers().iter().any(|header| header.p_type(self.0.endian()) == PT_INTERP)
    }

    /// Returns the path of its dynamic loader, if it has one.
    pub fn interpreter(&self) -> Option<PathBuf> {
        let endian = self.0.endian();
        let mut headers = self.0.elf_program_headers().iter();
        let path = headers.find_map(|header| header.interpreter(endian, self.0.data()).ok().flatten())?;
        Some(OsStr::from_bytes(path).into())
    }

    /// Whether it is a kernel with a PVH entry point, which QEMU can start directly.
    pub fn has_pvh_entry(&self) -> bool {
        const PHYS32_ENTRY: u32 = 18;
        let endian = self.0.endian();
        let segments = self.0.elf_program_headers().iter();
        let notes = segments.filter_map(|segment| segment.notes(endian, self.0.data()).ok().flatten());
        notes.into_iter().any(|mut notes| {
            std::iter::from_fn(|| notes.next().ok().flatten())
                .any(|note| note.name() == b"Xen" && note.n_type(endian) == PHYS32_ENTRY)
        })
    }

    /// Returns the names of the libraries it links to, the loader included.
    pub fn needed(&self, name: &str) -> Result<Vec<String>> {
        let bad = |error: object::Error| format!("{name}: {error}");
        let endian = self.0.endian();
        let header: &Header = self.0.elf_header();
        let sections = header.sections(endian, self.0.data()).map_err(bad)?;
        let Some((dynamic, strings)) = sections.dynamic(endian, self.0.data()).map_err(bad)? else {
            return Ok(Vec::new());
        };
        let strings = sections.strings(endian, self.0.data(), strings).map_err(bad)?;
        let mut needed = Vec::new();
        for entry in dynamic.iter().filter(|entry| entry.tag32(endian) == Some(object::elf::DT_NEEDED)) {
            let library = entry.string(endian, strings).map_err(bad)?;
            needed.push(String::from_utf8_lossy(library).into_owned());
        }
        Ok(needed)
    }

    /// The build id, in hexadecimal.
    pub fn build_id(&self) -> Option<String> {
        let id = self.0.build_id().ok().flatten()?;
        Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The bytes of a section.
    pub fn section(&self, name: &str) -> Option<&'data [u8]> {
        self.0.section_by_name(name)?.data().ok()
    }
}
