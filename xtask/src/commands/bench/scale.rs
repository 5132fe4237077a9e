//! Many queue pairs on one completion queue, beside libibverbs in the same guest: rxe, and the emulated ConnectX-3.

use std::collections::HashMap;
use std::time::Duration;

use super::Results;
use super::measure::{Side, words};
use super::table::{Bound, Row, Samples};
use crate::vm::{Guests, Kernel, Mlx4, Vm};
use crate::{Result, cargo, checker, process};

/// Queue pairs that are created and destroyed.
const MADE: u32 = 10_000;
/// Queue pairs whose completions are taken out in random order.
const POLLED: u32 = 4096;
/// What a constant cost may vary by.
const EVEN: f64 = 1.3;

/// The numbers of one run by name.
type Numbers = HashMap<String, f64>;

/// All rows, in a guest of two processors for each device.
pub(super) fn rows(kernel: &Kernel, repeat: u32, results: &mut Results) -> Result<()> {
    let program = cargo::release_example("scale")?;
    let c_program = checker::compile("scale", &[process::checkout().join("tests/c/scale.c")], "-O2")?;
    for (device, gid) in [("rxe", 1), ("mlx4", -1)] {
        let mut vm = Vm::new(kernel.clone())
            .c_tools(true)
            .memory(3072)
            .file(&program, "/bin/scale")
            .file(&c_program, "/bin/scale-c")
            .lifetime(Duration::from_secs(3600));
        if device == "mlx4" {
            vm = vm.mlx4(Mlx4::default());
        }
        let guests = vm.boot()?;
        let place = format!("{kernel}, {device}");
        made(&guests, &place, repeat, results);
        polled(&guests, &place, gid, repeat, results);
        guests.shutdown()?;
    }
    Ok(())
}

/// What creating and destroying costs, and the memory.
fn made(guests: &Guests, place: &str, repeat: u32, results: &mut Results) {
    // A run takes seconds.
    let (c, ours) = match both(guests, &format!("make {MADE}"), repeat.min(3)) {
        Ok(runs) => runs,
        Err(error) => return results.take(&format!("{MADE} queue pairs, {place}"), Err(error)),
    };
    let each = |runs: &[Numbers], name: &str| runs.iter().map(|run| run[name]).collect::<Vec<f64>>();
    let ratio = |runs: &[Numbers], over: &str, under: &str| {
        runs.iter().map(|run| run[over] / run[under]).collect::<Vec<f64>>()
    };
    for verb in ["create", "destroy"] {
        let name = |part: &str| format!("{verb}_{part}");
        for (part, what, bound) in [
            ("first", "the first 1000", None),
            ("last", "the last 1000", None),
            ("all", "all", Some(Bound::Ratio(1.0))),
        ] {
            let what = format!("µs to {verb} one of {MADE} QPs, {what}");
            let samples = Samples { c: each(&c, &name(part)), ours: each(&ours, &name(part)) };
            results.take("", Ok(Row::of_samples(&what, place, samples, bound)));
        }
        let (last, first) = (name("last"), name("first"));
        let samples = Samples { c: ratio(&c, &last, &first), ours: ratio(&ours, &last, &first) };
        let what = format!("{verb}: the last 1000 over the first");
        results.take("", Ok(Row::of_samples(&what, place, samples, Some(Bound::AtMost(EVEN)))));
    }
    let samples = Samples { c: each(&c, "kib"), ours: each(&ours, "kib") };
    results.take("", Ok(Row::of_samples("KiB of memory a QP", place, samples, Some(Bound::Ratio(1.0)))));
}

/// What taking completions out costs, of one queue pair and of many.
fn polled(guests: &Guests, place: &str, gid: i32, repeat: u32, results: &mut Results) {
    let polled = |count: u32| both(guests, &format!("poll {count} {gid}"), repeat.min(3));
    let (one, many) = match polled(1).and_then(|one| Ok((one, polled(POLLED)?))) {
        Ok(runs) => runs,
        Err(error) => return results.take(&format!("completions, {place}"), Err(error)),
    };
    let each = |runs: &[Numbers]| runs.iter().map(|run| run["ns_per_completion"]).collect::<Vec<f64>>();
    for (count, (c, ours)) in [(1, &one), (POLLED, &many)] {
        let samples = Samples { c: each(c), ours: each(ours) };
        let what = format!("ns to poll a completion, of {count} QPs");
        results.take("", Ok(Row::of_samples(&what, place, samples, Some(Bound::Ratio(1.0)))));
    }
    let ratio = |one: &[Numbers], many: &[Numbers]| {
        each(many).iter().zip(each(one)).map(|(many, one)| many / one).collect::<Vec<f64>>()
    };
    let samples = Samples { c: ratio(&one.0, &many.0), ours: ratio(&one.1, &many.1) };
    let what = format!("a completion of {POLLED} QPs over one of 1");
    results.take("", Ok(Row::of_samples(&what, place, samples, Some(Bound::AtMost(EVEN)))));
}

/// Runs both programs in turn; the numbers of C's runs and of ours.
fn both(guests: &Guests, arguments: &str, repeat: u32) -> Result<(Vec<Numbers>, Vec<Numbers>)> {
    let (mut c, mut ours) = (Vec::new(), Vec::new());
    for at in 0..repeat {
        let order = [Side::C, Side::Ours];
        for side in if at % 2 == 0 { order } else { [order[1], order[0]] } {
            let numbers = numbers(guests, side, arguments)?;
            if side == Side::C { &mut c } else { &mut ours }.push(numbers);
        }
    }
    Ok((c, ours))
}

fn numbers(guests: &Guests, side: Side, arguments: &str) -> Result<Numbers> {
    let program = if side == Side::C { "scale-c" } else { "scale" };
    let text = guests.node(1).run(words(&format!("{program} {arguments}")))?.ok()?.text();
    let number = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    let numbers: Option<Numbers> = text.lines().map(number).collect();
    let complete = |numbers: &Numbers| {
        numbers.contains_key("ns_per_completion")
            || [
                "kib",
                "create_first",
                "create_last",
                "create_all",
                "destroy_first",
                "destroy_last",
                "destroy_all",
            ]
            .iter()
            .all(|name| numbers.contains_key(*name))
    };
    numbers.filter(complete).ok_or_else(|| format!("{program} {arguments}: not understood: {text:?}"))
}
