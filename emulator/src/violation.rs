//! What a driver did that a real card would refuse or misread.
//!
//! Every violation is counted and printed at once, as a line on standard error, with the queue, the index and the
//! bytes. A run under `--strict` ends with an error if there was one.

use std::fmt;

/// One thing that no correct driver does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where: `QP 0x41 SQ`, `CQ 0x80`, `HCR`, `UAR 3`.
    pub queue: String,
    /// Which entry of it, if it has entries.
    pub index: Option<u64>,
    /// What is wrong, in the field's terms.
    pub what: String,
    /// The bytes in question.
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

/// Violations of a card that are printed; a driver gone mad shall not fill a disk.
const PRINTED: u64 = 1000;

/// The violations of one card.
#[derive(Default)]
pub struct Violations {
    card: String,
    count: u64,
    last: Option<Violation>,
}

impl Violations {
    /// None yet, of the card with this name.
    pub fn of(card: &str) -> Self {
        Self { card: card.to_owned(), ..Self::default() }
    }

    /// Counts one and prints it, if it is not one too many.
    pub fn report(&mut self, violation: Violation) {
        self.count += 1;
        if self.count <= PRINTED {
            eprintln!("{}: violation: {violation}", self.card);
        } else if self.count == PRINTED + 1 {
            eprintln!("{}: further violations are counted, and not printed", self.card);
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
