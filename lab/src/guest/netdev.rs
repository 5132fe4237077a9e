//! The guest's network devices, by route netlink: up, MTU, address.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const HEADER: usize = 16;

/// Brings a device up, with another MTU if one is given.
pub(crate) fn up(name: &str, mtu: Option<u32>) -> Result<(), String> {
    let mut body = Vec::new();
    body.extend([0u8; 4]); // family, padding, type
    body.extend(index(name)?.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    if let Some(mtu) = mtu {
        attribute(&mut body, IFLA_MTU, &mtu.to_ne_bytes());
    }
    request(RTM_NEWLINK, 0, &body).map_err(|error| format!("bringing {name} up: {error}"))
}

/// Adds an address to a device, without duplicate address detection.
pub(crate) fn set_address(name: &str, address: IpAddr, prefix: u8) -> Result<(), String> {
    let (family, bytes) = match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    };
    let mut body = vec![family, prefix, IFA_F_NODAD, 0];
    body.extend(index(name)?.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &bytes);
    attribute(&mut body, IFA_ADDRESS, &bytes);
    request(RTM_NEWADDR, NLM_F_CREATE, &body).map_err(|error| format!("setting {name}'s address: {error}"))
}

fn index(name: &str) -> Result<u32, String> {
    let path = format!("/sys/class/net/{name}/ifindex");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("network device {name}: {path}: {error}"))?;
    text.trim().parse().map_err(|_| format!("{path}: {text:?} is no number"))
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = (4 + value.len()) as u16;
    body.extend(len.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn request(kind: u16, flags: u16, body: &[u8]) -> Result<(), String> {
    let fd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
            .map_err(|errno| format!("route netlink socket: {errno}"))?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    message.extend([0u8; 8]); // sequence and port are not needed: one request, one answer
    message.extend(body);
    sendto(fd.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())
        .map_err(|errno| errno.to_string())?;

    let mut answer = [0u8; 4096];
    let len = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(|errno| errno.to_string())?;
    let code = answer[..len].get(HEADER..HEADER + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    match (u16::from_ne_bytes([answer[4], answer[5]]), code.map(i32::from_ne_bytes)) {
        (NLMSG_ERROR, Some(0)) => Ok(()),
        (NLMSG_ERROR, Some(code)) => Err(nix::errno::Errno::from_raw(-code).to_string()),
        (kind, _) => Err(format!("netlink answered {len} bytes of type {kind}")),
    }
}
