//! `<linux/rtnetlink.h>` and `<linux/neighbour.h>`: routes and neighbours.

use super::{uapi_numbers, uapi_structs};

uapi_structs! {
    /// In front of a route's attributes.
    struct Rtmsg = "struct rtmsg" {
        rtm_family: u8,
        rtm_dst_len: u8,
        rtm_src_len: u8,
        rtm_tos: u8,
        rtm_table: u8,
        rtm_protocol: u8,
        rtm_scope: u8,
        rtm_type: u8,
        rtm_flags: u32,
    }

    /// In front of a neighbour's attributes.
    struct Ndmsg = "struct ndmsg" {
        ndm_family: u8,
        ndm_pad1: u8,
        ndm_pad2: u16,
        ndm_ifindex: u32,
        ndm_state: u16,
        ndm_flags: u8,
        ndm_type: u8,
    }
}

uapi_numbers! {
    u16 {
        RTM_GETROUTE = 26,
        RTM_GETNEIGH = 30,

        RTA_DST = 1,
        RTA_OIF = 4,
        RTA_GATEWAY = 5,

        NDA_DST = 1,
        NDA_LLADDR = 2,

        NUD_REACHABLE = 0x02,
        NUD_STALE = 0x04,
        NUD_DELAY = 0x08,
        NUD_PROBE = 0x10,
        NUD_NOARP = 0x40,
        NUD_PERMANENT = 0x80,
    }
    u8 {
        RTN_UNICAST = 1,
        RTN_LOCAL = 2,
    }
}
