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

/// How our number stands to its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// There is no bound.
    None,
    /// Within it.
    Ok,
    /// Above it by less than the samples can tell.
    Even,
    /// Above it.
    Over,
}

/// What was sampled of each side, in the order taken: the same places of both were taken one after the other.
#[derive(Debug, Default, Serialize)]
pub(super) struct Samples {
    /// C's.
    pub(super) c: Vec<f64>,
    /// Ours.
    pub(super) ours: Vec<f64>,
}

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// What was measured.
    pub(super) what: String,
    /// In which guest; empty if in none.
    pub(super) place: String,
    /// C's number: the median of its samples.
    pub(super) c: f64,
    /// Ours.
    pub(super) ours: f64,
    /// The median of the ratios of samples that were taken together.
    pub(super) ratio: f64,
    /// Where that median lies with 95 % confidence, or, of fewer than six samples, between the extremes. None of a count, which is
    /// the same each time.
    pub(super) between: Option<(f64, f64)>,
    /// The bound that ours must keep, if it has one.
    pub(super) bound: Option<Bound>,
    /// Every sample behind the numbers.
    pub(super) samples: Samples,
    /// Whether the bound is kept.
    pub(super) verdict: Verdict,
}

impl Row {
    /// A line from single numbers.
    pub(super) fn new(what: &str, place: &str, c: f64, ours: f64, bound: Option<Bound>) -> Self {
        Self::of_samples(what, place, Samples { c: vec![c], ours: vec![ours] }, bound)
    }

    /// A line from samples that vary.
    pub(super) fn of_samples(what: &str, place: &str, samples: Samples, bound: Option<Bound>) -> Self {
        let (c, ours) = (median(&samples.c), median(&samples.ours));
        let ratios: Vec<f64> = samples.c.iter().zip(&samples.ours).map(|(c, ours)| ours / c).collect();
        let ratio = median(&ratios);
        let between = (ratios.len() > 1).then(|| confident(&ratios));
        let verdict = match bound {
            None => Verdict::None,
            Some(Bound::AtMost(limit)) if ours <= limit => Verdict::Ok,
            Some(Bound::Ratio(limit)) if ratio <= limit => Verdict::Ok,
            Some(Bound::Ratio(limit)) if between.is_some_and(|(low, _)| low <= limit) => Verdict::Even,
            Some(_) => Verdict::Over,
        };
        Self { what: what.into(), place: place.into(), c, ours, ratio, between, bound, samples, verdict }
    }
}

/// The middle of the samples; not a number if there is none.
pub(super) fn median(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    match (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Between what the median of the whole population lies with 95 % confidence: of `n` samples, how many are below it is binomial.
/// So many at each end are left out as together have not more than 5 %.
fn confident(samples: &[f64]) -> (f64, f64) {
    let sorted = sorted(samples);
    let n = sorted.len() as f64;
    let (mut out, mut chance) = (0, 0.5_f64.powf(n));
    let mut below = chance;
    while below <= 0.025 {
        out += 1;
        chance *= (n + 1.0 - out as f64) / out as f64;
        below += chance;
    }
    // `below` is the chance that at most `out` samples are below the median: the sample after the first `out - 1` is the end.
    let skipped = out.max(1) - 1;
    (sorted[skipped], sorted[sorted.len() - 1 - skipped])
}

/// Prints the table's head.
pub(super) fn head() {
    println!(
        "{:<44} {:<14} {:>10} {:>10} {:>7} {:<11} {:<14} ",
        "", "", "C", "ours", "ratio", "between", "bound"
    );
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound = match self.bound {
            None => String::new(),
            Some(Bound::AtMost(limit)) => format!("at most {limit}"),
            Some(Bound::Ratio(limit)) => format!("ratio {limit}"),
        };
        let verdict = match self.verdict {
            Verdict::None => "",
            Verdict::Ok => "ok",
            Verdict::Even => "even",
            Verdict::Over => "OVER",
        };
        let ratio = match self.ratio {
            ratio if ratio.is_nan() => "-".to_owned(),
            ratio => format!("{ratio:.2}"),
        };
        let between = self.between.map_or(String::new(), |(low, high)| format!("{low:.2}–{high:.2}"));
        let (what, place) = (&self.what, &self.place);
        let (c, ours) = (short(self.c), short(self.ours));
        write!(f, "{what:<44} {place:<14} {c:>10} {ours:>10} {ratio:>7} {between:<11} {bound:<14} {verdict}")
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
    use super::{Bound, Row, Samples, Verdict, confident, median};

    #[test]
    fn bounds_hold_the_number_or_its_ratio() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        let verdict = |c, ours, bound| Row::new("x", "", c, ours, Some(bound)).verdict;
        assert_eq!(verdict(100.0, 30.0, Bound::AtMost(30.0)), Verdict::Ok);
        assert_eq!(verdict(100.0, 31.0, Bound::AtMost(30.0)), Verdict::Over);
        assert_eq!(verdict(100.0, 105.0, Bound::Ratio(1.05)), Verdict::Ok);
        assert_eq!(verdict(100.0, 106.0, Bound::Ratio(1.05)), Verdict::Over);
    }

    #[test]
    fn a_bound_is_exceeded_by_what_the_samples_can_tell() {
        let verdict = |ours: [f64; 6]| {
            let samples = Samples { c: vec![100.0; 6], ours: ours.to_vec() };
            Row::of_samples("x", "", samples, Some(Bound::Ratio(1.0))).verdict
        };
        assert_eq!(verdict([99.0, 101.0, 98.0, 97.0, 103.0, 99.5]), Verdict::Ok);
        assert_eq!(verdict([99.0, 101.0, 102.0, 103.0, 103.0, 104.0]), Verdict::Even);
        assert_eq!(verdict([101.0, 101.0, 102.0, 103.0, 103.0, 104.0]), Verdict::Over);
    }

    /// Against the tables of the sign test: 1 and 6 of 6, 2 and 9 of 10, 6 and 15 of 20.
    #[test]
    fn the_extremes_that_confidence_leaves_out() {
        let of = |n: u32| confident(&(1..=n).rev().map(f64::from).collect::<Vec<_>>());
        assert_eq!(of(2), (1.0, 2.0));
        assert_eq!(of(6), (1.0, 6.0));
        assert_eq!(of(10), (2.0, 9.0));
        assert_eq!(of(20), (6.0, 15.0));
    }
}
