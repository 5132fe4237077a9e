//! Who gets a datagram on Ethernet: the hardware address of a GID, where the device's driver has to know it.
//!
//! The GID of a group or of a link-local address says it; else the kernel's routes and neighbours do, as they do for
//! packets of IP.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::discover::DeviceInfo;
use crate::error::{Error, Result};
use crate::netlink::{Hop, Routes};
use crate::types::{EthAddr, Gid};
use crate::uapi::verbs::AhAttr;

/// How long a neighbour has for its answer where the caller sets no limit, as in rdma-core.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(50);
/// The UDP port whose packets nobody answers (RFC 863).
const DISCARD: u16 = 9;

/// Finds the neighbour that an address vector leads to, waiting at most `patience` for its answer.
///
/// # Errors
/// The source GID is not in use, there is no route (`ENETUNREACH`), or the neighbour does not answer in time (`EHOSTUNREACH`).
pub(super) fn eth_addr(device: &DeviceInfo, attr: &AhAttr, patience: Duration) -> Result<EthAddr> {
    let index = attr.grh.sgid_index;
    let (netdev, source) = device.gid_netdev(attr.port_num, index).ok_or_else(|| {
        let why = format!("no network device is behind GID index {index} of port {}", attr.port_num);
        Error::invalid("create_ah", device.name.as_str(), why)
    })?;
    let mac = match told(attr.grh.dgid) {
        Some(mac) => mac,
        None => asked(device, &netdev, source, Gid(attr.grh.dgid), patience)?,
    };
    Ok(EthAddr { mac, vlan: vlan(&netdev) })
}

/// The hardware address that the GID itself says.
fn told(gid: [u8; 16]) -> Option<[u8; 6]> {
    match gid {
        [0xff, .., a, b, c, d] => Some([0x33, 0x33, a, b, c, d]),
        // A group of IPv4.
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xe0..=0xef, b, c, d] => {
            Some([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] => Some([a ^ 2, b, c, d, e, f]),
        _ => None,
    }
}

/// The hardware address that the kernel knows, or finds out when it has a packet to send there.
fn asked(device: &DeviceInfo, netdev: &str, source: Gid, to: Gid, patience: Duration) -> Result<[u8; 6]> {
    let (source, to) = (ip(source), ip(to));
    let unreachable = |errno| Error::os("create_ah", device.name.as_str(), errno);
    let ifindex: u32 = attribute(netdev, "ifindex")
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| unreachable(Errno::ENODEV))?;
    let mut routes = Routes::open()?;
    let hop = match routes.hop(to, ifindex)? {
        Hop::Here => return own(netdev).ok_or_else(|| unreachable(Errno::ENODEV)),
        Hop::Neighbour(hop) => hop,
    };
    let start = Instant::now();
    let mut pause = FIRST_LOOK;
    let mut nudged = false;
    loop {
        if let Some(mac) = routes.neighbour(hop, ifindex)? {
            return Ok(mac);
        }
        if !nudged {
            nudge(source, to, ifindex);
            nudged = true;
        }
        let left = patience.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(unreachable(Errno::EHOSTUNREACH)
                .with_hint(format!("{hop} did not answer at {netdev} within {} ms", patience.as_millis())));
        }
        sleep(pause.min(left));
        pause = (pause * 2).min(LAST_LOOK);
    }
}

/// Makes the kernel look for the neighbour: an empty packet waits for it.
fn nudge(source: IpAddr, to: IpAddr, ifindex: u32) {
    let at = |ip, port| match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, ifindex).into(),
    };
    // If it cannot be sent, the neighbour stays unknown, and that is reported.
    let _ = UdpSocket::bind(at(source, 0)).and_then(|socket| socket.send_to(&[], at(to, DISCARD)));
}

/// The IP address that a GID is.
fn ip(gid: Gid) -> IpAddr {
    gid.ipv4().map_or_else(|| Ipv6Addr::from(gid.0).into(), IpAddr::from)
}

fn attribute(netdev: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{netdev}/{name}")).ok()?;
    Some(text.trim_end().to_owned())
}

/// The hardware address of a network device.
fn own(netdev: &str) -> Option<[u8; 6]> {
    let text = attribute(netdev, "address")?;
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// The VLAN that a network device is for; where the kernel has none, there is no such file.
fn vlan(netdev: &str) -> Option<u16> {
    vlan_in(&std::fs::read_to_string(format!("/proc/net/vlan/{netdev}")).ok()?)
}

/// The VLAN in the kernel's words: `eth0.5  VID: 5\t REORDER_HDR: 1`.
fn vlan_in(text: &str) -> Option<u16> {
    text.split_whitespace().skip_while(|word| *word != "VID:").nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gid(text: &str) -> [u8; 16] {
        text.parse::<Ipv6Addr>().map(|ip| ip.octets()).unwrap_or_default()
    }

    #[test]
    fn groups_and_link_local_addresses_say_it() {
        assert_eq!(told(gid("ff0e::1:2:304")), Some([0x33, 0x33, 0, 2, 3, 4]));
        assert_eq!(told(gid("::ffff:224.130.3.4")), Some([1, 0, 0x5e, 2, 3, 4]));
        assert_eq!(told(gid("fe80::12d2:c9ff:fe00:6bd1")), Some([0x10, 0xd2, 0xc9, 0, 0x6b, 0xd1]));
        // Addresses that were not made of a hardware address.
        assert_eq!(told(gid("fe80::1:2:3:4")), None);
        assert_eq!(told(gid("::ffff:10.0.0.1")), None);
        assert_eq!(told(gid("fd00::1")), None);
    }

    /// As /proc/net/vlan/eth0.5 begins.
    #[test]
    fn a_vlan_is_in_the_second_word() {
        let text =
            "eth0.5  VID: 5\t REORDER_HDR: 1  dev->priv_flags: 1021\n         total frames received 0\n";
        assert_eq!(vlan_in(text), Some(5));
        assert_eq!(vlan_in(""), None);
        assert_eq!(vlan_in("eth0 VID:"), None);
    }
}
