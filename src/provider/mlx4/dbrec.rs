//! Doorbell records: words of memory by which a device learns how far a queue has come, without being told.
//!
//! The kernel pins the page of each record, so records share pages. Each has a cache line of its own, since different threads
//! write them.

use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use crate::sys::linux;
use crate::sys::region::{Region, Word};

/// Bytes from one record to the next.
const STRIDE: usize = 64;

/// The pages of a context.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pages: Mutex<Vec<Arc<Page>>>,
}

/// One page of records.
#[derive(Debug)]
struct Page {
    memory: Arc<Region>,
    /// Which records are taken.
    taken: Mutex<Vec<bool>>,
}

/// A record of two words, given back when dropped: no object of the kernel's may use it any more by then.
#[derive(Debug)]
pub(crate) struct Record {
    page: Arc<Page>,
    index: usize,
}

impl Pool {
    /// A record whose words are 0.
    pub(super) fn take(&self) -> Result<Record, Errno> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = pages.iter().find_map(Page::take) {
            return Ok(record);
        }
        let page = Arc::new(Page::of(Region::anonymous(linux::page_size())?));
        let record = Page::take(&page).ok_or(Errno::ENOMEM)?;
        pages.push(page);
        Ok(record)
    }
}

impl Page {
    fn of(memory: Region) -> Self {
        let taken = Mutex::new(vec![false; memory.len() / STRIDE]);
        Self { memory: Arc::new(memory), taken }
    }

    fn take(self: &Arc<Self>) -> Option<Record> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let index = taken.iter().position(|taken| !taken)?;
        taken[index] = true;
        let record = Record { page: Arc::clone(self), index };
        record.word(0).store(0);
        record.word(1).store(0);
        Some(record)
    }
}

impl Record {
    /// The address, as the kernel is told it.
    pub(super) fn address(&self) -> u64 {
        self.page.memory.address() + (self.index * STRIDE) as u64
    }

    /// Its first or second word.
    pub(super) fn word(&self, which: usize) -> Word {
        Word::new(&self.page.memory, self.index * STRIDE + which * 4)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.page.taken.lock().unwrap_or_else(PoisonError::into_inner)[self.index] = false;
    }
}

#[cfg(test)]
impl Record {
    /// A record on a page of its own, and a second view of its memory for whoever plays the device.
    pub(super) fn heap() -> (Self, Region) {
        let memory = Region::heap(STRIDE);
        let alias = memory.alias();
        let record = Page::take(&Arc::new(Page::of(memory))).expect("an empty page");
        (record, alias)
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
        assert_eq!(pool.pages.lock().unwrap().len(), 2);
        let freed = records[5].address();
        records[5].word(0).store(7);
        drop(records.into_iter().nth(5));
        let again = pool.take().unwrap();
        assert!(addresses.contains(&again.address()), "no third page");
        assert!(addresses.contains(&freed));
    }
}
