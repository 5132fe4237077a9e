//! Writer of cpio archives in the format of an initramfs ("newc").

use std::collections::BTreeSet;
use std::io::{self, Write};

const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const REGULAR: u32 = 0o100_000;
const DEVICE: u32 = 0o020_600;

/// An archive being written. Missing folders of a path are added.
pub struct Archive<W: Write> {
    out: W,
    made: BTreeSet<String>,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// Creates an archive without entries.
    pub fn new(out: W) -> Self {
        Self { out, made: BTreeSet::new(), entries: 0 }
    }

    /// Adds a file; `mode` holds its permission bits.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, REGULAR | mode, content, (0, 0))
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, LINK, target.as_bytes(), (0, 0))
    }

    /// Adds a folder.
    pub fn folder(&mut self, path: &str) -> io::Result<()> {
        self.parents(path)?;
        let name = path.trim_matches('/');
        if self.made.insert(name.to_owned()) { self.entry(name, FOLDER, &[], (0, 0)) } else { Ok(()) }
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, DEVICE, &[], (major, minor))
    }

    /// Writes the end of the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[], (0, 0))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, path: &str) -> io::Result<()> {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            if self.made.insert(path[..at].to_owned()) {
                self.entry(&path[..at], FOLDER, &[], (0, 0))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8], device: (u32, u32)) -> io::Result<()> {
        let name = path.trim_matches('/');
        self.entries += 1;
        let size =
            u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{name}: too large")))?;
        // Inode, mode, owner, group, links, time, size, device, special device, name's length, no checksum.
        let fields =
            [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name.len() as u32 + 1, 0];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        const HEADER: usize = 6 + 13 * 8;
        self.out.write_all(name.as_bytes())?;
        self.pad(HEADER + name.len(), 1)?;
        self.out.write_all(content)?;
        self.pad(content.len(), 0)
    }

    /// Writes at least `least` zeroes, up to a multiple of four.
    fn pad(&mut self, written: usize, least: usize) -> io::Result<()> {
        let zeroes = (written + least).next_multiple_of(4) - written;
        self.out.write_all(&[0; 8][..zeroes])
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_are_aligned_and_folders_come_first() -> std::io::Result<()> {
        let mut archive = Archive::new(Vec::new());
        archive.file("/a/b", 0o644, b"hello")?;
        archive.file("a/c", 0o644, b"")?;
        let bytes = archive.finish()?;
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(text.matches("070701").count(), 4);
        let (folder, file) = (text.find("a\0"), text.find("a/b\0"));
        assert!(folder < file && folder.is_some());
        assert!(text.contains("hello\0\0\x00070701"));
        Ok(())
    }
}
