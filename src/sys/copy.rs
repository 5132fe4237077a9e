//! Copies between ordinary memory and memory that a device or the kernel accesses.
//!
//! Volatile copies are for memory that its other side may access at any moment. Each access on the shared side is volatile, aligned
//! and as wide as a word where a whole word is left, so the compiler neither repeats nor drops one. The ordinary side may have any
//! alignment. What is being written at the same time may come out torn.

/// Bytes of a block that [`copy_in`] and [`copy_out`] copy in one pass of their loop. Passes of single words take about 1.5
/// times as long for 4 KiB.
const BLOCK: usize = 64;
const WORD: usize = size_of::<u64>();

/// Copies `len` bytes from ordinary memory to shared memory.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes, and they do not overlap.
pub(super) unsafe fn copy_in(from: *const u8, to: *mut u8, len: usize) {
    let head = len.min(to.addr().wrapping_neg() % WORD);
    let mut done = 0;
    // SAFETY: every access is within `len` of both; `to` is accessed by words only once it is aligned.
    unsafe {
        while done < head {
            to.add(done).write_volatile(from.add(done).read());
            done += 1;
        }
        while len - done >= BLOCK {
            let words = from.add(done).cast::<[u64; BLOCK / WORD]>().read_unaligned();
            let to = to.add(done).cast::<u64>();
            for (n, word) in words.into_iter().enumerate() {
                to.add(n).write_volatile(word);
            }
            done += BLOCK;
        }
        while len - done >= WORD {
            to.add(done).cast::<u64>().write_volatile(from.add(done).cast::<u64>().read_unaligned());
            done += WORD;
        }
        while done < len {
            to.add(done).write_volatile(from.add(done).read());
            done += 1;
        }
    }
}

/// Copies `len` bytes from shared memory to ordinary memory.
///
/// # Safety
/// As for [`copy_in`].
pub(super) unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
    let head = len.min(from.addr().wrapping_neg() % WORD);
    let mut done = 0;
    // SAFETY: every access is within `len` of both; `from` is accessed by words only once it is aligned.
    unsafe {
        while done < head {
            to.add(done).write(from.add(done).read_volatile());
            done += 1;
        }
        while len - done >= BLOCK {
            let from = from.add(done).cast::<u64>();
            let mut words = [0u64; BLOCK / WORD];
            for (n, word) in words.iter_mut().enumerate() {
                *word = from.add(n).read_volatile();
            }
            to.add(done).cast::<[u64; BLOCK / WORD]>().write_unaligned(words);
            done += BLOCK;
        }
        while len - done >= WORD {
            to.add(done).cast::<u64>().write_unaligned(from.add(done).cast::<u64>().read_volatile());
            done += WORD;
        }
        while done < len {
            to.add(done).write(from.add(done).read_volatile());
            done += 1;
        }
    }
}

/// Copies up to 64 bytes by plain accesses: blocks from the beginning, then one that ends with the last byte and may overlap
/// the one before.
///
/// # Safety
/// As for [`copy_in`], and `len` is at most 64.
#[inline(always)]
pub(super) unsafe fn copy_few(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: within `len` of both, as each block is checked to be.
    unsafe {
        match len {
            // Branches rather than a loop, which would cost more than its passes.
            16.. => {
                copy_block::<[u64; 2]>(from, to, 0);
                if len > 32 {
                    copy_block::<[u64; 2]>(from, to, 16);
                }
                if len > 48 {
                    copy_block::<[u64; 2]>(from, to, 32);
                }
                copy_block::<[u64; 2]>(from, to, len - 16);
            }
            8.. => {
                copy_block::<u64>(from, to, 0);
                copy_block::<u64>(from, to, len - 8);
            }
            4.. => {
                copy_block::<u32>(from, to, 0);
                copy_block::<u32>(from, to, len - 4);
            }
            _ => (0..len).for_each(|at| copy_block::<u8>(from, to, at)),
        }
    }
}

/// # Safety
/// A `T` is readable at `from`, `at` bytes on, and writable at `to`.
#[inline(always)]
unsafe fn copy_block<T: Copy>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: as the caller says.
    unsafe { to.add(at).cast::<T>().write_unaligned(from.add(at).cast::<T>().read_unaligned()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[repr(align(8))]
    struct Aligned([u8; 192]);

    /// Every alignment of both ends, and every length up to more than two blocks: each byte is copied and no other is touched.
    #[test]
    fn each_byte_is_copied_and_no_other_touched() {
        type Copy = unsafe fn(*const u8, *mut u8, usize);
        let mut source = Aligned([0; 192]);
        for (n, byte) in source.0.iter_mut().enumerate() {
            *byte = n as u8 + 1;
        }
        let lengths: Vec<usize> = if cfg!(miri) { vec![0, 1, 9, 64, 79, 145] } else { (0..150).collect() };
        for copy in [copy_in as Copy, copy_out as Copy] {
            for (from, to) in (0..64).map(|n| (n / 8, n % 8)) {
                for &len in &lengths {
                    let mut target = Aligned([0; 192]);
                    let to_base = target.0.as_mut_ptr();
                    // SAFETY: 8 + 150 bytes are within both, which are different.
                    unsafe { copy(source.0.as_ptr().add(from), to_base.add(to), len) };
                    let mut expected = Aligned([0; 192]);
                    expected.0[to..to + len].copy_from_slice(&source.0[from..from + len]);
                    assert_eq!(target, expected, "{len} bytes from {from} to {to}");
                }
            }
        }
    }
}
