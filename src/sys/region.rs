//! Memory that somebody else may write at any time: the kernel's queues, and memory that a device reaches.
//!
//! It is never lent as a Rust reference. Indices are atomics. A ring's slots are copied in and out by plain accesses, since a slot
//! belongs to one side at a time and the indices hand it over. What a device may write at any moment is copied by
//! volatile accesses. All of it inside bounds that are checked at every call.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::copy::{copy_few, copy_in, copy_out};
use super::process::Process;

/// A piece of shared memory, unmapped when dropped.
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    /// The length for accesses that need alignment: 0 where the base is not aligned to 8.
    aligned_len: usize,
    _backing: Backing,
}

#[allow(dead_code)] // held for its Drop
enum Backing {
    Map(MmapRaw),
    /// A mapping that children do not inherit.
    Private(Private),
    /// Somebody else's memory, as `Pd::register` was promised it.
    Foreign,
    /// A part of another region, which it keeps.
    Part(Arc<Region>),
    /// Tests share it with the thread that plays the device.
    Heap(Arc<Vec<AtomicU64>>),
}

// SAFETY: a region is an address range with no thread affinity; shared access through `&Region` is atomic or only reads,
// and plain writes need `&mut Region`.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// A mapping that is not in a child process (`MADV_DONTFORK`).
struct Private {
    map: ManuallyDrop<MmapRaw>,
    mapped_by: Process,
}

impl Private {
    fn new(map: MmapRaw) -> Result<Self, Errno> {
        // SAFETY: the pages are this mapping's; they stay as they are in this process.
        Errno::result(unsafe { libc::madvise(map.as_mut_ptr().cast(), map.len(), libc::MADV_DONTFORK) })?;
        Ok(Self { map: ManuallyDrop::new(map), mapped_by: Process::current() })
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // In a child the addresses may be in use for something else by now.
        if self.mapped_by.is_current() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}

impl Region {
    /// Maps `len` bytes of a device file, shared, for reading and writing. A child process does not inherit the mapping.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` if `offset` is not a multiple of the page size.
    pub(crate) fn map(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self, Errno> {
        // memmap2 would map the page before, and return an address in the middle of it.
        if !offset.is_multiple_of(super::linux::page_size() as u64) {
            return Err(Errno::EINVAL);
        }
        let map = MmapOptions::new().offset(offset).len(len).map_raw(&fd).map_err(errno)?;
        Self::private(map, len)
    }

    /// Fresh zeroed pages for a device's queue, which a child process does not have: the device goes on using the parent's.
    pub(crate) fn queue(len: usize) -> Result<Self, Errno> {
        let map = MmapOptions::new().len(len).map_anon().map_err(errno)?;
        Self::private(map.into(), len)
    }

    fn private(map: MmapRaw, len: usize) -> Result<Self, Errno> {
        let base = NonNull::new(map.as_mut_ptr()).ok_or(Errno::ENOMEM)?;
        Ok(Self::new(base, len, Backing::Private(Private::new(map)?)))
    }

    /// Fresh zeroed pages.
    pub(crate) fn anonymous(len: usize) -> Result<Self, Errno> {
        let map = MmapOptions::new().len(len).map_anon().map_err(errno)?;
        Self::of_map(map.into(), len)
    }

    /// Bytes of a huge page.
    pub(crate) const HUGE_PAGE: usize = 2 << 20;

    /// Fresh zeroed huge pages of this process. Their number is rounded up; the region has `len` bytes.
    pub(crate) fn huge(len: usize) -> Result<Self, Errno> {
        let whole = len.checked_next_multiple_of(Self::HUGE_PAGE).ok_or(Errno::ENOMEM)?;
        let bits = Self::HUGE_PAGE.trailing_zeros() as u8;
        let map = MmapOptions::new().len(whole).huge(Some(bits)).map_anon().map_err(errno)?;
        Self::of_map(map.into(), len)
    }

    /// Memory that belongs to somebody else; never unmapped here.
    ///
    /// # Safety
    /// `base` is valid for reads and writes of `len` bytes for as long as the region lives, and no Rust reference to
    /// it is used meanwhile.
    pub(crate) unsafe fn foreign(base: NonNull<u8>, len: usize) -> Self {
        Self::new(base, len, Backing::Foreign)
    }

    fn new(base: NonNull<u8>, len: usize, backing: Backing) -> Self {
        let aligned_len = if base.addr().get().is_multiple_of(8) { len } else { 0 };
        Self { base, len, aligned_len, _backing: backing }
    }

    fn of_map(map: MmapRaw, len: usize) -> Result<Self, Errno> {
        let base = NonNull::new(map.as_mut_ptr()).ok_or(Errno::ENOMEM)?;
        Ok(Self::new(base, len, Backing::Map(map)))
    }

    /// Zeroed heap memory, for what only this process uses and for tests in which another thread plays the device.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(crate) fn zeroed(len: usize) -> Result<Self, Errno> {
        let mut words = Vec::new();
        words.try_reserve_exact(len.div_ceil(8)).map_err(|_| Errno::ENOMEM)?;
        // Atomics because they may be written through a shared pointer.
        words.resize_with(len.div_ceil(8), AtomicU64::default);
        let base = NonNull::from(words.as_slice()).cast();
        Ok(Self::new(base, len, Backing::Heap(Arc::new(words))))
    }

