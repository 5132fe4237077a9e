//! The C library's option parser (`getopt_long(3)`), for tools that are called by their old names.
//!
//! It takes `-dNAME`, `-d NAME`, `--ib-dev=NAME`, `--ib-dev NAME`, long options cut short where that is unambiguous, options
//! after operands unless `POSIXLY_CORRECT` is set, and ends at `--`. Its complaints are glibc's, word for word.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Its letter, by which it is reported.
    pub(crate) letter: char,
    /// Its long name; empty where it has none.
    pub(crate) long: &'static str,
    /// Whether a value follows.
    pub(crate) takes_value: bool,
}

impl Spec {
    /// An option without a value.
    pub(crate) const fn flag(letter: char, long: &'static str) -> Self {
        Self { letter, long, takes_value: false }
    }

    /// An option with a value.
    pub(crate) const fn value(letter: char, long: &'static str) -> Self {
        Self { letter, long, takes_value: true }
    }
}

/// An option as it was given: its letter and its value, empty where it takes none.
pub(crate) type Given = (char, OsString);

/// Walks over arguments; what it yields in error is glibc's complaint without the program's name.
#[derive(Debug)]
pub(crate) struct Getopt {
    specs: &'static [Spec],
    arguments: std::vec::IntoIter<OsString>,
    /// Letters of the present argument that are still to come.
    cluster: Vec<u8>,
    operands: Vec<OsString>,
    operands_end_options: bool,
}

impl Getopt {
    /// A walk over `arguments`, which do not include the program's name.
    pub(crate) fn new(specs: &'static [Spec], arguments: Vec<OsString>) -> Self {
        Self {
            specs,
            arguments: arguments.into_iter(),
            cluster: Vec::new(),
            operands: Vec::new(),
            operands_end_options: std::env::var_os("POSIXLY_CORRECT").is_some(),
        }
    }

    /// The arguments that are no options, once the walk is over.
    #[allow(dead_code)] // devinfo, as in C, ignores them; a server's name is one
    pub(crate) fn operands(self) -> Vec<OsString> {
        self.operands
    }

    fn long(&mut self, text: &[u8]) -> Result<Given, String> {
        let mut parts = text.splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().map(|value| OsStr::from_bytes(value).to_owned());
        let spec = self.by_long_name(name, text)?;
        match (spec.takes_value, value) {
            (false, None) => Ok((spec.letter, OsString::new())),
            (false, Some(_)) => Err(format!("option '--{}' doesn't allow an argument", spec.long)),
            (true, Some(value)) => Ok((spec.letter, value)),
            (true, None) => match self.arguments.next() {
                Some(value) => Ok((spec.letter, value)),
                None => Err(format!("option '--{}' requires an argument", spec.long)),
            },
        }
    }

    fn by_long_name(&self, name: &[u8], text: &[u8]) -> Result<Spec, String> {
        let named = || self.specs.iter().filter(|spec| !spec.long.is_empty());
        if let Some(exact) = named().find(|spec| spec.long.as_bytes() == name) {
            return Ok(*exact);
        }
        let candidates: Vec<&Spec> = named().filter(|spec| spec.long.as_bytes().starts_with(name)).collect();
        let shown = String::from_utf8_lossy(text);
        match candidates.as_slice() {
            [] => Err(format!("unrecognized option '--{shown}'")),
            [only] => Ok(**only),
            several => {
                let names: Vec<String> = several.iter().map(|spec| format!("'--{}'", spec.long)).collect();
                Err(format!("option '--{shown}' is ambiguous; possibilities: {}", names.join(" ")))
            }
        }
    }

