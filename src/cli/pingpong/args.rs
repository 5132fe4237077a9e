//! The options of the pingpong tools: those of rdma-core's, and ours.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use bareverbs::{Mtu, PortNum, ServiceLevel, Wait};
use clap::Args;

use crate::cli::getopt::{Getopt, Spec};
use crate::cli::number::between;
use crate::cli::outcome::{Failure, ending};
use crate::cli::output::Tool;

const EXAMPLES: &str = "\
Examples:
  bareverbs pingpong rc -g 1              wait for a client, on the first device
  bareverbs pingpong rc -g 1 node1        exchange 1000 messages of 4096 bytes with the server on node1
  bareverbs pingpong rc -g 1 -e -s 1 node1    the latency of one byte, sleeping between messages
  bareverbs pingpong rc -g 1 -c -s 8388608 -n 10 node1    large messages, with every byte checked by the server

Both sides want the same -s and -n. devinfo -v shows what -g chooses from.";

/// What a pingpong subcommand takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The server to connect to; without one, wait for a client
    #[arg(value_name = "HOST")]
    server: Option<OsString>,
    /// Listen on, or connect to, this TCP port
    #[arg(short, long, value_name = "PORT", default_value = "18515", value_parser = tcp_port)]
    port: u16,
    /// Use this RDMA device (the first by default)
    #[arg(short = 'd', long, value_name = "DEVICE")]
    ib_dev: Option<OsString>,
    /// Use this port of the device
    #[arg(short = 'i', long, value_name = "PORT", default_value = "1", value_parser = ib_port)]
    ib_port: PortNum,
    /// Bytes of a message
    #[arg(short, long, value_name = "BYTES", default_value = "4096", allow_hyphen_values = true, value_parser = count)]
    size: u32,
    /// Path MTU: 256, 512, 1024, 2048 or 4096
    #[arg(short, long, value_name = "BYTES", default_value = "1024", value_parser = mtu)]
    mtu: Mtu,
    /// Receives to post at a time
    #[arg(short, long, value_name = "N", default_value = "500", allow_hyphen_values = true, value_parser = count)]
    rx_depth: u32,
    /// Number of exchanges
    #[arg(short = 'n', long, value_name = "N", default_value = "1000", allow_hyphen_values = true, value_parser = count)]
    iters: u32,
    /// Service level, 0 to 15
    #[arg(short = 'l', long, value_name = "SL", default_value = "0", value_parser = service_level)]
    sl: u8,
    /// Sleep on completion events
    #[arg(short, long)]
    events: bool,
    /// Never sleep, only poll
    #[arg(long, conflicts_with = "events")]
    poll: bool,
    /// Index of the port's GID; Ethernet ports need one
    #[arg(short, long, value_name = "INDEX", allow_hyphen_values = true, value_parser = gid_index)]
    gid_idx: Option<i32>,
    /// Use on-demand paging
    #[arg(short = 'o', long)]
    odp: bool,
    /// Use implicit on-demand paging
    #[arg(short = 'O', long)]
    iodp: bool,
    /// Prefetch an on-demand region
    #[arg(short = 'P', long)]
    prefetch: bool,
    /// Get completions with timestamps
    #[arg(short, long)]
    ts: bool,
    /// Check every byte that the server receives last
    #[arg(short, long)]
    chk: bool,
    /// Use device memory
    #[arg(short = 'j', long)]
    dm: bool,
    /// Post by libibverbs's newer calls; here all calls are the same
    #[arg(short = 'N', long = "new_send")]
    _new_send: bool,
    /// Give up when nothing has come from the peer for so long; 0 waits for ever
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: u32,
    /// Print the result as one object
    #[arg(long)]
    json: bool,
}

/// What is to be played, through whichever door it was asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) server: Option<OsString>,
    pub(super) port: u16,
    pub(super) ib_dev: Option<OsString>,
    pub(super) ib_port: PortNum,
    pub(super) size: u32,
    pub(super) mtu: Mtu,
    pub(super) rx_depth: u32,
    pub(super) iters: u32,
    pub(super) sl: ServiceLevel,
    pub(super) wait: Wait,
    pub(super) gid_index: Option<u32>,
    pub(super) odp: bool,
    pub(super) iodp: bool,
    pub(super) prefetch: bool,
    pub(super) ts: bool,
    pub(super) chk: bool,
    pub(super) dm: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) json: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            server: None,
            port: 18515,
            ib_dev: None,
            ib_port: PortNum::ONE,
            size: 4096,
            mtu: Mtu::Mtu1024,
            rx_depth: 500,
            iters: 1000,
            sl: ServiceLevel(0),
            wait: Wait::default(),
            gid_index: None,
            odp: false,
            iodp: false,
            prefetch: false,
            ts: false,
            chk: false,
            dm: false,
            timeout: Some(Duration::from_secs(10)),
            json: false,
        }
    }
}

impl From<&Arguments> for Plan {
    fn from(given: &Arguments) -> Self {
        Self {
            server: given.server.clone(),
            port: given.port,
            ib_dev: given.ib_dev.clone(),
            ib_port: given.ib_port,
            size: given.size,
            mtu: given.mtu,
            rx_depth: given.rx_depth,
            iters: given.iters,
            sl: ServiceLevel(given.sl),
            wait: match (given.events, given.poll) {
                (true, _) => Wait::Events,
                (_, true) => Wait::Poll,
                _ => Wait::default(),
            },
            // A negative index means none, as for the C tools.
            gid_index: given.gid_idx.and_then(|index| u32::try_from(index).ok()),
            odp: given.odp || given.iodp,
            iodp: given.iodp,
            prefetch: given.prefetch,
            ts: given.ts,
            chk: given.chk,
            dm: given.dm,
            timeout: (given.timeout > 0).then(|| Duration::from_secs(given.timeout.into())),
            json: given.json,
        }
    }
}

