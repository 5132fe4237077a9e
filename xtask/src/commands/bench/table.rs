//! The table of measurements, for people and for programs.

use serde::Serialize;

/// What our number is held against.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum Bound {
    /// The number itself.
    AtMost(f64),
    /// Its ratio to C's.
    Ratio(f64),
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// What was measured.
    pub(super) what: String,
    /// In which guest; empty if in none.
    pub(super) place: String,
    /// C's number.
    pub(super) c: f64,
    /// Ours.
    pub(super) ours: f64,
    /// The bound that ours must keep, if it has one.
    pub(super) bound: Option<Bound>,
    /// Every sample behind the two numbers, in the order taken: C's, then ours.
    pub(super) samples: (Vec<f64>, Vec<f64>),
    /// Whether the bound is kept.
    pub(super) ok: bool,
}

impl Row {
    /// A line from single numbers.
    pub(super) fn new(what: &str, place: &str, c: f64, ours: f64, bound: Option<Bound>) -> Self {
        let ok = match bound {
            None => true,
            Some(Bound::AtMost(limit)) => ours <= limit,
            Some(Bound::Ratio(limit)) => ours <= limit * c,
        };
        Self { what: what.into(), place: place.into(), c, ours, bound, samples: (vec![c], vec![ours]), ok }
    }

    /// A line from the best of each side's samples, which other work on the machine disturbs least.
    pub(super) fn of_samples(
        what: &str,
        place: &str,
        c: Vec<f64>,
        ours: Vec<f64>,
        bound: Option<Bound>,
    ) -> Self {
        let row = Self::new(what, place, best(&c), best(&ours), bound);
        Self { samples: (c, ours), ..row }
    }
}

/// The smallest sample; not a number if there is none.
pub(super) fn best(samples: &[f64]) -> f64 {
    samples.iter().copied().reduce(f64::min).unwrap_or(f64::NAN)
}

/// Prints the table's head.
pub(super) fn head() {
    println!("{:<44} {:<14} {:>10} {:>10} {:>7}  {:<14} ", "", "", "C", "ours", "ratio", "bound");
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound = match self.bound {
            None => String::new(),
            Some(Bound::AtMost(limit)) => format!("at most {limit}"),
            Some(Bound::Ratio(limit)) => format!("ratio {limit}"),
        };
        let verdict = match (self.bound, self.ok) {
            (None, _) => "",
            (_, true) => "ok",
            (_, false) => "OVER",
        };
        let ratio = match self.ours / self.c {
            ratio if ratio.is_nan() => "-".to_owned(),
            ratio => format!("{ratio:.2}"),
        };
        let (what, place) = (&self.what, &self.place);
        let (c, ours) = (short(self.c), short(self.ours));
        write!(f, "{what:<44} {place:<14} {c:>10} {ours:>10} {ratio:>7}  {bound:<14} {verdict}")
    }
}

/// A number with no more digits than it deserves.
fn short(number: f64) -> String {
    match number {
        n if n.is_nan() => "-".to_owned(),
        n if n >= 1000.0 => format!("{n:.0}"),
        n if n.fract() == 0.0 => format!("{n:.0}"),
        n => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Row, best};

    #[test]
    fn bounds_hold_the_number_or_its_ratio() {
        assert_eq!(best(&[3.0, 1.0, 2.0]), 1.0);
        assert!(best(&[]).is_nan());
        assert!(Row::new("x", "", 100.0, 30.0, Some(Bound::AtMost(30.0))).ok);
        assert!(!Row::new("x", "", 100.0, 106.0, Some(Bound::Ratio(1.05))).ok);
    }
}
