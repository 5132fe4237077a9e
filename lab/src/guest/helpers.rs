//! Small commands for tests and measurements in the guest: `/init NAME ARGUMENTS`.

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

const NAMES: &str = "await-active DEVICE, await-carrier NETDEV, await-port PORT SECONDS, cat FILE..., drop-input, \
                     link-add NAME KIND NETDEV, link-del NAME, load MODULE, sleep MS, unload MODULE, write FILE";

/// Runs the helper that `arguments` name.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["await-active", device] => crate::setup::await_active(device),
        ["await-carrier", netdev] => crate::setup::await_carrier(netdev),
        ["await-port", port, seconds] => await_port(number(port)?, number(seconds)?),
        ["cat", files @ ..] => files.iter().try_for_each(|file| cat(file)),
        ["drop-input"] => crate::netfilter::drop_input(),
        ["link-add", name, kind, netdev] => crate::setup::add_link(name, kind, netdev),
        ["link-del", name] => crate::setup::remove_link(name),
        ["load", module] => crate::setup::load_up_to(module),
        ["unload", module] => crate::setup::unload(module),
        ["write", file] => write(file),
        ["sleep", milliseconds] => {
            sleep(Duration::from_millis(number(milliseconds)?));
            Ok(())
        }
        _ => Err(format!("unknown helper: {words:?}; available: {NAMES}")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text}: not a number in range"))
}

/// Waits until a program listens on a TCP port, so that a client is not started too early.
fn await_port(port: u16, seconds: u64) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        if ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| listens(table, port)) {
            return Ok(());
        }
        sleep(Duration::from_millis(10));
    }
    Err(format!("nothing listens on port {port} after {seconds} s"))
}

fn listens(table: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let Ok(text) = std::fs::read_to_string(table) else {
        return false;
    };
    let suffix = format!(":{port:04X}");
    text.lines().skip(1).any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().is_some_and(|local| local.ends_with(&suffix)) && columns.nth(1) == Some(LISTEN)
    })
}

/// Writes standard input to a file, and creates the folders above it.
fn write(file: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{file}: {error}");
    if let Some(folder) = std::path::Path::new(file).parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut out = std::fs::File::create(file).map_err(failed)?;
    std::io::copy(&mut std::io::stdin(), &mut out).map(drop).map_err(failed)
}

/// Prints a file, for those under `/proc` and `/sys`: a guest has no shell.
fn cat(file: &str) -> Result<(), String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    std::io::stdout().write_all(&bytes).map_err(|error| error.to_string())
}
