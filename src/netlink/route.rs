//! Route netlink: the next hop to an IP address, and a neighbour's hardware address.

use std::net::IpAddr;

use nix::errno::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::exchange::{Exchange, Transport, What};
use super::message::{Attributes, Malformed, Read, Request};
use crate::error::{Error, Result};
use crate::sys::netlink::NetlinkSocket;
use crate::uapi::linux_rtnetlink::{
    NDA_DST, NDA_LLADDR, NUD_DELAY, NUD_NOARP, NUD_PERMANENT, NUD_PROBE, NUD_REACHABLE, NUD_STALE, Ndmsg,
    RTA_DST, RTA_GATEWAY, RTA_OIF, RTM_GETNEIGH, RTM_GETROUTE, RTN_LOCAL, RTN_UNICAST, Rtmsg,
};

/// `AF_INET` and `AF_INET6`.
const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];

/// States in which a neighbour's address can be used.
const KNOWN: u16 = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_NOARP | NUD_PERMANENT;

/// Where packets to an address go next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    /// The address is this host's own.
    Here,
    /// To this neighbour: a gateway, or the address itself.
    Neighbour(IpAddr),
}

/// The kernel's routes and neighbours.
#[derive(Debug)]
pub(crate) struct Routes<T = NetlinkSocket>(Exchange<T>);

impl Routes {
    /// Opens a socket. No privilege is needed to ask.
    pub(crate) fn open() -> Result<Self> {
        let socket = NetlinkSocket::route().map_err(|errno| Error::os("open", "route netlink", errno))?;
        Ok(Self(Exchange::new(socket)))
    }
}

impl<T: Transport> Routes<T> {
    /// Where packets to an address go that leave by this network device.
    ///
    /// # Errors
    /// There is no route (`ENETUNREACH`), or none that a packet to one receiver can take.
    pub(crate) fn hop(&mut self, to: IpAddr, ifindex: u32) -> Result<Hop> {
        let (family, bytes) = parts(to);
        let header = Rtmsg { rtm_family: family, rtm_dst_len: (bytes.len() * 8) as u8, ..Rtmsg::default() };
        let request = Request::of(RTM_GETROUTE, 0)
            .family(header.as_bytes())
            .bytes(RTA_DST, &bytes)
            .u32(RTA_OIF, ifindex);
        let object = to.to_string();
        let what = What { operation: "route", object: &object };
        let (kind, gateway) = self.0.get_message(what, RTM_GETROUTE, request, |payload| {
            let (header, attributes) = split::<Rtmsg>(payload)?;
            let gateway = find(attributes, RTA_GATEWAY)?.map(|bytes| address(header.rtm_family, bytes));
            Ok((header.rtm_type, gateway.transpose()?))
        })?;
        match kind {
            RTN_LOCAL => Ok(Hop::Here),
            RTN_UNICAST => Ok(Hop::Neighbour(gateway.unwrap_or(to))),
            _ => Err(Error::os("route", object, Errno::ENETUNREACH)),
        }
    }

    /// The hardware address of a neighbour at a network device, if the kernel knows it now.
    ///
    /// # Errors
    /// The kernel cannot be asked for one neighbour. Linux 5.0.
    pub(crate) fn neighbour(&mut self, neighbour: IpAddr, ifindex: u32) -> Result<Option<[u8; 6]>> {
        let (family, bytes) = parts(neighbour);
        let header = Ndmsg { ndm_family: family, ndm_ifindex: ifindex, ..Ndmsg::default() };
        let request = Request::of(RTM_GETNEIGH, 0).family(header.as_bytes()).bytes(NDA_DST, &bytes);
        let object = neighbour.to_string();
        let what = What { operation: "neighbour", object: &object };
        let answer = self.0.get_message(what, RTM_GETNEIGH, request, |payload| {
            let (header, attributes) = split::<Ndmsg>(payload)?;
            let known = header.ndm_state & KNOWN != 0;
            Ok(find(attributes, NDA_LLADDR)?.filter(|_| known).and_then(|bytes| bytes.try_into().ok()))
        });
        match answer {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            answer => answer,
        }
    }
}

/// The family and the bytes of an address.
fn parts(ip: IpAddr) -> (u8, Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => (FAMILIES[0], ip.octets().to_vec()),
        IpAddr::V6(ip) => (FAMILIES[1], ip.octets().to_vec()),
    }
}

fn address(family: u8, bytes: &[u8]) -> Read<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    let ip = if family == FAMILIES[0] { v4() } else { v6() };
    ip.ok_or_else(|| Malformed::new(format!("a gateway of {} bytes in family {family}", bytes.len())))
}

/// The family's header, and the attributes behind it.
fn split<H: FromBytes>(payload: &[u8]) -> Read<(H, Attributes<'_>)> {
    let (header, rest) = H::read_from_prefix(payload)
        .map_err(|_| Malformed::new(format!("an answer of {} bytes", payload.len())))?;
    Ok((header, Attributes::new(rest)))
}

/// The value of the first attribute of this kind.
fn find(attributes: Attributes<'_>, kind: u16) -> Read<Option<&[u8]>> {
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(Some(attribute.value));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
