//! Things by running number: there are as many as a power of two, and a number counts round and round, so every number has one and
//! nothing is checked when it is looked at.

/// A power of two of things.
#[derive(Debug)]
pub(crate) struct Cycle<T> {
    things: Box<[T]>,
    /// How many there are, less one.
    mask: u32,
}

impl<T> Cycle<T> {
    /// As many as `count` at least, and one at least; 2³¹ are the most that a number tells apart.
    pub(crate) fn new(count: u32, make: impl FnMut() -> T) -> Self {
        let count = count.max(1).checked_next_power_of_two().unwrap_or(1 << 31);
        let mut things = Vec::new();
        things.resize_with(count as usize, make);
        Self { things: things.into(), mask: count - 1 }
    }

    /// The thing that has this number.
    #[inline(always)]
    pub(crate) fn at(&self, number: u32) -> &T {
        // SAFETY: there are `mask` plus 1.
        unsafe { self.things.get_unchecked((number & self.mask) as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_thing() {
        let mut count = 0;
        let cycle = Cycle::new(3, || {
            count += 1;
            count
        });
        assert_eq!([0, 1, 2, 3, 4, u32::MAX].map(|number| *cycle.at(number)), [1, 2, 3, 4, 1, 4]);
        assert_eq!(*Cycle::new(0, || 7).at(5), 7);
    }
}
