//! The protocol between the host and the guest's init, over the guest's second serial port.
//!
//! Both directions carry one JSON value per line. An [`Event::Output`] line is followed by raw bytes, so a command's output
//! travels unchanged. The kernel's log has a serial port of its own.

use std::io::{self, BufRead, Write};
use std::net::IpAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where the guest finds its [`Boot`] file.
pub const BOOT_FILE: &str = "/etc/rdma-lab-guest.json";

/// Where the guest has its init, and the name by which commands run the init's helpers.
pub const INIT: &str = "/init";

/// The interval of the host's [`Request::Alive`].
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// What the guest sets up before it accepts requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The guest's host name.
    pub hostname: String,
    /// The words that start [`INIT`]: its loader and the loader's arguments come first where it is dynamically linked.
    pub init: Vec<String>,
    /// Module files to load, in order.
    pub modules: Vec<Module>,
    /// Loads no module and brings only the loopback device up. The helper `load` can load modules later.
    pub bare: bool,
    /// The network device that carries RDMA.
    pub netdev: String,
    /// Its IPv4 address; the network is a /24.
    pub address: [u8; 4],
    /// Its MTU.
    pub mtu: u32,
    /// The software RDMA devices to add.
    pub links: Vec<Link>,
    /// RDMA devices to wait for until they have a GID of that address.
    pub gids: Vec<String>,
    /// RDMA devices to wait for until their port 1 is active.
    pub ports: Vec<String>,
    /// Addresses of network devices that come with the RDMA devices.
    pub addresses: Vec<Address>,
    /// The guest powers off after this time, whatever the host says.
    pub lifetime: Duration,
}

/// An address of a network device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The network device.
    pub netdev: String,
    /// The address.
    pub ip: IpAddr,
    /// The length of the network's prefix in bits.
    pub prefix: u8,
}

/// A kernel module in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its file.
    pub path: String,
    /// Its parameters.
    pub parameters: String,
    /// Whether a failure to load it is ignored.
    pub optional: bool,
}

/// A software RDMA device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The RDMA device's name.
    pub name: String,
    /// The kernel's name of its type, such as `rxe`.
    pub kind: String,
}

/// A command for the guest to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables added to the guest's environment.
    pub env: Vec<(String, String)>,
    /// The working directory; `/` if none.
    pub cwd: Option<String>,
    /// Standard input; empty if none.
    pub stdin: Option<String>,
    /// The user and group to run as; root if none.
    pub uid: Option<u32>,
    /// The limit of locked memory in bytes; unlimited if none.
    pub memlock: Option<u64>,
    /// The processor that it is bound to; any if none.
    pub cpu: Option<usize>,
    /// Whether its output is sent only after it has ended, because sending takes processor time from a measurement.
    pub held: bool,
    /// After this time the command's process group is killed.
    pub timeout: Duration,
}

/// Host to guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Start a command under a number that the host chose.
    Start {
        /// The number that its events carry.
        job: u32,
        /// What to run.
        command: Command,
    },
    /// Send a signal to a job's process group.
    Signal {
        /// The job.
        job: u32,
        /// The signal's number.
        signal: i32,
    },
    /// Says that the host is still there.
    Alive,
    /// Remove the software devices, send [`Event::Bye`] and power off.
    Off,
}

/// Which of a command's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It exited.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It was killed because its time was up.
    TimedOut,
}

/// The time that a command took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// From start to end.
    pub wall: Duration,
    /// Processor time in user mode, in the resolution of the kernel's clock ticks.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
}

/// Guest to host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The next step of the guest's setup.
    Doing(String),
    /// The setup is done.
    Ready,
    /// The setup failed; the guest powers off.
    Failed(String),
    /// `len` raw bytes of a job's output follow this line.
    Output {
        /// The job.
        job: u32,
        /// The stream it wrote them to.
        stream: Stream,
        /// The number of bytes.
        len: usize,
    },
    /// A job ended; all its output has been sent.
    Exit {
        /// The job.
        job: u32,
        /// How it ended.
        status: Status,
        /// The time it took.
        usage: Usage,
    },
    /// A job could not be started.
    Refused {
        /// The job.
        job: u32,
        /// Why.
        reason: String,
    },
    /// The last event before power-off.
    Bye,
}

/// Writes one value as a line.
pub fn send<T: Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)
}

/// Reads one value; `None` at the end of the stream.
pub fn receive<T: DeserializeOwned>(input: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    match serde_json::from_slice(&line) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not a message: {error}: {:?}", String::from_utf8_lossy(&line)),
        )),
    }
}
