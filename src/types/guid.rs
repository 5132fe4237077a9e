//! The 64-bit identifier of a node, a port or a system image.

use std::fmt;

/// An EUI-64 in network order.
///
/// Prints as `ibv_devinfo` does (`0011:22ff:fe33:4455`), or with `{:x}` as `ibv_devices` does, without colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guid(pub [u8; 8]);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i] = self.0;
        write!(f, "{a:02x}{b:02x}:{c:02x}{d:02x}:{e:02x}{g:02x}:{h:02x}{i:02x}")
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid({self})")
    }
}

impl fmt::LowerHex for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_like_the_c_tools() {
        let guid = Guid([0x10, 0xd2, 0xc9, 0x10, 0, 0, 0x6b, 0xd0]);
        assert_eq!(guid.to_string(), "10d2:c910:0000:6bd0");
        assert_eq!(format!("{guid:x}"), "10d2c91000006bd0");
    }
}
