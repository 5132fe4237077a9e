//! Receive side scaling: the Toeplitz hash of a frame's addresses and ports, which selects a queue.

use crate::fabric::ethernet::frame::{Headers, Ip};

/// Bytes of the key.
pub const KEY: usize = 40;

/// What is hashed, by the bits of `MLX4_RSS_*` (include/linux/mlx4/qp.h).
mod flag {
    pub(super) const UDP_IPV6: u8 = 1 << 0;
    pub(super) const UDP_IPV4: u8 = 1 << 1;
    pub(super) const TCP_IPV6: u8 = 1 << 2;
    pub(super) const IPV6: u8 = 1 << 3;
    pub(super) const TCP_IPV4: u8 = 1 << 4;
    pub(super) const IPV4: u8 = 1 << 5;
}

/// The hash of a frame; 0 if the flags exclude its type.
pub fn hash(key: &[u8; KEY], flags: u8, frame: &[u8], headers: &Headers) -> u32 {
    let Some(ip) = headers.ip else { return 0 };
    let (any, tcp, udp) = if ip.version == 4 {
        (flag::IPV4, flag::TCP_IPV4, flag::UDP_IPV4)
    } else {
        (flag::IPV6, flag::TCP_IPV6, flag::UDP_IPV6)
    };
    let ports = ip.is_tcp() && flags & tcp != 0 || ip.is_udp() && flags & udp != 0;
    if !ports && flags & any == 0 {
        return 0;
    }
    let mut input = frame[ip.addresses()].to_vec();
    if ports {
        input.extend(ports_of(frame, ip));
    }
    toeplitz(key, &input)
}

fn ports_of(frame: &[u8], ip: Ip) -> impl Iterator<Item = u8> + '_ {
    frame[ip.transport..].iter().take(4).copied()
}

/// XORs, for each bit of the input that is set, the 32 bits of the key from that bit on.
fn toeplitz(key: &[u8; KEY], input: &[u8]) -> u32 {
    let mut window = u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    let mut hash = 0;
    for (at, byte) in input.iter().enumerate() {
        let next = key.get(at + 4).copied().unwrap_or(0);
        for bit in (0..8).rev() {
            if byte >> bit & 1 != 0 {
                hash ^= window;
            }
            window = window << 1 | u32::from(next >> bit & 1);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and two rows of the verification suite that the inventors of receive side scaling publish.
    #[test]
    fn the_hash_is_the_published_one() {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
            0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
            0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        let addresses = [66, 9, 149, 187, 161, 142, 100, 80];
        assert_eq!(toeplitz(&key, &addresses), 0x323e_8fc2);
        let ports = [2794_u16.to_be_bytes(), 1766_u16.to_be_bytes()].concat();
        assert_eq!(toeplitz(&key, &[&addresses[..], &ports].concat()), 0x51cc_c178);
    }
}
