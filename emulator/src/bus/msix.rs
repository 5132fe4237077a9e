//! MSI-X: one eventfd for each vector, from the client that attached the device.

use std::{fs::File, io::Write};

/// Number of vectors.
pub const VECTORS: u16 = 32;

#[derive(Default)]
struct Vector {
    event: Option<File>,
    masked: bool,
    pending: bool,
}

/// The vectors.
pub struct Msix {
    vectors: Vec<Vector>,
}

impl Default for Msix {
    fn default() -> Self {
        Self { vectors: (0..VECTORS).map(|_| Vector::default()).collect() }
    }
}

impl Msix {
    /// Connects vector `number` with an eventfd, or disconnects it. A vector that does not exist is ignored.
    pub fn connect(&mut self, number: u32, event: Option<File>) {
        if let Some(vector) = self.vector(number) {
            vector.event = event;
            vector.pending = false;
        }
    }

    /// Disconnects all vectors.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Masks or unmasks a vector. An interrupt that is pending when a vector is unmasked fires then.
    pub fn mask(&mut self, number: u32, masked: bool) {
        let Some(vector) = self.vector(number) else { return };
        vector.masked = masked;
        if !masked && vector.pending {
            vector.pending = false;
            self.fire(number);
        }
    }

    /// Fires vector `number`, and returns whether an eventfd is connected.
    pub fn fire(&mut self, number: u32) -> bool {
        let Some(vector) = self.vector(number) else { return false };
        if vector.masked {
            vector.pending = true;
            return true;
        }
        match &mut vector.event {
            // Writing eight bytes to an eventfd fails only if the client is gone, and then nobody listens.
            Some(event) => event.write_all(&1_u64.to_ne_bytes()).is_ok(),
            None => false,
        }
    }

    fn vector(&mut self, number: u32) -> Option<&mut Vector> {
        self.vectors.get_mut(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[test]
    fn a_masked_interrupt_waits() {
        let file = tempfile::tempfile().unwrap();
        let mut seen = file.try_clone().unwrap();
        let mut count = || {
            seen.rewind().unwrap();
            seen.read_to_end(&mut Vec::new()).unwrap() / 8
        };
        let mut msix = Msix::default();
        assert!(!msix.fire(3));
        msix.connect(3, Some(file));
        msix.mask(3, true);
        assert!(msix.fire(3) && msix.fire(3));
        assert_eq!(count(), 0);
        msix.mask(3, false);
        assert_eq!(count(), 1);
        msix.mask(3, false);
        assert_eq!(count(), 1);
        assert!(!msix.fire(u32::from(VECTORS)));
    }
}
