//! A packet filter for tests: a chain of nf_tables that drops all input.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFPROTO_INET: u8 = 1;
const NFTA_NAME_OF_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NLA_F_NESTED: u16 = 0x8000;
const NF_INET_LOCAL_IN: u32 = 1;
const NF_DROP: u32 = 0;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;

/// Adds `table inet filter { chain input { type filter hook input priority 0; policy drop; } }`.
pub(crate) fn drop_input() -> Result<(), String> {
    let failed = |errno: Errno| format!("nf_tables: {errno}");
    let fd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)
            .map_err(failed)?;
    let table = attribute(NFTA_NAME_OF_TABLE, b"filter\0");
    let hook = [
        attribute(NFTA_HOOK_HOOKNUM, &NF_INET_LOCAL_IN.to_be_bytes()),
        attribute(NFTA_HOOK_PRIORITY, &0u32.to_be_bytes()),
    ];
    let chain = [
        table.clone(),
        attribute(NFTA_CHAIN_NAME, b"input\0"),
        attribute(NFTA_CHAIN_HOOK | NLA_F_NESTED, &hook.concat()),
        attribute(NFTA_CHAIN_POLICY, &NF_DROP.to_be_bytes()),
        attribute(NFTA_CHAIN_TYPE, b"filter\0"),
    ];
    let make = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK;
    let batch = [
        message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, SUBSYS_NFTABLES, &[]),
        message(SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, make, NFPROTO_INET, 0, &table),
        message(SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN, make, NFPROTO_INET, 0, &chain.concat()),
        message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, 0, SUBSYS_NFTABLES, &[]),
    ];
    sendto(fd.as_raw_fd(), &batch.concat(), &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(failed)?;
    // One acknowledgement for the table, one for the chain.
    for _ in 0..2 {
        let mut answer = [0; 4096];
        recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty()).map_err(failed)?;
        let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        if code != 0 {
            return Err(failed(Errno::from_raw(-code)));
        }
    }
    Ok(())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [&(4 + value.len() as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn message(kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) -> Vec<u8> {
    let len = (20 + body.len()) as u32;
    let mut bytes = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(body);
    bytes
}
