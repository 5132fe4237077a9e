//! The options of the pingpong tools: those of rdma-core's, and ours.

use std::time::Duration;

use bareverbs::{Mtu, PortNum, Wait};

use crate::cli::number::{self, Number};

/// Options that every pingpong takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server to connect to; without one, wait for a client
    #[arg(value_name = "HOST")]
    pub(super) server: Option<String>,
    /// Listen on, or connect to, this TCP port
    #[arg(short, long, value_name = "PORT", default_value = "18515", value_parser = number::parse::<u16>)]
    pub(super) port: u16,
    /// Use this RDMA device (the first by default)
    #[arg(short = 'd', long, value_name = "DEV")]
    pub(super) ib_dev: Option<String>,
    /// Use this port of the device
    #[arg(short = 'i', long, value_name = "PORT", default_value = "1", value_parser = ib_port)]
    pub(super) ib_port: PortNum,
    /// Bytes of a message
    #[arg(short, long, value_name = "BYTES", default_value = "4096", value_parser = positive)]
    pub(super) size: u32,
    /// Path MTU: 256, 512, 1024, 2048 or 4096
    #[arg(short, long, value_name = "BYTES", default_value = "1024", value_parser = mtu)]
    pub(super) mtu: Mtu,
    /// Receives to post at a time
    #[arg(short, long, value_name = "N", default_value = "500", value_parser = positive)]
    pub(super) rx_depth: u32,
    /// Number of exchanges
    #[arg(short = 'n', long, value_name = "N", default_value = "1000", value_parser = positive)]
    pub(super) iters: u32,
    /// Service level, 0 to 15
    #[arg(short = 'l', long, value_name = "SL", default_value = "0", value_parser = service_level)]
    pub(super) sl: u8,
    /// Sleep on completion events
    #[arg(short, long)]
    events: bool,
    /// Never sleep, only poll
    #[arg(long, conflicts_with = "events")]
    poll: bool,
    /// Index of the port's GID; Ethernet ports need one
    #[arg(short, long, value_name = "INDEX", allow_hyphen_values = true, value_parser = number::parse::<i32>)]
    gid_idx: Option<i32>,
    /// Use on-demand paging
    #[arg(short = 'o', long)]
    pub(super) odp: bool,
    /// Use implicit on-demand paging
    #[arg(short = 'O', long)]
    pub(super) iodp: bool,
    /// Prefetch an on-demand region
    #[arg(short = 'P', long)]
    pub(super) prefetch: bool,
    /// Get completions with timestamps
    #[arg(short, long)]
    pub(super) ts: bool,
    /// Check the bytes that were received
    #[arg(short, long)]
    pub(super) chk: bool,
    /// Use device memory
    #[arg(short = 'j', long)]
    pub(super) dm: bool,
    /// Post by the newer calls of libibverbs (here there is one way only)
    #[arg(short = 'N', long = "new_send")]
    _new_send: bool,
    /// Give up when nothing has come from the peer for so long; 0 waits for ever
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = number::parse::<u32>)]
    timeout: u32,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    /// How to wait for completions.
    pub(super) fn wait(&self) -> Wait {
        match (self.events, self.poll) {
            (true, _) => Wait::Events,
            (_, true) => Wait::Poll,
            _ => Wait::default(),
        }
    }

    /// The GID's index; a negative one means none, as for the C tools.
    pub(super) fn gid_index(&self) -> Option<u32> {
        self.gid_idx.and_then(|index| u32::try_from(index).ok())
    }

    /// How long a silent peer is waited for.
    pub(super) fn timeout(&self) -> Option<Duration> {
        (self.timeout > 0).then(|| Duration::from_secs(self.timeout.into()))
    }

    /// What is wrong with the options together, in the C tools' words.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let odp = self.odp || self.iodp;
        if odp && self.dm {
            return Some("DM memory region can't be on demand");
        }
        (self.prefetch && !odp).then_some("prefetch is valid only with on-demand memory region")
    }
}

fn positive(text: &str) -> Result<u32, String> {
    match number::parse::<u32>(text)? {
        0 => Err("it must be at least 1".to_owned()),
        n => Ok(n),
    }
}

fn ib_port(text: &str) -> Result<PortNum, String> {
    PortNum::new(number::parse(text)?).map_err(|_| "ports are 1 to 255".to_owned())
}

fn mtu(text: &str) -> Result<Mtu, String> {
    Mtu::from_bytes(number::parse(text)?).ok_or_else(|| "it is 256, 512, 1024, 2048 or 4096".to_owned())
}

fn service_level(text: &str) -> Result<u8, String> {
    match u8::from_number(number::value(text)?) {
        Some(sl @ 0..=15) => Ok(sl),
        _ => Err("service levels are 0 to 15".to_owned()),
    }
}
