//! Reading what Rust's test harness prints.

use std::time::Duration;

use crate::tally::Tally;

/// Counts the tests of all summaries in a harness's output. A harness that ended without a summary is a failure, and so is one that ran
/// nothing where something had to run.
pub(crate) fn count(place: &str, text: &str, exited_well: bool, must_run: bool) -> Tally {
    let mut tally = Tally::default();
    let (mut summaries, mut failed, mut passed) = (0, 0, 0);
    for line in text.lines().filter_map(|line| line.trim_start().strip_prefix("test result: ")) {
        summaries += 1;
        passed += number_before(line, " passed");
        failed += number_before(line, " failed");
    }
    tally.pass(passed);
    let names = failures(text);
    for at in 0..failed {
        tally.fail(format!("{place}: {}", names.get(at).map_or("a test", String::as_str)));
    }
    if summaries == 0 {
        tally.fail(format!("{place}: ended before the harness's summary"));
    } else if !exited_well && failed == 0 {
        tally.fail(format!("{place}: the harness failed though its tests did not"));
    } else if must_run && passed + failed == 0 {
        tally.fail(format!("{place}: no test ran"));
    }
    tally
}

/// The tests of a harness that runs one at a time, and how long each took: from the line before its own to its own.
pub(crate) fn times(lines: impl Iterator<Item = (Duration, String)>) -> Vec<(String, Duration)> {
    let mut times = Vec::new();
    let mut before = Duration::ZERO;
    for (arrived, line) in lines {
        if let Some((name, _)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            times.push((name.to_owned(), arrived.saturating_sub(before)));
        }
        before = arrived;
    }
    times
}

fn number_before(line: &str, word: &str) -> usize {
    let before = line.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The names under the last `failures:` of each harness, which is the list without their output.
fn failures(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut block = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.trim() == "failures:" {
            (inside, block) = (true, Vec::new());
        } else if line.trim_start().starts_with("test result: ") {
            names.append(&mut block);
            inside = false;
        } else if let Some(name) = line.strip_prefix("    ").filter(|_| inside) {
            block.push(name.trim().to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{count, times};

    const MIXED: &str = "\
running 3 tests
test a ... ok
test b ... FAILED

failures:

---- b stdout ----
    left: 1

failures:
    b

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn failures_are_counted_by_name() {
        let tally = count("unit", MIXED, false, true);
        assert_eq!(tally.to_string(), "2 passed, 1 failed");
    }

    #[test]
    fn silence_is_a_failure() {
        assert_eq!(count("unit", "", true, false).to_string(), "0 passed, 1 failed");
        let nothing = "test result: ok. 0 passed; 0 failed; 4 ignored; 0 measured; 0 filtered out";
        assert_eq!(count("unit", nothing, true, true).to_string(), "0 passed, 1 failed");
        assert_eq!(count("unit", nothing, true, false).to_string(), "0 passed, 0 failed");
    }

    #[test]
    fn a_test_takes_the_time_between_two_lines() {
        let lines =
            [(1, "running 2 tests"), (3, "test a ... ok"), (7, "test b ... FAILED"), (8, "failures:")];
        let lines = lines.map(|(at, line)| (Duration::from_secs(at), line.to_owned()));
        let expected = [("a", 2), ("b", 4)].map(|(name, took)| (name.to_owned(), Duration::from_secs(took)));
        assert_eq!(times(lines.into_iter()), expected);
    }
}