    /// As [`zeroed`](Self::zeroed), for tests.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub(crate) fn heap(len: usize) -> Self {
        Self::zeroed(len).unwrap()
    }

    /// A second view of the same heap memory, for the peer in a test. Each view keeps it.
    #[cfg(test)]
    pub(crate) fn alias(&self) -> Self {
        let Backing::Heap(words) = &self._backing else { panic!("only heap memory has a second view") };
        Self::new(self.base, self.len, Backing::Heap(words.clone()))
    }

    /// The bytes before `at` and those from there on, each with an owner of its own.
    pub(crate) fn split(self, at: usize) -> (Self, Self) {
        let (base, len) = (self.base, self.len);
        assert!(at <= len, "a place within the region");
        let whole = Arc::new(self);
        // SAFETY: within the region.
        let middle = unsafe { base.add(at) };
        let first = Self::new(base, at, Backing::Part(Arc::clone(&whole)));
        (first, Self::new(middle, len - at, Backing::Part(whole)))
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first byte.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The address of the first byte, for the kernel.
    pub(crate) fn address(&self) -> u64 {
        self.base.as_ptr().expose_provenance() as u64
    }

    /// Returns the address of the first `len` bytes for a command by which a device gets to access them; `None` if the region is
    /// shorter, or if it is not of pages that it has mapped itself. Those are never used for anything else while the kernel has them
    /// pinned, even after they have been unmapped; memory of the heap or of somebody else may be.
    pub(crate) fn own_pages(&self, len: usize) -> Option<u64> {
        let mapped = match &self._backing {
            Backing::Map(_) | Backing::Private(_) => true,
            Backing::Part(whole) => matches!(whole._backing, Backing::Map(_) | Backing::Private(_)),
            Backing::Foreign | Backing::Heap(_) => false,
        };
        (mapped && len <= self.len).then(|| self.address())
    }

    /// The address of `size` bytes at `offset`, aligned to `align`.
    #[inline]
    pub(super) fn at(&self, offset: usize, size: usize, align: usize) -> *mut u8 {
        let len = if align == 1 { self.len } else { self.aligned_len };
        let inside = offset.checked_add(size).is_some_and(|end| end <= len);
        if !inside || !offset.is_multiple_of(align) {
            outside(offset, size, align, len);
        }
        // SAFETY: `offset` is within the region, checked above.
        unsafe { self.base.as_ptr().add(offset) }
    }

    fn atomic(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, 4, 4).cast();
        // SAFETY: inside the region, aligned, and everybody who shares the region accesses its index words atomically.
        unsafe { AtomicU32::from_ptr(at) }
    }

    /// Reads an index word, for tests that play the other side; what its writer wrote before it is visible after.
    #[cfg(test)]
    pub(crate) fn load_acquire(&self, offset: usize) -> u32 {
        self.atomic(offset).load(Ordering::Acquire)
    }

    /// Reads a word whose neighbours do not matter.
    pub(crate) fn load_relaxed(&self, offset: usize) -> u32 {
        self.atomic(offset).load(Ordering::Relaxed)
    }

    /// Writes an index word after everything written or read before it, for tests that play the other side.
    #[cfg(test)]
    pub(crate) fn store_release(&self, offset: usize, value: u32) {
        self.atomic(offset).store(value, Ordering::Release);
    }