/// The options of `ibv_rc_pingpong`.
pub(crate) const OPTIONS: &[Spec] = &[
    Spec::value('p', "port"),
    Spec::value('d', "ib-dev"),
    Spec::value('i', "ib-port"),
    Spec::value('s', "size"),
    Spec::value('m', "mtu"),
    Spec::value('r', "rx-depth"),
    Spec::value('n', "iters"),
    Spec::value('l', "sl"),
    Spec::flag('e', "events"),
    Spec::value('g', "gid-idx"),
    Spec::flag('o', "odp"),
    Spec::flag('O', "iodp"),
    Spec::flag('P', "prefetch"),
    Spec::flag('t', "ts"),
    Spec::flag('c', "chk"),
    Spec::flag('j', "dm"),
    Spec::flag('N', "new_send"),
];

impl Plan {
    /// Reads the C tool's command line.
    ///
    /// # Errors
    /// It makes no sense: then the complaint and the usage have been printed, as by the C tool.
    pub(crate) fn as_c(tool: &Tool, arguments: Vec<OsString>) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let mut getopt = Getopt::new(OPTIONS, arguments);
        for given in getopt.by_ref() {
            let taken = match given {
                Ok((letter, value)) => {
                    plan.take(letter, value).map_err(|why| format!("option -{letter}: {why}"))
                }
                Err(complaint) => Err(complaint),
            };
            if let Err(complaint) = taken {
                tool.complain(&complaint);
                return Err(usage(tool));
            }
        }
        let mut operands = getopt.operands().into_iter();
        plan.server = operands.next();
        match operands.next() {
            None => Ok(plan),
            Some(_) => Err(usage(tool)),
        }
    }

    fn take(&mut self, letter: char, value: OsString) -> Result<(), String> {
        let text = value.to_string_lossy();
        match letter {
            'p' => self.port = tcp_port(&text)?,
            'd' => self.ib_dev = Some(value),
            'i' => self.ib_port = ib_port(&text)?,
            's' => self.size = count(&text)?,
            'm' => self.mtu = mtu(&text)?,
            'r' => self.rx_depth = count(&text)?,
            'n' => self.iters = count(&text)?,
            'l' => self.sl = ServiceLevel(service_level(&text)?),
            'e' => self.wait = Wait::Events,
            'g' => self.gid_index = u32::try_from(gid_index(&text)?).ok(),
            'o' => self.odp = true,
            'O' => (self.odp, self.iodp) = (true, true),
            'P' => self.prefetch = true,
            't' => self.ts = true,
            'c' => self.chk = true,
            'j' => self.dm = true,
            _ => {}
        }
        Ok(())
    }

    /// The server's name, as it can be shown.
    pub(super) fn host(&self) -> Option<String> {
        self.server.as_deref().map(|host| OsStr::to_string_lossy(host).into_owned())
    }

    /// What is wrong with the options together, in the C tools' words.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        if self.odp && self.dm {
            return Some("DM memory region can't be on demand");
        }
        (self.prefetch && !self.odp).then_some("prefetch is valid only with on-demand memory region")
    }
}

fn usage(tool: &Tool) -> Failure {
    let name = tool.name();
    let printed = tool.print(&format!(
        "Usage:
  {name}            start a server and wait for connection
  {name} <host>     connect to server at <host>

Options:
  -p, --port=<port>      listen on/connect to port <port> (default 18515)
  -d, --ib-dev=<dev>     use IB device <dev> (default first device found)
  -i, --ib-port=<port>   use port <port> of IB device (default 1)
  -s, --size=<size>      size of message to exchange (default 4096)
  -m, --mtu=<size>       path MTU (default 1024)
  -r, --rx-depth=<dep>   number of receives to post at a time (default 500)
  -n, --iters=<iters>    number of exchanges (default 1000)
  -l, --sl=<sl>          service level value
  -e, --events           sleep on CQ events (default poll)
  -g, --gid-idx=<gid index> local port gid index
  -o, --odp\t\t    use on demand paging
  -O, --iodp\t\t    use implicit on demand paging
  -P, --prefetch\t    prefetch an ODP MR
  -t, --ts\t            get CQE with timestamp
  -c, --chk\t            validate received buffer
  -j, --dm\t            use device memory
  -N, --new_send            use new post send WR API
"
    ));
    ending(printed, 1).err().unwrap_or_else(|| Failure::said(1))
}

fn tcp_port(text: &str) -> Result<u16, String> {
    between(text, 0, u16::MAX)
}

fn ib_port(text: &str) -> Result<PortNum, String> {
    PortNum::new(between(text, 1, 255)?).map_err(|e| e.to_string())
}

fn count(text: &str) -> Result<u32, String> {
    between(text, 1, u32::MAX)
}

fn mtu(text: &str) -> Result<Mtu, String> {
    let bytes = between(text, 0, u32::MAX)?;
    Mtu::from_bytes(bytes).ok_or_else(|| format!("{bytes} is no MTU: it is 256, 512, 1024, 2048 or 4096"))
}

fn service_level(text: &str) -> Result<u8, String> {
    between(text, 0, 15)
}

fn gid_index(text: &str) -> Result<i32, String> {
    between(text, i32::MIN, i32::MAX)
}

fn seconds(text: &str) -> Result<u32, String> {
    between(text, 0, u32::MAX)
}
