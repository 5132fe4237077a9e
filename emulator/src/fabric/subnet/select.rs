//! Components with a selector: more than, less than or exactly a value, or the largest (InfiniBand Architecture
//! Specification, volume 1, table 202).

/// A selector and a value in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Selected(pub(super) u8);

impl Selected {
    /// "Exactly", as in every response.
    pub(super) fn exactly(code: u8) -> u8 {
        2 << 6 | code & 0x3f
    }

    /// The best of `codes` that matches the selector and is not larger than `most`. Codes are compared by `size`.
    fn choose(self, most: u8, codes: &[u8], size: impl Fn(u8) -> u32) -> Option<u8> {
        let wanted = size(self.0 & 0x3f);
        let fits = |code: &u8| match self.0 >> 6 {
            0 => size(*code) > wanted,
            1 => size(*code) < wanted,
            2 => size(*code) == wanted,
            _ => true,
        };
        let available = codes.iter().copied().filter(|code| size(*code) <= size(most));
        available.filter(fits).max_by_key(|code| size(*code))
    }

    /// Selects an MTU: 1 is 256 bytes, 5 is 4096.
    pub(super) fn mtu(self, most: u8) -> Option<u8> {
        self.choose(most, &[1, 2, 3, 4, 5], u32::from)
    }

    /// Selects a rate.
    pub(super) fn rate(self, most: u8) -> Option<u8> {
        self.choose(most, &[2, 3, 4, 5, 6, 7], megabits)
    }

    /// Selects a packet lifetime, 4.096 µs times a power of two; the shortest is `least`.
    pub(super) fn life_time(self, least: u8) -> Option<u8> {
        let wanted = self.0 & 0x3f;
        match self.0 >> 6 {
            0 => Some(least.max(wanted.saturating_add(1))).filter(|code| *code < 0x40),
            1 => Some(least).filter(|code| *code < wanted),
            2 => Some(wanted).filter(|code| *code >= least),
            _ => Some(least),
        }
    }
}

/// The rate of a code in Mbit/s (table 206). Unknown codes are faster than any.
fn megabits(code: u8) -> u32 {
    match code {
        2 => 2_500,
        5 => 5_000,
        3 => 10_000,
        6 => 20_000,
        4 => 30_000,
        7 => 40_000,
        8 => 60_000,
        9 => 80_000,
        10 => 120_000,
        11 => 14_000,
        12 => 56_000,
        13 => 112_000,
        14 => 168_000,
        15 => 25_000,
        16 => 100_000,
        17 => 200_000,
        18 => 300_000,
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_choose_a_code() {
        let wish = |selector: u8, code: u8| Selected(selector << 6 | code);
        // More than 1024, less than 1024, exactly 1024, the largest; of at most 2048.
        let mtus =
            [(0, 3, Some(4)), (0, 4, None), (1, 3, Some(2)), (1, 1, None), (2, 3, Some(3)), (2, 5, None)];
        for (selector, code, answer) in mtus {
            assert_eq!(wish(selector, code).mtu(4), answer, "{selector} {code}");
        }
        assert_eq!(wish(3, 0).mtu(4), Some(4));
        // Rate codes are not in the order of rates: 5 is 5 Gbit/s, 3 is 10.
        assert_eq!(wish(1, 3).rate(7), Some(5));
        assert_eq!(wish(0, 5).rate(3), Some(3));
        assert_eq!(wish(0, 12).rate(7), None);
        assert_eq!(wish(1, 18).rate(7), Some(7));
        assert_eq!(wish(2, 63).rate(7), None);
        assert_eq!(wish(0, 18).life_time(18), Some(19));
        assert_eq!(wish(1, 18).life_time(18), None);
        assert_eq!(wish(0, 63).life_time(18), None);
        assert_eq!(wish(2, 20).life_time(18), Some(20));
    }
}
