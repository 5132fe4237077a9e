//! Doorbell records: words of memory by which a device learns how far a queue has come.
//!
//! The kernel pins the page of each record, so records share pages. Each has a cache line of its own, since different threads
//! write them.

use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use crate::sys::linux;
use crate::sys::region::{Region, Word};

/// Bytes from one record to the next.
const STRIDE: usize = 64;

/// The records of a context. Pages are mapped as they are needed and stay.
#[derive(Debug, Default)]
pub(super) struct Pool {
    unused: Arc<Unused>,
}

/// Records that are not in use.
#[derive(Debug, Default)]
struct Unused(Mutex<Vec<Place>>);

/// Where a record is.
#[derive(Debug, Clone)]
struct Place {
    page: Arc<Region>,
    offset: usize,
}

/// A record of two words, given back when dropped: no kernel object may use it any more by then.
#[derive(Debug)]
pub(crate) struct Record {
    at: Place,
    pool: Arc<Unused>,
}

impl Pool {
    /// Returns a record whose words are 0.
    pub(super) fn take(&self) -> Result<Record, Errno> {
        let mut unused = self.unused.lock();
        let at = match unused.pop() {
            Some(at) => at,
            None => {
                let page = Arc::new(Region::queue(linux::page_size())?);
                // The first record is taken first.
                let places = (0..page.len() / STRIDE).rev();
                unused.extend(places.map(|n| Place { page: Arc::clone(&page), offset: n * STRIDE }));
                unused.pop().ok_or(Errno::ENOMEM)?
            }
        };
        Ok(Record::new(at, &self.unused))
    }
}

impl Unused {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn new(at: Place, pool: &Arc<Unused>) -> Self {
        let record = Self { at, pool: Arc::clone(pool) };
        record.word(0).store(0);
        record.word(1).store(0);
        record
    }

    /// The address, for the kernel.
    pub(super) fn address(&self) -> u64 {
        self.at.page.address() + self.at.offset as u64
    }

    /// Its first or second word.
    pub(super) fn word(&self, which: usize) -> Word {
        Word::new(&self.at.page, self.at.offset + which * 4)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.pool.lock().push(self.at.clone());
    }
}

#[cfg(test)]
impl Record {
    /// A record on a page of its own, and a second view of its memory for whoever plays the device.
    pub(super) fn heap() -> (Self, Region) {
        let memory = Region::heap(STRIDE);
        let alias = memory.alias();
        let at = Place { page: Arc::new(memory), offset: 0 };
        (Self::new(at, &Arc::default()), alias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "maps memory")]
    fn records_share_pages_and_are_used_again() {
        let pool = Pool::default();
        let per_page = linux::page_size() / STRIDE;
        let records: Vec<_> = (0..per_page + 1).map(|_| pool.take().unwrap()).collect();
        let mut addresses: Vec<_> = records.iter().map(Record::address).collect();
        addresses.sort_unstable();
        assert!(addresses.windows(2).all(|pair| pair[1] - pair[0] >= 64));
        assert!(addresses.iter().all(|address| address % 8 == 0));
        assert_eq!(pool.unused.lock().len(), per_page - 1, "two pages");
        let freed = records[5].address();
        records[5].word(0).store(7);
        drop(records.into_iter().nth(5));
        let again = pool.take().unwrap();
        assert!(addresses.contains(&again.address()), "no third page");
        assert!(addresses.contains(&freed));
    }
}
