//! The options of the pingpong tools as `bareverbs pingpong` takes them: those of rdma-core's, and ours.

use std::ffi::OsString;
use std::time::Duration;

use bareverbs::{Mtu, PortNum, ServiceLevel, Wait};
use clap::Args;

use super::plan::{self, Plan};
use super::service::Kind;
use super::start;
use crate::ours::{Entry, Is, call};

/// The transport services.
pub(crate) const SERVICES: &[Entry] = &[
    Entry {
        name: "rc",
        about: "Reliable connection: ibv_rc_pingpong",
        is: Is::Tool {
            takes: Rc::augment_args,
            run: |tool, given| call(tool, given, |tool, rc: &Rc| start(tool, &rc.plan())),
        },
    },
    Entry {
        name: "uc",
        about: "Unreliable connection: ibv_uc_pingpong",
        is: Is::Tool {
            takes: Uc::augment_args,
            run: |tool, given| call(tool, given, |tool, uc: &Uc| start(tool, &uc.plan())),
        },
    },
    Entry {
        name: "ud",
        about: "Unreliable datagrams: ibv_ud_pingpong",
        is: Is::Tool {
            takes: Ud::augment_args,
            run: |tool, given| call(tool, given, |tool, ud: &Ud| start(tool, &ud.plan())),
        },
    },
    Entry {
        name: "srq",
        about: "Reliable connections that share a receive queue: ibv_srq_pingpong",
        is: Is::Tool {
            takes: Srq::augment_args,
            run: |tool, given| call(tool, given, |tool, srq: &Srq| start(tool, &srq.plan())),
        },
    },
    Entry {
        name: "xsrq",
        about: "Extended reliable connections, several clients: ibv_xsrq_pingpong",
        is: Is::Tool {
            takes: Xsrq::augment_args,
            run: |tool, given| call(tool, given, |tool, xsrq: &Xsrq| start(tool, &xsrq.plan())),
        },
    },
];

const RC_EXAMPLES: &str = "\
Examples:
  bareverbs pingpong rc -g 1              wait for a client on the first device
  bareverbs pingpong rc -g 1 node1        exchange 1000 messages of 4096 bytes with the server on node1
  bareverbs pingpong rc -g 1 -e -s 1 node1    latency of one byte, sleeping between messages
  bareverbs pingpong rc -g 1 -c -s 8388608 -n 10 node1    large messages, with every byte checked by the server

Both sides need the same -s and -n. devinfo -v lists the GIDs that -g selects.";

const UC_EXAMPLES: &str = "\
Examples:
  bareverbs pingpong uc -g 1              wait for a client
  bareverbs pingpong uc -g 1 node1        exchange 1000 messages of 4096 bytes with the server on node1

Both sides need the same -s and -n. Lost messages are not resent: the run then ends after --timeout.";

const UD_EXAMPLES: &str = "\
Examples:
  bareverbs pingpong ud -g 1              wait for a client
  bareverbs pingpong ud -g 1 node1        exchange 1000 datagrams of 1024 bytes with the server on node1

Both sides need the same -s and -n; a datagram is one packet. Lost datagrams are not resent: the run then ends after
--timeout.";

const SRQ_EXAMPLES: &str = "\
Examples:
  bareverbs pingpong srq -g 1             wait for a client, with 16 queue pairs
  bareverbs pingpong srq -g 1 node1       exchange 1000 messages in all with the server on node1
  bareverbs pingpong srq -g 1 -q 4 node1  with 4 queue pairs, as the server must have too

Both sides need the same -s, -n and -q.";

const XSRQ_EXAMPLES: &str = "\
Examples:
  bareverbs pingpong xsrq -c 3            wait for three clients
  bareverbs pingpong xsrq node1           connect as one of them

All sides need the same -s and -n. The device must support XRC.";

/// Options of every pingpong.
#[derive(Debug, Args)]
struct Common {
    /// The server to connect to; without one, wait for a client
    #[arg(value_name = "HOST")]
    server: Option<OsString>,
    /// Listen on, or connect to, this TCP port
    #[arg(short, long, value_name = "PORT", default_value = "18515", value_parser = plan::tcp_port)]
    port: u16,
    /// Use this RDMA device (the first by default)
    #[arg(short = 'd', long, value_name = "DEVICE")]
    ib_dev: Option<OsString>,
    /// Use this port of the device
    #[arg(short = 'i', long, value_name = "PORT", default_value = "1", value_parser = plan::ib_port)]
    ib_port: PortNum,
    /// Bytes of a message (4096 by default, 1024 for ud)
    #[arg(short, long, value_name = "BYTES", allow_hyphen_values = true, value_parser = plan::count)]
    size: Option<u32>,
    /// Service level, 0 to 15
    #[arg(short = 'l', long, value_name = "SL", default_value = "0", value_parser = plan::service_level)]
    sl: u8,
    /// Sleep on completion events
    #[arg(short, long)]
    events: bool,
    /// Never sleep, only poll
    #[arg(long, conflicts_with = "events")]
    poll: bool,
    /// Index of the port's GID; Ethernet ports need one
    #[arg(short, long, value_name = "INDEX", allow_hyphen_values = true, value_parser = plan::gid_index)]
    gid_idx: Option<i32>,
    /// Give up after so many seconds without a message from the peer; 0 waits forever
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = plan::seconds)]
    timeout: u32,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
}

