//! Asks nf_tables for the chains that packets come and go through (`NFT_MSG_GETCHAIN`; only root may).

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::snapshot::{Chain, NfTables};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;

const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_USE: u16 = 6;
const NFTA_HOOK_HOOKNUM: u16 = 1;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
/// Attribute numbers carry two flags above them.
const NLA_TYPE: u16 = 0x3fff;

/// `struct nlmsghdr` and the `struct nfgenmsg` after it.
const HEADER: usize = 16;
const GENERIC: usize = 4;

/// The chains of this network namespace that see packets come in or go out.
pub(super) fn chains() -> NfTables {
    match dump() {
        Ok(messages) => {
            NfTables::Chains(messages.iter().filter_map(|(family, body)| chain(*family, body)).collect())
        }
        // There is no nfnetlink, or no nf_tables behind it.
        Err(Errno::EPROTONOSUPPORT | Errno::EINVAL) => NfTables::NotThere,
        Err(Errno::EPERM) => NfTables::Silent("only root may ask".into()),
        Err(errno) => NfTables::Silent(format!("{} ({errno:?})", errno.desc())),
    }
}

/// Every chain's family and attributes.
fn dump() -> Result<Vec<(u8, Vec<u8>)>, Errno> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(2, 0))?;
    let mut request = Vec::with_capacity(HEADER + GENERIC);
    request.extend(((HEADER + GENERIC) as u32).to_ne_bytes());
    request.extend((NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN).to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 8 + GENERIC]); // sequence and port: one question; every family
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let len = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
        let mut rest = bytes.get(..len).unwrap_or_default();
        while let Some((kind, payload, after)) = message(rest) {
            rest = after;
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(errno(payload)),
                kind if kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN => {
                    if let Some((generic, body)) = payload.split_at_checked(GENERIC) {
                        found.push((generic[0], body.to_vec()));
                    }
                }
                _ => {}
            }
        }
    }
}

/// The first message's type and payload, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (len, kind) = (u32_at(bytes, 0)? as usize, u16_at(bytes, 4)?);
    let payload = bytes.get(HEADER..len)?;
    Some((kind, payload, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

fn errno(payload: &[u8]) -> Errno {
    let code = u32_at(payload, 0).map_or(0, u32::cast_signed);
    Errno::from_raw(code.saturating_neg())
}

/// A chain that is hooked to packets for or from this host.
fn chain(family: u8, body: &[u8]) -> Option<Chain> {
    let family = match i32::from(family) {
        nix::libc::NFPROTO_INET => "inet",
        nix::libc::NFPROTO_IPV4 => "ip",
        nix::libc::NFPROTO_IPV6 => "ip6",
        _ => return None,
    };
    let number = |value: &[u8]| value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let hook = attribute(attribute(body, NFTA_CHAIN_HOOK)?, NFTA_HOOK_HOOKNUM).and_then(number)?;
    let hook = match hook.cast_signed() {
        nix::libc::NF_INET_LOCAL_IN => "input",
        nix::libc::NF_INET_LOCAL_OUT => "output",
        _ => return None,
    };
    let name = |kind| {
        attribute(body, kind).map(|value| {
            String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        })
    };
    Some(Chain {
        family,
        table: name(NFTA_CHAIN_TABLE)?,
        name: name(NFTA_CHAIN_NAME)?,
        hook,
        drops: attribute(body, NFTA_CHAIN_POLICY).and_then(number)
            == Some(nix::libc::NF_DROP.cast_unsigned()),
        rules: attribute(body, NFTA_CHAIN_USE).and_then(number).unwrap_or(0),
    })
}

/// The value of the first attribute of this number.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (len, kind) = (usize::from(u16_at(bytes, 0)?), u16_at(bytes, 2)?);
        let value = bytes.get(4..len)?;
        if kind & NLA_TYPE == wanted {
            return Some(value);
        }
        bytes = bytes.get(len.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [&(4 + value.len() as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn body(hook: u32, policy: u32, rules: u32) -> Vec<u8> {
        [
            put(NFTA_CHAIN_TABLE, b"filter\0"),
            put(NFTA_CHAIN_NAME, b"input\0"),
            put(NFTA_CHAIN_HOOK | 0x8000, &put(NFTA_HOOK_HOOKNUM, &hook.to_be_bytes())),
            put(NFTA_CHAIN_POLICY, &policy.to_be_bytes()),
            put(NFTA_CHAIN_USE, &rules.to_be_bytes()),
        ]
        .concat()
    }

    #[test]
    fn hooked_chains_are_read_and_others_are_not() {
        let found = chain(1, &body(1, 0, 3)).unwrap();
        assert_eq!((found.family, found.hook, found.drops, found.rules), ("inet", "input", true, 3));
        assert_eq!((found.table.as_str(), found.name.as_str()), ("filter", "input"));
        assert!(!chain(2, &body(3, 1, 0)).unwrap().drops);
        assert_eq!(chain(1, &body(2, 0, 3)), None, "forward");
        assert_eq!(chain(7, &body(1, 0, 3)), None, "bridge");
        assert_eq!(chain(1, &put(NFTA_CHAIN_NAME, b"jumped-to\0")), None);
    }

    #[test]
    fn what_is_cut_short_ends_the_reading() {
        let whole = body(1, 0, 3);
        for len in 0..whole.len() {
            let _ = chain(1, &whole[..len]);
            let _ = message(&whole[..len]);
        }
        assert_eq!(attribute(&[0, 0, 1, 0], 1), None);
        assert_eq!(message(&[255; 16]), None);
    }
}
