//! The options of rping: those of librdmacm's, and ours.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Args;

use crate::getopt::{Getopt, Spec};
use crate::number::{decimal, within};
use crate::outcome::{Failure, ending};
use crate::output::Tool;

const EXAMPLES: &str = "\
Examples:
  bareverbs rping -s                       wait for a client, on all addresses
  bareverbs rping -c -a 10.0.0.1 -C 20 -v  exchange 20 messages with the server at 10.0.0.1 and print them
  bareverbs rping -s -P -a ::              serve any number of clients over IPv6 and IPv4, until killed
  bareverbs rping -c -a fe80::1%eth0 -C 1000 -V --json
                                           check every byte and print the measurements

Both sides need the same -S.";

/// What the subcommand takes.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true, disable_version_flag = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Run as the server
    #[arg(short, long, required_unless_present = "client", conflicts_with = "client")]
    server: bool,
    /// Run as the client
    #[arg(short, long, requires = "address")]
    client: bool,
    /// The server's address; without one, a server listens on all IPv4 addresses (on all with ::)
    #[arg(short, long, value_name = "ADDRESS")]
    address: Option<OsString>,
    /// The client's own address
    #[arg(short = 'I', long, value_name = "ADDRESS", conflicts_with = "server")]
    source: Option<OsString>,
    /// The server's port
    #[arg(short, long, value_name = "PORT", default_value = "7174", value_parser = port)]
    port: u16,
    /// Bytes of a message, 23 to 65535
    #[arg(short = 'S', long, value_name = "BYTES", default_value = "64", allow_hyphen_values = true, value_parser = size)]
    size: u32,
    /// Number of messages the client sends; 0 means no limit
    #[arg(short = 'C', long, value_name = "N", default_value = "0", allow_hyphen_values = true, value_parser = count)]
    count: u32,
    /// Print the messages
    #[arg(short, long)]
    verbose: bool,
    /// Check that the received data equals the sent data (client)
    #[arg(short = 'V', long)]
    validate: bool,
    /// Print every step
    #[arg(short, long)]
    debug: bool,
    /// Serve any number of clients, several at a time
    #[arg(short = 'P', long, conflicts_with = "client")]
    persistent: bool,
    /// Change the queue pair's states in the program, not in the library
    #[arg(short = 'q', long)]
    own_qp: bool,
    /// Give up after so many seconds without progress; 0 waits forever
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: u32,
    /// Print the measurements of each connection as a JSON object
    #[arg(long, conflicts_with_all = ["verbose", "debug"])]
    json: bool,
}

/// The parsed command line, ours or the C tool's.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(super) server: bool,
    /// The address that the client connects to or the server listens on.
    pub(super) address: SocketAddr,
    pub(super) source: Option<SocketAddr>,
    pub(super) size: u32,
    /// 0 means no limit.
    pub(super) count: u32,
    pub(super) verbose: bool,
    pub(super) validate: bool,
    pub(super) debug: bool,
    pub(super) persistent: bool,
    pub(super) own_qp: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) json: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            server: false,
            address: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT),
            source: None,
            size: 64,
            count: 0,
            verbose: false,
            validate: false,
            debug: false,
            persistent: false,
            own_qp: false,
            timeout: Some(Duration::from_secs(10)),
            json: false,
        }
    }
}

const PORT: u16 = 7174;

/// The smallest message holds the prefix and the message's number.
const LEAST: u32 = 23;
const MOST: u32 = 65535;

/// The C tool's exit code after an invalid command line.
const EINVAL: u8 = 22;

pub(crate) const OPTIONS: &[Spec] = &[
    Spec::value('a', ""),
    Spec::value('I', ""),
    Spec::flag('P', ""),
    Spec::value('p', ""),
    Spec::value('C', ""),
    Spec::value('S', ""),
    Spec::flag('s', ""),
    Spec::flag('c', ""),
    Spec::flag('v', ""),
    Spec::flag('V', ""),
    Spec::flag('d', ""),
    Spec::flag('q', ""),
];

