//! Addresses as the kernel has them: `struct sockaddr_in` and `struct sockaddr_in6` in the room of any.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use zerocopy::IntoBytes;

use crate::uapi::ucm::SockaddrStorage;

/// Bytes of `struct sockaddr_in` and `struct sockaddr_in6`.
const LEN_V4: u16 = 16;
const LEN_V6: u16 = 28;

/// An address for the kernel, and its length.
pub(super) fn to_kernel(address: SocketAddr) -> (SockaddrStorage, u16) {
    let mut storage = SockaddrStorage::default();
    let bytes = storage.as_mut_bytes();
    let (family, len) = match address {
        SocketAddr::V4(_) => (libc::AF_INET, LEN_V4),
        SocketAddr::V6(_) => (libc::AF_INET6, LEN_V6),
    };
    bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => bytes[4..8].copy_from_slice(&v4.ip().octets()),
        SocketAddr::V6(v6) => {
            bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
            bytes[8..24].copy_from_slice(&v6.ip().octets());
            bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    (storage, len)
}

/// An address of the kernel's, where it is one of IP.
pub(super) fn from_kernel(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let (family, rest) = storage.as_bytes().split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            Some(SocketAddrV4::new(ip, port).into())
        }
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk::<4>()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            let ip = Ipv6Addr::from(*ip);
            Some(SocketAddrV6::new(ip, port, u32::from_be_bytes(*flow), scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["10.0.0.1:7174", "0.0.0.0:0", "[fe80::1%3]:7174", "[::]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(from_kernel(&to_kernel(address).0), Some(address), "{text}");
        }
        assert_eq!(from_kernel(&SockaddrStorage::default()), None);
    }

    #[test]
    fn they_lie_as_c_lays_them() {
        let (storage, len) = to_kernel("10.0.0.1:7174".parse().unwrap());
        assert_eq!(
            storage.as_bytes()[..usize::from(len)],
            [2, 0, 28, 6, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        let (storage, len) = to_kernel("[fe80::1%3]:7174".parse().unwrap());
        let mut expected = [0; 28];
        (expected[0], expected[2], expected[3], expected[24]) = (10, 28, 6, 3);
        (expected[8], expected[9], expected[23]) = (0xfe, 0x80, 1);
        assert_eq!(storage.as_bytes()[..usize::from(len)], expected);
    }
}