    fn short(&mut self) -> Result<Given, String> {
        let letter = self.cluster.remove(0);
        let known = self.specs.iter().find(|spec| spec.letter == char::from(letter)).copied();
        let shown = String::from_utf8_lossy(&[letter]).into_owned();
        let spec = known.ok_or_else(|| format!("invalid option -- '{shown}'"))?;
        if !spec.takes_value {
            return Ok((spec.letter, OsString::new()));
        }
        if !self.cluster.is_empty() {
            return Ok((spec.letter, OsString::from_vec(std::mem::take(&mut self.cluster))));
        }
        match self.arguments.next() {
            Some(value) => Ok((spec.letter, value)),
            None => Err(format!("option requires an argument -- '{shown}'")),
        }
    }
}

impl Iterator for Getopt {
    type Item = Result<Given, String>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.cluster.is_empty() {
            let argument = self.arguments.next()?;
            match argument.as_bytes() {
                b"--" => self.operands.extend(self.arguments.by_ref()),
                [b'-', b'-', long @ ..] => return Some(self.long(long)),
                [b'-', letters @ ..] if !letters.is_empty() => self.cluster = letters.to_vec(),
                _ => {
                    self.operands.push(argument);
                    if self.operands_end_options {
                        self.operands.extend(self.arguments.by_ref());
                    }
                }
            }
        }
        Some(self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[Spec] = &[
        Spec::value('d', "ib-dev"),
        Spec::value('i', "ib-port"),
        Spec::flag('l', "list"),
        Spec::flag('v', "verbose"),
    ];

    /// The options as `d=x l`, a complaint after them, and the operands after ` |`.
    fn walk(line: &str) -> String {
        let mut getopt = Getopt::new(SPECS, line.split_whitespace().map(OsString::from).collect());
        let mut words = Vec::new();
        for given in getopt.by_ref() {
            match given {
                Ok((letter, value)) if value.is_empty() => words.push(letter.to_string()),
                Ok((letter, value)) => words.push(format!("{letter}={}", value.to_string_lossy())),
                Err(complaint) => return complaint,
            }
        }
        let operands: Vec<String> =
            getopt.operands().iter().map(|operand| operand.to_string_lossy().into_owned()).collect();
        if !operands.is_empty() {
            words.push(format!("| {}", operands.join(" ")));
        }
        words.join(" ")
    }

    #[test]
    fn every_spelling_of_a_value() {
        for line in ["-dx", "-d x", "--ib-dev=x", "--ib-dev x", "--ib-d x", "--ib-d=x"] {
            assert_eq!(walk(line), "d=x", "{line}");
        }
        assert_eq!(walk("-vld -v"), "v l d=-v");
        assert_eq!(walk("--ib-dev= -l"), "d l");
    }

    #[test]
    fn operands_may_stand_anywhere() {
        assert_eq!(walk("host -v - -l -- -d"), "v l | host - -d");
    }

    #[test]
    fn complaints_are_glibc_s() {
        for (line, complaint) in [
            ("-x", "invalid option -- 'x'"),
            ("-vx", "invalid option -- 'x'"),
            ("-d", "option requires an argument -- 'd'"),
            ("--ib-d", "option '--ib-dev' requires an argument"),
            ("--list=2", "option '--list' doesn't allow an argument"),
            ("--nope", "unrecognized option '--nope'"),
            ("--ib=3", "option '--ib=3' is ambiguous; possibilities: '--ib-dev' '--ib-port'"),
            (
                "--=3",
                "option '--=3' is ambiguous; possibilities: '--ib-dev' '--ib-port' '--list' '--verbose'",
            ),
        ] {
            assert_eq!(walk(line), complaint);
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_values_or_complaints() {
        let odd = || OsString::from_vec(vec![b'-', b'd', 0xff]);
        let mut getopt = Getopt::new(SPECS, vec![odd()]);
        assert_eq!(getopt.next(), Some(Ok(('d', OsString::from_vec(vec![0xff])))));
        let mut getopt = Getopt::new(SPECS, vec![OsString::from_vec(vec![b'-', 0xff])]);
        assert_eq!(getopt.next(), Some(Err("invalid option -- '\u{fffd}'".to_owned())));
    }
}
