//! A stand-in for the library's RDMA netlink until that lands: adds a soft-RDMA link.

use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

pub(crate) fn add(name: &str, kind: &str, netdev: &str) -> Result<(), String> {
    const NLDEV_NEWLINK: u16 = 5 << 10 | 3;
    let mut body = Vec::new();
    for (attribute, text) in [(2u16, name), (65, kind), (51, netdev)] {
        body.extend(((5 + text.len()) as u16).to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(text.as_bytes());
        body.push(0);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut message = Vec::new();
    message.extend(((16 + body.len()) as u32).to_ne_bytes());
    message.extend(NLDEV_NEWLINK.to_ne_bytes());
    message.extend(5u16.to_ne_bytes());
    message.extend([0u8; 8]);
    message.extend(&body);
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRDMA)
        .map_err(|errno| format!("RDMA netlink socket: {errno}"))?;
    sendto(fd.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())
        .map_err(|errno| errno.to_string())?;
    let mut answer = [0u8; 4096];
    recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(|errno| errno.to_string())?;
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        0 => Ok(()),
        code => {
            Err(format!("link {name} of kind {kind} on {netdev}: {}", nix::errno::Errno::from_raw(-code)))
        }
    }
}
