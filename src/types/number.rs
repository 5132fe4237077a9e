//! Numbers that the wire or the kernel gives a width: 24-bit ones are checked where they are made.

use std::fmt;

/// A number too large for its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutOfRange {
    /// The field's name.
    pub what: &'static str,
    /// What was given.
    pub value: u64,
    /// The largest value that fits.
    pub max: u64,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:#x} is above {:#x}", self.what, self.value, self.max)
    }
}

impl std::error::Error for OutOfRange {}

const MAX_24: u32 = 0x00ff_ffff;

macro_rules! number_24 {
    ($(#[$meta:meta])* $name:ident, $what:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(try_from = "u32", into = "u32"))]
        pub struct $name(u32);

        impl TryFrom<u32> for $name {
            type Error = OutOfRange;

            fn try_from(value: u32) -> Result<Self, OutOfRange> {
                Self::new(value)
            }
        }

        impl From<$name> for u32 {
            fn from(number: $name) -> Self {
                number.0
            }
        }

        impl $name {
            /// The number, where it fits 24 bits.
            ///
            /// # Errors
            /// A value above `0xffffff`.
            pub const fn new(value: u32) -> Result<Self, OutOfRange> {
                if value > MAX_24 {
                    return Err(OutOfRange { what: $what, value: value as u64, max: MAX_24 as u64 });
                }
                Ok(Self(value))
            }

            /// The low 24 bits of `value`.
            #[must_use]
            pub const fn truncate(value: u32) -> Self {
                Self(value & MAX_24)
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#08x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#08x})"), self.0)
            }
        }
    };
}

number_24! {
    /// A queue pair number (24 bits).
    Qpn, "QPN"
}

number_24! {
    /// A packet sequence number (24 bits); it wraps.
    Psn, "PSN"
}

number_24! {
    /// The number of an XRC shared receive queue (24 bits).
    Srqn, "SRQN"
}

impl Psn {
    /// The number `count` packets later.
    #[must_use]
    pub const fn wrapping_add(self, count: u32) -> Self {
        Self::truncate(self.0.wrapping_add(count))
    }
}

macro_rules! key {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub u32);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#010x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#010x}", self.0)
            }
        }
    };
}

key! {
    /// The key with which this side names a memory region in its own requests.
    Lkey
}
key! {
    /// The key with which a peer names a memory region or window.
    Rkey
}
key! {
    /// The key that a datagram must carry to be taken.
    Qkey
}

/// A port of a device, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortNum(std::num::NonZeroU8);

impl PortNum {
    /// The first port.
    pub const ONE: Self = Self(std::num::NonZeroU8::MIN);

    /// The port, where it is in 1..=255.
    ///
    /// # Errors
    /// Zero or above 255.
    pub fn new(value: u32) -> Result<Self, OutOfRange> {
        u8::try_from(value).ok().and_then(std::num::NonZeroU8::new).map(Self).ok_or(OutOfRange {
            what: "port",
            value: value.into(),
            max: 255,
        })
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for PortNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_four_bits_are_checked_and_psns_wrap() {
        assert_eq!(Qpn::new(0x0100_0000).map_err(|e| e.value), Err(0x0100_0000));
        assert_eq!(Qpn::new(MAX_24).map(Qpn::get), Ok(MAX_24));
        assert_eq!(Psn::truncate(MAX_24).wrapping_add(2).get(), 1);
    }

    #[test]
    fn ports_count_from_one() {
        assert!(PortNum::new(0).is_err());
        assert!(PortNum::new(256).is_err());
        assert_eq!(PortNum::new(255).map(PortNum::get), Ok(255));
    }
}
