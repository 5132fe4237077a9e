//! In what the five pingpongs differ, before they are played: options, defaults, words.

use bareverbs::{PortNum, Qp};

use crate::getopt::Spec;

/// Which of rdma-core's pingpongs it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `ibv_rc_pingpong`: a reliable connection.
    Rc,
    /// `ibv_uc_pingpong`: an unreliable connection.
    Uc,
    /// `ibv_ud_pingpong`: datagrams.
    Ud,
    /// `ibv_srq_pingpong`: several reliable connections that share a receive queue.
    Srq,
    /// `ibv_xsrq_pingpong`: extended reliable connections, several clients.
    Xsrq,
}

/// The most endpoints that `srq` exchanges; what it does not use are zero.
pub(super) const MAX_QP: u32 = 256;

const PORT: Spec = Spec::value('p', "port");
const IB_DEV: Spec = Spec::value('d', "ib-dev");
const IB_PORT: Spec = Spec::value('i', "ib-port");
const SIZE: Spec = Spec::value('s', "size");
const MTU: Spec = Spec::value('m', "mtu");
const NUM_QP: Spec = Spec::value('q', "num-qp");
const RX_DEPTH: Spec = Spec::value('r', "rx-depth");
const ITERS: Spec = Spec::value('n', "iters");
const SL: Spec = Spec::value('l', "sl");
const EVENTS: Spec = Spec::flag('e', "events");
const GID_IDX: Spec = Spec::value('g', "gid-idx");
const ODP: Spec = Spec::flag('o', "odp");
const IODP: Spec = Spec::flag('O', "iodp");
const PREFETCH: Spec = Spec::flag('P', "prefetch");
const TS: Spec = Spec::flag('t', "ts");
const CHK: Spec = Spec::flag('c', "chk");
const DM: Spec = Spec::flag('j', "dm");
const NEW_SEND: Spec = Spec::flag('N', "new_send");
const CLIENTS: Spec = Spec::value('c', "clients");
const NUM_TESTS: Spec = Spec::value('n', "num_tests");

impl Kind {
    /// Bytes of a message where nobody says.
    pub(super) fn default_size(self) -> u32 {
        if self == Self::Ud { 1024 } else { 4096 }
    }

    /// Bytes that stand before the message in a receive.
    pub(super) fn header(self) -> u32 {
        if self == Self::Ud { Qp::GRH_LEN as u32 } else { 0 }
    }

    /// How many endpoints each side tells the other.
    pub(super) fn endpoints_on_wire(self) -> usize {
        if self == Self::Srq { MAX_QP as usize } else { 1 }
    }

    /// What fills a message.
    pub(super) fn filler(self) -> u8 {
        if matches!(self, Self::Srq | Self::Xsrq) { 0 } else { 0x7b }
    }