impl Plan {
    /// Takes what clap has read.
    pub(crate) fn ours(given: &Arguments) -> Result<Self, Failure> {
        let address = match &given.address {
            Some(name) => resolve(name, given.port)?,
            None => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), given.port),
        };
        Ok(Self {
            server: given.server,
            address,
            source: given.source.as_deref().map(|name| resolve(name, 0)).transpose()?,
            size: given.size,
            count: given.count,
            verbose: given.verbose,
            validate: given.validate,
            debug: given.debug,
            persistent: given.persistent,
            own_qp: given.own_qp,
            timeout: (given.timeout > 0).then(|| Duration::from_secs(given.timeout.into())),
            json: given.json,
        })
    }

    /// Reads the C tool's command line.
    ///
    /// # Errors
    /// It makes no sense: then the complaint, or the usage, is what the C tool prints.
    pub(crate) fn as_c(tool: &Tool, arguments: Vec<OsString>) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let mut server = None;
        let mut bad = None;
        for given in Getopt::new(OPTIONS, arguments) {
            // The C tool has the library's complaints switched off.
            let Ok((letter, value)) = given else { return Err(usage(tool)) };
            match letter {
                's' => server = Some(true),
                'c' => server = Some(false),
                _ => {
                    if let Err(failure) = plan.take(tool, letter, &value) {
                        bad = bad.or(Some(failure));
                        continue;
                    }
                }
            }
            plan.echo(tool, letter, &value)?;
        }
        if let Some(failure) = bad {
            return Err(failure);
        }
        plan.server = server.ok_or_else(|| usage(tool))?;
        // To a client it means nothing.
        plan.persistent &= plan.server;
        Ok(plan)
    }

    fn take(&mut self, tool: &Tool, letter: char, value: &OsStr) -> Result<(), Failure> {
        let text = value.to_string_lossy();
        let number =
            || decimal(&text).map_err(|why| Failure::bare(format!("option -{letter}: {why}")).code(EINVAL));
        match letter {
            'a' => {
                let port = self.address.port();
                self.address = resolve_as_c(tool, value, port)?;
            }
            'I' => self.source = Some(resolve_as_c(tool, value, 0)?),
            'p' => {
                let port =
                    port(&text).map_err(|why| Failure::bare(format!("option -p: {why}")).code(EINVAL))?;
                self.address.set_port(port);
            }
            'S' => {
                let n = number()?;
                self.size =
                    u32::try_from(n).ok().filter(|n| (LEAST..=MOST).contains(n)).ok_or_else(|| {
                        let line = format!("Invalid size {n} (valid range is {LEAST} to {})", MOST + 1);
                        Failure::bare(line).code(EINVAL)
                    })?;
            }
            'C' => {
                let n = number()?;
                self.count = i32::try_from(n)
                    .ok()
                    .and_then(|n| u32::try_from(n).ok())
                    .ok_or_else(|| Failure::bare(format!("Invalid count {n}")).code(EINVAL))?;
            }
            'v' => self.verbose = true,
            'V' => self.validate = true,
            'd' => self.debug = true,
            'P' => self.persistent = true,
            'q' => self.own_qp = true,
            _ => {}
        }
        Ok(())
    }

    /// What the C tool says of the options after `-d`.
    fn echo(&self, tool: &Tool, letter: char, value: &OsStr) -> Result<(), Failure> {
        if !self.debug {
            return Ok(());
        }
        let value = value.to_string_lossy();
        match letter {
            's' => tool.print("server\n"),
            'c' => tool.print("client\n"),
            'v' => tool.print("verbose\n"),
            'V' => tool.print("validate data\n"),
            'p' => tool.print(&format!("port {value}\n")),
            'S' => tool.print(&format!("size {value}\n")),
            'C' => tool.print(&format!("count {value}\n")),
            _ => Ok(()),
        }
    }
}

/// An address, from its text or by its name; of several, the first.
fn resolve(name: &OsStr, port: u16) -> Result<SocketAddr, Failure> {
    let text = name.to_string_lossy();
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let failed = |why: String| Failure::new(format!("couldn't resolve {}: {why}", text.escape_debug()));
    let mut found = (&*text, port).to_socket_addrs().map_err(|e| failed(e.to_string()))?;
    found.next().ok_or_else(|| failed("it has no address".into()))
}

fn resolve_as_c(tool: &Tool, name: &OsStr, port: u16) -> Result<SocketAddr, Failure> {
    // EAI_NONAME, which the library's wrapper does not hand on.
    const CODE: u8 = 254;
    resolve(name, port).map_err(|_| {
        let line = "getaddrinfo failed (Name or service not known) - invalid hostname or IP address\n";
        ending(tool.print(line), CODE).err().unwrap_or_else(|| Failure::said(CODE))
    })
}

fn usage(tool: &Tool) -> Failure {
    let printed = tool.print(
        "rping -s [-vVd] [-S size] [-C count] [-a addr] [-p port]
rping -c [-vVd] [-S size] [-C count] [-I addr] -a addr [-p port]
\t-c\t\tclient side
\t-I\t\tSource address to bind to for client.
\t-s\t\tserver side.  To bind to any address with IPv6 use -a ::0
\t-v\t\tdisplay ping data to stdout
\t-V\t\tvalidate ping data
\t-d\t\tdebug printfs
\t-S size \tping data size
\t-C count\tping count times
\t-a addr\t\taddress
\t-p port\t\tport
\t-P\t\tpersistent server mode allowing multiple connections
\t-q\t\tuse self-created, self-modified QP
",
    );
    ending(printed, EINVAL).err().unwrap_or_else(|| Failure::said(EINVAL))
}

fn port(text: &str) -> Result<u16, String> {
    within(decimal(text)?, 0, u16::MAX)
}

fn size(text: &str) -> Result<u32, String> {
    within(decimal(text)?, LEAST, MOST)
}

fn count(text: &str) -> Result<u32, String> {
    within(decimal(text)?, 0, i32::MAX as u32)
}

fn seconds(text: &str) -> Result<u32, String> {
    within(decimal(text)?, 0, u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Manner;

    #[test]
    fn only_a_server_is_persistent() {
        let tool = Tool::new("rping", Manner::C);
        let plan = |line: &str| Plan::as_c(&tool, line.split(' ').map(OsString::from).collect()).unwrap();
        assert!(plan("-s -P").persistent);
        assert!(!plan("-c -P -a 10.0.0.1").persistent);
    }
}
