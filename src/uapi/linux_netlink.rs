//! `<linux/netlink.h>`: the framing that every netlink family shares.

use super::{uapi_numbers, uapi_structs};

uapi_structs! {
    /// In front of every message.
    struct Nlmsghdr = "struct nlmsghdr" {
        nlmsg_len: u32,
        nlmsg_type: u16,
        nlmsg_flags: u16,
        nlmsg_seq: u32,
        nlmsg_pid: u32,
    }

    /// In front of every attribute.
    struct Nlattr = "struct nlattr" {
        nla_len: u16,
        nla_type: u16,
    }

    /// What an acknowledgement carries; `error` is 0 or a negated errno.
    struct Nlmsgerr = "struct nlmsgerr" {
        error: i32,
        msg: Nlmsghdr,
    }
}

uapi_numbers! {
    u16 {
        NLMSG_NOOP = 1,
        NLMSG_ERROR = 2,
        NLMSG_DONE = 3,
        NLMSG_OVERRUN = 4,

        NLM_F_REQUEST = 0x01,
        NLM_F_MULTI = 0x02,
        NLM_F_ACK = 0x04,
        NLM_F_DUMP_INTR = 0x10,
        NLM_F_DUMP = 0x300,

        NLA_F_NESTED = 0x8000,
        NLA_F_NET_BYTEORDER = 0x4000,
    }
}
