//! Disjoint parts of a region, each with an owner of its own.

use std::ptr::NonNull;
use std::sync::Arc;

use super::copy::{copy_in, copy_out};
use super::region::Region;

/// Bytes of a region that no other part contains. It keeps the region mapped.
///
/// Reading takes `&self` and writing `&mut self`, and parts never overlap: so no two threads race on a byte.
pub(crate) struct Part {
    base: NonNull<u8>,
    len: usize,
    region: Arc<Region>,
}

// SAFETY: a part is an address range with no thread affinity; `&Part` only reads, and writing needs `&mut Part`.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl Part {
    /// All of a region, and another owner of it, which keeps it mapped but has no access.
    pub(crate) fn whole(region: Region) -> (Self, Mapped) {
        let region = Arc::new(region);
        let part = Self { base: region.base(), len: region.len(), region: Arc::clone(&region) };
        (part, Mapped(region))
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first byte.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The bytes before `at` and those from there on; nothing where `at` is beyond the end.
    pub(crate) fn split_at(self, at: usize) -> Option<(Self, Self)> {
        let rest = self.len.checked_sub(at)?;
        // SAFETY: `at` is within the region, or its end.
        let middle = unsafe { self.base.add(at) };
        let tail = Self { base: middle, len: rest, region: Arc::clone(&self.region) };
        Some((Self { len: at, ..self }, tail))
    }

    /// Joins a part with the one that follows it. Gives both back where they do not follow each other.
    pub(crate) fn join(self, next: Self) -> Result<Self, (Self, Self)> {
        let adjacent = self.base.addr().get() + self.len == next.base.addr().get();
        if adjacent && Arc::ptr_eq(&self.region, &next.region) {
            Ok(Self { len: self.len + next.len, ..self })
        } else {
            Err((self, next))
        }
    }

    /// Copies bytes in; false where they are not all within the part.
    #[must_use]
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let inside = self.contains(offset, bytes.len());
        if inside {
            // SAFETY: within the part, and `bytes` cannot overlap memory that is never lent as a reference.
            unsafe { copy_in(bytes.as_ptr(), self.base.as_ptr().add(offset), bytes.len()) };
        }
        inside
    }

    /// Copies bytes out; false where they are not all within the part.
    #[must_use]
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) -> bool {
        let inside = self.contains(offset, bytes.len());
        if inside {
            // SAFETY: as in `write`, the other way round.
            unsafe { copy_out(self.base.as_ptr().add(offset), bytes.as_mut_ptr(), bytes.len()) };
        }
        inside
    }

    fn contains(&self, offset: usize, length: usize) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.len)
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Part({} bytes at {:p})", self.len, self.base)
    }
}

/// Keeps a region mapped whatever becomes of its parts.
#[derive(Debug)]
pub(crate) struct Mapped(Arc<Region>);

impl Mapped {
    /// The address of the region's first byte, as the kernel needs it.
    pub(crate) fn address(&self) -> u64 {
        self.0.address()
    }

    /// Length of the region in bytes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Leaves the region mapped until the process ends.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(part: &Part, offset: usize, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        part.read(offset, &mut bytes).then_some(bytes)
    }

    #[test]
    fn threads_write_disjoint_parts_at_once() {
        let (whole, mapped) = Part::whole(Region::heap(100));
        let (left, right) = whole.split_at(37).unwrap();
        let (middle, right) = right.split_at(26).unwrap();
        let threads: Vec<_> = [(left, 1u8), (middle, 2), (right, 3)]
            .into_iter()
            .map(|(mut part, byte)| {
                std::thread::spawn(move || {
                    let bytes = vec![byte; part.len()];
                    assert!(
                        part.write(0, &bytes) && !part.write(1, &bytes) && !part.write(usize::MAX, &[0; 2])
                    );
                    assert_eq!(read(&part, 0, part.len()), Some(bytes));
                    part
                })
            })
            .collect();
        let [left, middle, right] =
            <[Part; 3]>::try_from(threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>())
                .unwrap();
        let (left, right) = left.join(right).unwrap_err();
        let whole = left.join(middle).unwrap().join(right).unwrap();
        assert_eq!((whole.len(), mapped.len()), (100, 100));
        assert_eq!(read(&whole, 36, 28), Some([&[1][..], &[2; 26], &[3]].concat()));
        assert_eq!(read(&whole, 73, 28), None);
    }

    #[test]
    fn parts_of_two_regions_do_not_join() {
        let (a, _) = Part::whole(Region::heap(8));
        let (b, _) = Part::whole(Region::heap(8));
        assert!(a.split_at(9).is_none());
        let (whole, _) = Part::whole(Region::heap(8));
        let (left, right) = whole.split_at(8).unwrap();
        assert_eq!((left.len(), right.len()), (8, 0));
        assert!(b.join(left).is_err());
        drop(right);
    }
}
