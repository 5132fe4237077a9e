//! Violations: what a driver does and a real card would refuse or misread.
//!
//! Every violation is counted and printed as a line on standard error, with the queue, the index and the bytes. Under
//! `--strict` a violation makes the exit code 1.

use std::fmt;

/// Something that no correct driver does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where: `QP 0x41 SQ`, `CQ 0x80`, `HCR`, `UAR 3`.
    pub queue: String,
    /// The index of the entry, if the queue has entries.
    pub index: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// The offending bytes.
    pub bytes: Vec<u8>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.queue)?;
        if let Some(index) = self.index {
            write!(f, " [{index}]")?;
        }
        write!(f, ": {}", self.what)?;
        for (at, byte) in self.bytes.iter().enumerate() {
            f.write_str(if at == 0 {
                "; bytes "
            } else if at % 4 == 0 {
                " "
            } else {
                ""
            })?;
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// How many violations of a card are printed: a broken driver must not fill a disk.
const PRINTED: u64 = 1000;

/// The violations of one card.
#[derive(Default)]
pub struct Violations {
    card: String,
    count: u64,
    last: Option<Violation>,
}

impl Violations {
    /// No violations, for the card with this name.
    pub fn new(card: &str) -> Self {
        Self { card: card.to_owned(), ..Self::default() }
    }

    /// Counts a violation, and prints it unless too many have been printed.
    pub fn report(&mut self, violation: Violation) {
        self.count += 1;
        if self.count <= PRINTED {
            eprintln!("{}: violation: {violation}", self.card);
        } else if self.count == PRINTED + 1 {
            eprintln!("{}: further violations are counted but not printed", self.card);
        }
        self.last = Some(violation);
    }

    /// The last one.
    pub fn last(&self) -> Option<&Violation> {
        self.last.as_ref()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}
