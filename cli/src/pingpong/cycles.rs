//! What the time of completions says (`-t`): the cycles of the device's clock from one message to the next.

use serde::Serialize;

/// The cycles between messages so far.
#[derive(Debug)]
pub(super) struct Cycles {
    /// The bits of the clock that count.
    mask: u64,
    last: Option<u64>,
    max: u64,
    min: u64,
    total: u64,
    count: u64,
}

/// The figures.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    max: u64,
    min: u64,
    average: f64,
}

impl Cycles {
    /// None yet.
    pub(super) fn new(mask: u64) -> Self {
        Self { mask, last: None, max: 0, min: u64::MAX, total: 0, count: 0 }
    }

    /// A message has come.
    pub(super) fn note(&mut self, timestamp: u64) {
        if let Some(last) = self.last.replace(timestamp) {
            let cycles = timestamp.wrapping_sub(last) & self.mask;
            (self.max, self.min) = (self.max.max(cycles), self.min.min(cycles));
            self.total = self.total.saturating_add(cycles);
            self.count += 1;
        }
    }

    /// The figures, where there were two messages at least.
    pub(super) fn figures(&self) -> Option<Figures> {
        let average = self.total as f64 / self.count as f64;
        (self.count > 0).then_some(Figures { max: self.max, min: self.min, average })
    }
}

impl Figures {
    /// The C tool's lines.
    pub(super) fn lines(&self) -> String {
        let Self { max, min, average } = self;
        format!(
            "Max receive completion clock cycles = {max}\nMin receive completion clock cycles = {min}\n\
             Average receive completion clock cycles = {average:.6}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_may_wrap() {
        let mut cycles = Cycles::new(0xffff_ffff_ffff);
        assert_eq!(cycles.figures(), None);
        for timestamp in [0xffff_ffff_fff0, 0x0010, 0x0110] {
            cycles.note(timestamp);
        }
        let figures = Figures { max: 0x100, min: 0x20, average: 144.0 };
        assert_eq!(cycles.figures(), Some(figures));
    }
}
