//! What two rpings tell each other: a piece of memory, in 16 bytes of network order.

use bareverbs::{Remote, Rkey};

/// Bytes of a message.
pub(super) const LEN: usize = 16;

/// A piece of the client's memory, which the server is to read or write (`struct rping_rdma_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Buffer {
    pub(super) addr: u64,
    pub(super) rkey: u32,
    pub(super) size: u32,
}

impl Buffer {
    pub(super) fn encode(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&self.addr.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.rkey.to_be_bytes());
        bytes[12..].copy_from_slice(&self.size.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: [u8; LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, k, l, m, n, s, t, u, v] = bytes;
        Self {
            addr: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            rkey: u32::from_be_bytes([k, l, m, n]),
            size: u32::from_be_bytes([s, t, u, v]),
        }
    }

    pub(super) fn remote(self) -> Remote {
        Remote { addr: self.addr, rkey: Rkey(self.rkey) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_in_network_order() {
        let buffer = Buffer { addr: 0x1122_3344_5566_7788, rkey: 0x51e, size: 64 };
        let bytes = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 5, 0x1e, 0, 0, 0, 64];
        assert_eq!(buffer.encode(), bytes);
        assert_eq!(Buffer::decode(bytes), buffer);
    }
}