    /// Copies a structure out, for tests that play the other side.
    #[cfg(test)]
    pub(crate) fn read<T: FromBytes>(&self, offset: usize) -> T {
        let at = self.at(offset, size_of::<T>(), align_of::<T>()).cast();
        // SAFETY: inside the region, aligned, and any bytes make a T.
        unsafe { std::ptr::read(at) }
    }

    /// Copies a structure in, for tests that play the other side.
    #[cfg(test)]
    pub(crate) fn write<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) {
        self.write_bytes(offset, value.as_bytes());
    }

    /// The slot of at least `N` bytes at `offset`, which the other side has handed over, for writing.
    #[inline]
    pub(crate) fn slot<const N: usize>(&mut self, offset: usize) -> Slot<'_, N> {
        let base = self.at(offset, N, align_of::<u64>());
        Slot { base, _region: PhantomData }
    }

    /// Copies bytes into a slot that the other side has handed over.
    #[inline]
    pub(crate) fn fill(&mut self, offset: usize, bytes: &[u8]) {
        let at = self.at(offset, bytes.len(), 1);
        // SAFETY: inside the region, and `bytes` cannot overlap memory that is never lent as a reference.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
    }

    /// Copies bytes in.
    pub(crate) fn write_bytes(&mut self, offset: usize, bytes: &[u8]) {
        let at = self.at(offset, bytes.len(), 1);
        // SAFETY: inside the region, and `bytes` cannot overlap memory that is never lent as a reference.
        unsafe { copy_in(bytes.as_ptr(), at, bytes.len()) };
    }

    /// Copies bytes out.
    pub(crate) fn read_bytes(&self, offset: usize, bytes: &mut [u8]) {
        let at = self.at(offset, bytes.len(), 1);
        // SAFETY: as in `write_bytes`, the other way round.
        unsafe { copy_out(at, bytes.as_mut_ptr(), bytes.len()) };
    }
}

#[cold]
#[inline(never)]
#[allow(clippy::panic)] // offsets are this crate's own
fn outside(offset: usize, size: usize, align: usize, len: usize) -> ! {
    panic!("{size} bytes at {offset} are not in the region of {len} bytes, aligned to {align}")
}

/// The first `N` bytes of a slot: where they are was checked once, so each store costs only itself.
pub(crate) struct Slot<'r, const N: usize> {
    pub(super) base: *mut u8,
    pub(super) _region: PhantomData<&'r mut Region>,
}

impl<'r, const N: usize> Slot<'r, N> {
    /// The first `M` bytes of it.
    #[inline]
    pub(crate) fn head<const M: usize>(self) -> Slot<'r, M> {
        const { assert!(M <= N) };
        Slot { base: self.base, _region: PhantomData }
    }

    /// Copies a structure in, `offset` bytes from the slot's beginning.
    #[inline]
    pub(crate) fn put<T: IntoBytes + Immutable>(&mut self, offset: usize, value: T) {
        // Offsets are constants: nothing of this check is left in the program.
        assert!(offset + size_of::<T>() <= N && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: within the slot, whose base is aligned to 8 and which the region is borrowed for.
        unsafe { self.base.add(offset).cast::<T>().write(value) };
    }

    /// Copies a structure in at the slot's beginning, without its first `skip` bytes.
    #[inline]
    pub(crate) fn put_behind<T: IntoBytes + Immutable>(&mut self, skip: usize, value: &T) {
        assert!(skip <= size_of::<T>() && size_of::<T>() <= N);
        // SAFETY: within the slot and within the structure, which is not in the slot.
        unsafe {
            self.base
                .add(skip)
                .copy_from_nonoverlapping(value.as_bytes()[skip..].as_ptr(), size_of::<T>() - skip)
        };
    }
}

/// The first `N` bytes of an entry: where they are was checked once, so each load costs only itself.
pub(crate) struct Entry<'r, const N: usize> {
    pub(super) base: *const u8,
    pub(super) _region: PhantomData<&'r Region>,
}

impl<const N: usize> Entry<'_, N> {
    /// Reads the word that says whose the entry is; what orders the rest after it is the caller's choice.
    #[inline]
    pub(crate) fn owner(&self, offset: usize) -> u32 {
        // Offsets are constants: nothing of this check is left in the program.
        assert!(offset + 4 <= N && offset.is_multiple_of(4));
        // SAFETY: within the entry, aligned, and its other side writes this word at once.
        unsafe { AtomicU32::from_ptr(self.base.add(offset).cast_mut().cast()) }.load(Ordering::Relaxed)
    }

    /// Copies a structure out, `offset` bytes from the entry's beginning.
    #[inline]
    pub(crate) fn get<T: FromBytes>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= N && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: within the entry, whose base is aligned to 8, and any bytes make a T.
        unsafe { self.base.add(offset).cast::<T>().read() }
    }
}

