//! Memory keys: who may access which memory.

use std::fmt;

/// Who uses a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The queue pair.
    pub qpn: u32,
    /// The protection domain.
    pub pd: u32,
}

/// What a key has to permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Gathering the data of a request.
    LocalRead,
    /// Scattering into the buffers of a request.
    LocalWrite,
    /// A peer's read.
    RemoteRead,
    /// A peer's write.
    RemoteWrite,
    /// A peer's atomic operation.
    RemoteAtomic,
}

impl Right {
    /// Whether a peer uses it, so that the key is an R_Key.
    pub fn is_remote(self) -> bool {
        matches!(self, Self::RemoteRead | Self::RemoteWrite | Self::RemoteAtomic)
    }
}

/// An access to memory through a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who.
    pub user: User,
    /// The key.
    pub key: u32,
    /// Virtual address.
    pub address: u64,
    /// Length in bytes.
    pub length: u64,
    /// What the key has to permit.
    pub right: Right,
}

/// Why an access through a key fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// There is no such key.
    NoSuchKey,
    /// The key was invalidated, or has never been registered or bound.
    Free,
    /// It belongs to another protection domain.
    Domain,
    /// The window is bound to another queue pair.
    QueuePair,
    /// It lacks the right.
    Right,
    /// The range is not inside what the key covers.
    Bounds,
    /// The card cannot reach its table of keys or pages at this address.
    Table {
        /// The address in the card's terms.
        address: u64,
    },
    /// The key covers the range, but no page is present there.
    NoPage {
        /// The address of the translation entry in the card's terms.
        address: u64,
    },
    /// The page is outside the guest's memory.
    Outside {
        /// DMA address.
        address: u64,
        /// Length in bytes.
        length: usize,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchKey => f.write_str("no such key"),
            Self::Free => f.write_str("the key is not in use: invalidated, or not yet registered or bound"),
            Self::Domain => f.write_str("the key belongs to another protection domain"),
            Self::QueuePair => f.write_str("the window is bound to another queue pair"),
            Self::Right => f.write_str("the key does not permit this access"),
            Self::Bounds => f.write_str("outside the range of the key"),
            Self::Table { address } => write!(f, "the table entry at {address:#x} cannot be reached"),
            Self::NoPage { address } => {
                write!(f, "no page: the translation entry at {address:#x} is not present")
            }
            Self::Outside { address, length } => {
                write!(f, "translated to {length} bytes at {address:#x}, outside guest memory")
            }
        }
    }
}
