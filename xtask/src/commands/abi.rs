//! `cargo xtask abi`: has a C compiler compare every declared structure and number with the kernel's headers.
//!
//! Each comparison is a `_Static_assert` on a line of its own, so that the compiler's complaints can be told apart: a
//! failed assertion is always wrong; a name that the compiler does not know may be missing from the older headers only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::tally::Tally;
use crate::uapi::{LAYOUTS, Layout, NUMBERS};
use crate::{Result, cache, compiler, packages, process};

/// One assertion in the C file.
struct Assertion {
    /// The structure or number that it is about.
    subject: &'static str,
    /// What it compares.
    what: String,
    /// Whether it is about a structure's size, which older headers with fewer fields cannot agree on.
    is_size: bool,
}

/// Runs the subcommand.
pub(crate) fn run() -> Result<ExitCode> {
    let tally = check()?;
    tally.conclude(None);
    Ok(if tally.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares with every set of headers.
pub(crate) fn check() -> Result<Tally> {
    let mut tally = Tally::default();
    for (at, (line, suite)) in packages::HEADER_SETS.iter().enumerate() {
        let newest = at + 1 == packages::HEADER_SETS.len();
        let headers = packages::headers(*suite)?;
        tally.add(compare(line, &headers, newest)?);
    }
    Ok(tally)
}

fn compare(line: &str, root: &Path, newest: bool) -> Result<Tally> {
    let (source, assertions) = source();
    let folder = process::checkout().join("target/abi");
    cache::create(&folder)?;
    let path = folder.join(format!("linux-{line}.c"));
    fs::write(&path, source).map_err(|error| format!("{}: {error}", path.display()))?;
    let include = root.join("usr/include");
    let mut compiler = compiler::command()?;
    compiler.args(["-fsyntax-only", "-nostdinc", "-std=gnu11"]);
    compiler.arg("-isystem").arg(&include).arg("-isystem").arg(include.join("x86_64-linux-gnu")).arg(&path);
    let out = process::run(&mut compiler)?;
    let said = String::from_utf8_lossy(&out.stderr);

    let name = path.display().to_string();
    let mut tally = Tally::default();
    let mut missing = BTreeMap::new();
    let mut wrong = Vec::new();
    for complaint in said.lines().filter(|text| text.contains("error:")) {
        match find(complaint, &name, &assertions) {
            Some((assertion, text)) if text.contains("assertion failed") => {
                wrong.push((assertion, text));
            }
            Some((assertion, text)) => {
                missing.entry(assertion.subject).or_insert(text);
            }
            None => tally.fail(format!("abi {line}: {complaint}")),
        }
    }
    let mut bad = BTreeSet::new();
    for (assertion, _) in wrong {
        if !(assertion.is_size && !newest && missing.contains_key(assertion.subject)) {
            bad.insert(assertion.subject);
            tally.fail(format!("abi {line}: {}: {}", assertion.subject, assertion.what));
        }
    }
    if newest {
        for (subject, text) in missing.iter().filter(|(subject, _)| !bad.contains(*subject)) {
            tally.fail(format!("abi {line}: {subject}: {text}"));
        }
    }
    let subjects: BTreeSet<&str> = assertions.iter().map(|assertion| assertion.subject).collect();
    let good = subjects
        .iter()
        .filter(|subject| !bad.contains(**subject) && !missing.contains_key(**subject))
        .count();
    tally.pass(good);
    let absent: Vec<&str> = missing.keys().copied().collect();
    println!("abi: headers of {line}: {good} of {} structures and numbers agree", subjects.len());
    if !newest && !absent.is_empty() {
        println!("abi: not (or not whole) in the headers of {line}: {}", absent.join(", "));
    }
    if !out.status.success() && tally.good() && missing.is_empty() {
        tally.fail(format!("abi {line}: {}", process::last_lines(&out.stderr, 4)));
    }
    Ok(tally)
}

/// The assertion that a complaint is about, and the complaint's text.
fn find<'a, 'b>(
    complaint: &'b str,
    name: &str,
    assertions: &'a [Assertion],
) -> Option<(&'a Assertion, &'b str)> {
    let place = complaint.strip_prefix(name)?.strip_prefix(':')?;
    let (line, rest) = place.split_once(':')?;
    let first = 1 + headers().len();
    let assertion = assertions.get(line.parse::<usize>().ok()?.checked_sub(first)?)?;
    Some((assertion, rest.split_once("error: ").map_or(rest, |(_, text)| text)))
}

fn headers() -> BTreeSet<&'static str> {
    LAYOUTS.iter().map(|(header, _)| *header).chain(NUMBERS.iter().map(|(header, _)| *header)).collect()
}

/// The C file: a line for each header, then a line for each assertion.
fn source() -> (String, Vec<Assertion>) {
    let mut text: String = headers().iter().map(|header| format!("#include <{header}>\n")).collect();
    let mut assertions = Vec::new();
    let mut assert = |subject, what: String, is_size| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "_Static_assert({what}, \"\");");
        assertions.push(Assertion { subject, what, is_size });
    };
    for layout in LAYOUTS.iter().flat_map(|(_, layouts)| *layouts) {
        let Layout { c_name, size, align, fields } = *layout;
        assert(c_name, format!("sizeof({c_name}) == {size}"), true);
        assert(c_name, format!("_Alignof({c_name}) == {align}"), false);
        // A field without a name is padding that C leaves to the compiler; one without size has no size in C either.
        for field in fields.iter().filter(|field| !field.name.is_empty()) {
            let (name, offset, size) = (field.name, field.offset, field.size);
            assert(c_name, format!("__builtin_offsetof({c_name}, {name}) == {offset}"), false);
            if size > 0 {
                assert(c_name, format!("sizeof((({c_name} *)0)->{name}) == {size}"), false);
            }
        }
    }
    for number in NUMBERS.iter().flat_map(|(_, numbers)| *numbers) {
        assert(
            number.c_name,
            format!("(unsigned long long)({}) == {}ULL", number.c_name, number.value),
            false,
        );
    }
    (text, assertions)
}