/// A word that a region's other side reads at any time. It keeps the region; where it lies was checked once.
pub(crate) struct Word {
    at: NonNull<AtomicU32>,
    _region: Arc<Region>,
}

// SAFETY: every access through it is atomic, and it keeps the memory.
unsafe impl Send for Word {}
// SAFETY: as above.
unsafe impl Sync for Word {}

impl std::fmt::Debug for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Word({:p})", self.at)
    }
}

impl Word {
    /// The word at `offset`.
    pub(crate) fn new(region: &Arc<Region>, offset: usize) -> Self {
        Self { at: NonNull::from(region.atomic(offset)), _region: Arc::clone(region) }
    }

    /// Writes it; what must be seen before it is the caller's to order.
    #[inline]
    pub(crate) fn store(&self, value: u32) {
        // SAFETY: the region is kept, and the place was checked when this was made.
        unsafe { self.at.as_ref() }.store(value, Ordering::Relaxed);
    }
}

impl<const N: usize> Slot<'_, N> {
    /// Copies a structure out that was put there before.
    #[inline]
    pub(crate) fn get<T: FromBytes>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= N && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: as in `put`, and any bytes make a T.
        unsafe { self.base.add(offset).cast::<T>().read() }
    }

    /// Copies bytes in, a few: a call to the C library's copying would take longer than they do.
    #[inline(always)]
    pub(crate) fn fill(&mut self, offset: usize, bytes: &[u8]) {
        const { assert!(N <= 64) };
        let len = bytes.len();
        if offset > N || len > N - offset {
            outside(offset, len, 1, N);
        }
        // SAFETY: within the slot, and `bytes` cannot overlap memory that is never lent as a reference.
        unsafe { copy_few(bytes.as_ptr(), self.base.add(offset), len) };
    }

    /// Writes the word that hands the slot over, at once; what must be seen before it is the caller's to order.
    #[inline]
    pub(crate) fn hand_over(&mut self, offset: usize, value: u32) {
        assert!(offset + 4 <= N && offset.is_multiple_of(4));
        // SAFETY: within the slot, aligned, and its other side reads this word at once.
        unsafe { AtomicU32::from_ptr(self.base.add(offset).cast()) }.store(value, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Region({} bytes at {:p})", self.len, self.base)
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_at_any_alignment() {
        let mut region = Region::heap(64);
        let bytes: Vec<u8> = (0..40).collect();
        for offset in 0..24 {
            region.write_bytes(offset, &bytes);
            let mut back = [0; 40];
            region.read_bytes(offset, &mut back);
            assert_eq!(back, bytes[..]);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "maps memory")]
    fn a_device_gets_pages_that_were_mapped_for_it_and_no_more() {
        let region = Region::anonymous(8192).unwrap();
        assert_eq!((region.own_pages(8192), region.own_pages(8193)), (Some(region.address()), None));
        let (first, second) = region.split(4096);
        assert_eq!((first.own_pages(4097), second.own_pages(4096)), (None, Some(first.address() + 4096)));
        assert_eq!(Region::heap(64).own_pages(8), None);
        let mut bytes = [0u64; 4];
        // SAFETY: `bytes` outlives the region and is not used meanwhile.
        let foreign = unsafe { Region::foreign(NonNull::from(&mut bytes).cast::<u8>(), 32) };
        assert_eq!(foreign.own_pages(8), None);
    }

    #[test]
    #[should_panic(expected = "not in the region")]
    fn outside_is_refused() {
        Region::heap(64).write(64, 1u64);
    }

    #[test]
    #[should_panic(expected = "not in the region")]
    fn an_end_beyond_the_address_space_is_refused() {
        Region::heap(64).read_bytes(usize::MAX, &mut [0; 2]);
    }

    #[test]
    #[should_panic(expected = "aligned to 8")]
    fn it_is_the_address_that_must_be_aligned() {
        let mut bytes = [0u64; 4];
        // SAFETY: `bytes` outlives the region and is not used meanwhile.
        let mut region = unsafe { Region::foreign(NonNull::from(&mut bytes).cast::<u8>().add(4), 24) };
        let _ = region.slot::<8>(0);
    }
}