    /// What the C tool says where there is no device.
    pub(super) fn no_device(self) -> &'static str {
        // One of them puts the name that it was not given between two spaces.
        if self == Self::Xsrq { "IB device  not found" } else { "No IB devices found" }
    }

    /// What it says where the device has no such port.
    pub(super) fn no_port(self, port: PortNum) -> String {
        match self {
            Self::Ud => format!("Unable to query port info for port {port}"),
            Self::Xsrq => "Failed to get port info".into(),
            _ => format!("Failed to modify {} to INIT", self.qp(0)),
        }
    }

    /// What it says where the port has no such GID; without an index, where the peer needs one to be reached.
    pub(super) fn no_gid(self, index: Option<u32>) -> String {
        match (index, self) {
            (Some(index), Self::Ud | Self::Srq) => format!("Could not get local gid for gid index {index}"),
            (Some(index), _) => format!("can't read sgid of index {index}"),
            (None, _) => self.no_peer(),
        }
    }

    /// What it says where the peer cannot be reached.
    pub(super) fn no_peer(self) -> String {
        match self {
            Self::Ud => "Failed to create AH".into(),
            _ => format!("Failed to modify {} to RTR", self.qp(0)),
        }
    }

    /// What it calls its n-th queue pair.
    pub(super) fn qp(self, n: usize) -> String {
        match self {
            Self::Srq => format!("QP[{n}]"),
            Self::Xsrq => format!("recv QP[{n}]"),
            _ => "QP".into(),
        }
    }

    /// The C tool's options, in the order of its usage.
    pub(crate) const fn options(self) -> &'static [Spec] {
        match self {
            Self::Rc => &[
                PORT, IB_DEV, IB_PORT, SIZE, MTU, RX_DEPTH, ITERS, SL, EVENTS, GID_IDX, ODP, IODP, PREFETCH,
                TS, CHK, DM, NEW_SEND,
            ],
            Self::Uc => &[PORT, IB_DEV, IB_PORT, SIZE, MTU, RX_DEPTH, ITERS, SL, EVENTS, GID_IDX, CHK],
            Self::Ud => &[PORT, IB_DEV, IB_PORT, SIZE, RX_DEPTH, ITERS, SL, EVENTS, GID_IDX, CHK],
            Self::Srq => {
                &[PORT, IB_DEV, IB_PORT, SIZE, MTU, NUM_QP, RX_DEPTH, ITERS, SL, EVENTS, GID_IDX, ODP, CHK]
            }
            Self::Xsrq => &[PORT, IB_DEV, IB_PORT, SIZE, MTU, CLIENTS, NUM_TESTS, SL, EVENTS, ODP, GID_IDX],
        }
    }

    /// The line of the C tool's usage about an option.
    fn usage_line(self, letter: char) -> &'static str {
        match (letter, self) {
            ('p', _) => "  -p, --port=<port>      listen on/connect to port <port> (default 18515)",
            ('d', _) => "  -d, --ib-dev=<dev>     use IB device <dev> (default first device found)",
            ('i', _) => "  -i, --ib-port=<port>   use port <port> of IB device (default 1)",
            // Its default is 1024.
            ('s', Self::Ud) => "  -s, --size=<size>      size of message to exchange (default 2048)",
            ('s', _) => "  -s, --size=<size>      size of message to exchange (default 4096)",
            // Its default is 1024.
            ('m', Self::Xsrq) => "  -m, --mtu=<size>       path MTU (default 2048)",
            ('m', _) => "  -m, --mtu=<size>       path MTU (default 1024)",
            ('q', _) => "  -q, --num-qp=<num>     number of QPs to use (default 16)",
            ('r', _) => "  -r, --rx-depth=<dep>   number of receives to post at a time (default 500)",
            ('n', Self::Srq) => "  -n, --iters=<iters>    number of exchanges per QP(default 1000)",
            ('n', Self::Xsrq) => "  -n, --num_tests=<n>    number of tests per client (default 5)",
            ('n', _) => "  -n, --iters=<iters>    number of exchanges (default 1000)",
            ('l', Self::Ud) => "  -l, --sl=<SL>          send messages with service level <SL> (default 0)",
            ('l', _) => "  -l, --sl=<sl>          service level value",
            ('e', _) => "  -e, --events           sleep on CQ events (default poll)",
            ('g', _) => "  -g, --gid-idx=<gid index> local port gid index",
            ('o', _) => "  -o, --odp\t\t    use on demand paging",
            ('O', _) => "  -O, --iodp\t\t    use implicit on demand paging",
            ('P', _) => "  -P, --prefetch\t    prefetch an ODP MR",
            ('t', _) => "  -t, --ts\t            get CQE with timestamp",
            ('c', Self::Xsrq) => "  -c, --clients=<n>      number of clients (on server only, default 1)",
            ('c', Self::Rc) => "  -c, --chk\t            validate received buffer",
            ('c', _) => "  -c, --chk              validate received buffer",
            ('j', _) => "  -j, --dm\t            use device memory",
            _ => "  -N, --new_send            use new post send WR API",
        }
    }

    /// The C tool's usage.
    pub(super) fn usage(self, name: &str) -> String {
        let lines: String =
            self.options().iter().map(|spec| format!("{}\n", self.usage_line(spec.letter))).collect();
        format!(
            "Usage:\n  {name}            start a server and wait for connection\n  {name} <host>     connect to \
             server at <host>\n\nOptions:\n{lines}"
        )
    }
}