/// Options of connected services.
#[derive(Debug, Args)]
struct Path {
    /// Path MTU: 256, 512, 1024, 2048 or 4096
    #[arg(short, long, value_name = "BYTES", default_value = "1024", value_parser = plan::mtu)]
    mtu: Mtu,
}

/// Options of the services that are measured.
#[derive(Debug, Args)]
struct Turns {
    /// Receives to post at a time
    #[arg(short, long, value_name = "N", default_value = "500", allow_hyphen_values = true, value_parser = plan::count)]
    rx_depth: u32,
    /// Number of exchanges
    #[arg(short = 'n', long, value_name = "N", default_value = "1000", allow_hyphen_values = true, value_parser = plan::count)]
    iters: u32,
    /// Check every byte of the server's last received message
    #[arg(short, long)]
    chk: bool,
}

/// What `pingpong rc` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true, after_help = RC_EXAMPLES)]
struct Rc {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    path: Path,
    #[command(flatten)]
    turns: Turns,
    /// Use on-demand paging
    #[arg(short = 'o', long)]
    odp: bool,
    /// Use implicit on-demand paging
    #[arg(short = 'O', long)]
    iodp: bool,
    /// Prefetch an on-demand region
    #[arg(short = 'P', long)]
    prefetch: bool,
    /// Report timestamps of completions
    #[arg(short, long)]
    ts: bool,
    /// Use device memory
    #[arg(short = 'j', long)]
    dm: bool,
    /// Accepted for compatibility: there is only one way to post
    #[arg(short = 'N', long = "new_send")]
    _new_send: bool,
}

/// What `pingpong uc` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true, after_help = UC_EXAMPLES)]
struct Uc {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    path: Path,
    #[command(flatten)]
    turns: Turns,
}

/// What `pingpong ud` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true, after_help = UD_EXAMPLES)]
struct Ud {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    turns: Turns,
}

/// What `pingpong srq` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true, after_help = SRQ_EXAMPLES)]
struct Srq {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    path: Path,
    #[command(flatten)]
    turns: Turns,
    /// Number of queue pairs
    #[arg(short = 'q', long, value_name = "N", default_value = "16", allow_hyphen_values = true, value_parser = plan::count)]
    num_qp: u32,
    /// Use on-demand paging
    #[arg(short = 'o', long)]
    odp: bool,
}

/// What `pingpong xsrq` takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true, after_help = XSRQ_EXAMPLES)]
struct Xsrq {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    path: Path,
    /// Number of clients to wait for (server); all on one machine, whose XRC domain they share
    #[arg(short, long, value_name = "N", default_value = "1", allow_hyphen_values = true, value_parser = plan::count)]
    clients: u32,
    /// Number of messages to each client
    #[arg(short = 'n', long = "num_tests", value_name = "N", default_value = "5", allow_hyphen_values = true, value_parser = plan::count)]
    num_tests: u32,
    /// Use on-demand paging
    #[arg(short = 'o', long)]
    odp: bool,
}

impl Rc {
    /// What is to be played.
    fn plan(&self) -> Plan {
        Plan {
            odp: self.odp || self.iodp,
            iodp: self.iodp,
            prefetch: self.prefetch,
            ts: self.ts,
            dm: self.dm,
            mtu: self.path.mtu,
            ..self.turns.put(self.common.put(Plan::new(Kind::Rc)))
        }
    }
}

impl Uc {
    fn plan(&self) -> Plan {
        Plan { mtu: self.path.mtu, ..self.turns.put(self.common.put(Plan::new(Kind::Uc))) }
    }
}

impl Ud {
    fn plan(&self) -> Plan {
        self.turns.put(self.common.put(Plan::new(Kind::Ud)))
    }
}

impl Srq {
    fn plan(&self) -> Plan {
        Plan {
            num_qp: self.num_qp,
            odp: self.odp,
            mtu: self.path.mtu,
            ..self.turns.put(self.common.put(Plan::new(Kind::Srq)))
        }
    }
}

impl Xsrq {
    fn plan(&self) -> Plan {
        Plan {
            clients: self.clients,
            iters: self.num_tests,
            odp: self.odp,
            mtu: self.path.mtu,
            ..self.common.put(Plan::new(Kind::Xsrq))
        }
    }
}

impl Common {
    fn put(&self, plan: Plan) -> Plan {
        Plan {
            server: self.server.clone(),
            port: self.port,
            ib_dev: self.ib_dev.clone(),
            ib_port: self.ib_port,
            size: self.size.unwrap_or(plan.size),
            sl: ServiceLevel(self.sl),
            wait: match (self.events, self.poll) {
                (true, _) => Wait::Events,
                (_, true) => Wait::Poll,
                _ => Wait::default(),
            },
            // A negative index means none, as for the C tools.
            gid_index: self.gid_idx.and_then(|index| u32::try_from(index).ok()),
            timeout: (self.timeout > 0).then(|| Duration::from_secs(self.timeout.into())),
            json: self.json,
            ..plan
        }
    }
}

impl Turns {
    fn put(&self, plan: Plan) -> Plan {
        Plan { rx_depth: self.rx_depth, iters: self.iters, chk: self.chk, ..plan }
    }
}
