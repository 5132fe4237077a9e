//! Completions one by one, with the entries freed in batches.

use super::Cq;
use crate::types::Wc;

/// An iterator over the completions in a queue, from [`Cq::completions`].
///
/// Entries go back to the device in batches: a quarter of the queue at a time, and the rest when the iterator is dropped.
#[derive(Debug)]
pub struct Completions<'c> {
    cq: &'c mut Cq,
    /// How many entries have been taken since the device was last told.
    taken: u32,
    batch: u32,
}

impl Cq {
    /// Returns an iterator that takes completions out, beside [`Cq::poll`] for programs that have no array to fill. It ends when
    /// the queue is empty, and makes no system call.
    ///
    /// ```no_run
    /// # fn handle(wc: bareverbs::Wc) {}
    /// # fn poll(cq: &mut bareverbs::Cq) {
    /// for wc in cq.completions() {
    ///     handle(wc);
    /// }
    /// # }
    /// ```
    pub fn completions(&mut self) -> Completions<'_> {
        let batch = (self.capacity() / 4).max(1);
        Completions { cq: self, taken: 0, batch }
    }
}

impl Iterator for Completions<'_> {
    type Item = Wc;

    #[inline]
    fn next(&mut self) -> Option<Wc> {
        let wc = self.cq.ring.take_one();
        self.taken += 1;
        // Also where no completion came: an entry may have been one that is not reported.
        if wc.is_some() && self.taken >= self.batch {
            self.cq.ring.publish();
            self.taken = 0;
        }
        wc
    }
}

impl Drop for Completions<'_> {
    fn drop(&mut self) {
        if self.taken > 0 {
            self.cq.ring.publish();
        }
    }
}
