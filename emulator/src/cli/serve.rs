//! `connectx serve`.

use std::{
    fs::{self, File},
    io::{self, LineWriter, Write},
    path::PathBuf,
    process::{self, ExitCode},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    bus::server,
    control,
    device::Device,
    fabric::{Fabric, port::LinkLayer, subnet::Agent},
    mlx4::{
        hca::Hca,
        identity::{Identity, Model},
    },
    trace::Trace,
};
use clap::{Parser, ValueEnum};
use nix::sys::signal::{SigSet, Signal};

const EXAMPLES: &str = "\
Examples:
  connectx serve /tmp/hca                            one ConnectX-3, LID 1
  connectx serve --strict --trace - /tmp/hca         print all that happens; exit with 1 after a violation
  connectx serve /tmp/hca1 /tmp/hca2                 two on one fabric, LIDs 1 and 9
  connectx serve --link-layer ethernet /tmp/hca      a network device and RoCE
  connectx serve --model connectx-2 /tmp/hca         a ConnectX-2, firmware 2.9.1000

A guest of QEMU 10.1 or later attaches it; its memory must be shared:
  qemu-system-x86_64 -machine q35,memory-backend=ram -object memory-backend-memfd,id=ram,size=1G,share=on \\
    -device '{\"driver\":\"vfio-user-pci\",\"socket\":{\"type\":\"unix\",\"path\":\"/tmp/hca\"}}' ...

The exit code is 0, or 1 after a failure and, under --strict, after a violation.";

/// The distance of default LIDs and GUIDs.
const LIDS: u16 = 8;
const GUIDS: u64 = 0x90;

#[derive(Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Sockets to listen on, one for each HCA
    #[arg(required = true, value_name = "SOCKET")]
    sockets: Vec<PathBuf>,
    /// Model of the cards
    #[arg(long, value_enum, default_value_t = ModelName::Connectx3)]
    model: ModelName,
    /// Link layer of the ports
    #[arg(long, value_enum, default_value_t = LinkLayerName::Infiniband)]
    link_layer: LinkLayerName,
    /// Node GUID of an HCA, in hexadecimal with or without colons (repeat for the next HCAs)
    #[arg(long, value_name = "GUID", value_parser = guid)]
    guid: Vec<u64>,
    /// LID of an HCA's port (repeat for the next HCAs; default 1, 9, 17, ...)
    #[arg(long, value_name = "LID", value_parser = clap::value_parser!(u16).range(1..0xc000))]
    lid: Vec<u16>,
    /// LID of the subnet manager, where subnet administration answers
    #[arg(long, value_name = "LID", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..0xc000))]
    sm_lid: u16,
    /// Firmware version (default: one of the model's)
    #[arg(long, value_name = "MAJOR.MINOR.SUBMINOR", value_parser = firmware)]
    firmware: Option<(u16, u16, u16)>,
    /// Board, in at most 16 characters (default: one of the model's)
    #[arg(long, value_name = "BOARD", value_parser = board)]
    board: Option<String>,
    /// Write each command, doorbell, work request and completion to FILE, - for standard output
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Exit with 1 if a driver did what a card would refuse or misread
    #[arg(long)]
    strict: bool,
    /// Exit when every guest that connected has disconnected
    #[arg(long)]
    once: bool,
    /// Listen on this socket for `connectx control`
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModelName {
    /// MT26428, PCI 15b3:673c
    #[value(name = "connectx-2")]
    Connectx2,
    /// MT27500, PCI 15b3:1003
    #[value(name = "connectx-3")]
    Connectx3,
}

#[derive(Clone, Copy, ValueEnum)]
enum LinkLayerName {
    /// LIDs and a subnet manager
    Infiniband,
    /// A network device, and RoCE version 1
    Ethernet,
}

fn guid(text: &str) -> Result<u64, String> {
    let digits: String = text.trim_start_matches("0x").split(':').collect();
    u64::from_str_radix(&digits, 16)
        .map_err(|_| "not 16 hexadecimal digits, as in 10d2:c910:0000:6bd0".to_owned())
}

fn firmware(text: &str) -> Result<(u16, u16, u16), String> {
    let numbers: Option<Vec<u16>> = text.split('.').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some([major, minor, subminor]) => Ok((*major, *minor, *subminor)),
        _ => Err("not a version of three numbers, as in 2.9.1000".to_owned()),
    }
}

fn board(text: &str) -> Result<String, String> {
    if text.len() <= 16 && text.chars().all(|letter| letter.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("not at most 16 visible ASCII characters".to_owned())
    }
}

/// Serves until every guest has gone (`--once`), a signal comes, or a control command says so.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    // Every thread inherits this mask; the end of this function waits for the signals.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(|errno| format!("signals: {errno}"))?;

    server::catch_panics();
    let output = output(arguments)?;
    let trace =
        |name: &str| output.as_ref().map_or_else(|| Ok(Trace::default()), |output| output.trace(name));
    let agent = Agent::new(arguments.sm_lid, trace("subnet")?);
    let fabric = Arc::new(Fabric::new(hcas(arguments, trace)?, agent));
    let mut sockets = Sockets(Vec::new());
    let mut listeners = Vec::new();
    for path in &arguments.sockets {
        listeners.push(server::listen(path)?);
        sockets.0.push(path.clone());
    }
    let control = match &arguments.control {
        Some(path) => {
            let listener = server::listen(path)?;
            sockets.0.push(path.clone());
            Some(listener)
        }
        None => None,
    };
    let end =
        Arc::new(End { fabric: Arc::clone(&fabric), sockets: Mutex::new(sockets), strict: arguments.strict });
    let guests = Arc::new(AtomicUsize::new(listeners.len()));
    let engine = Arc::clone(&fabric);
    thread::spawn(move || engine.run_engine());
    // Before the first is served, so that these lines come before any about a guest.
    for path in &arguments.sockets {
        eprintln!("connectx: {}: waiting for a guest", path.display());
    }
    for (number, listener) in listeners.into_iter().enumerate() {
        let (fabric, end, guests) = (Arc::clone(&fabric), Arc::clone(&end), Arc::clone(&guests));
        let once = arguments.once;
        let guest = server::spawn(move || {
            let gone = || {
                if once && guests.fetch_sub(1, Ordering::Relaxed) == 1 {
                    end.end(None);
                }
            };
            if let Err(error) = server::serve(&fabric, number, listener, gone) {
                end.end(Some(&error));
            }
        });
        guest.map_err(|error| format!("a thread: {error}"))?;
    }
    if let Some(listener) = control {
        let (fabric, end) = (Arc::clone(&fabric), Arc::clone(&end));
        thread::spawn(move || {
            let result = control::serve(&fabric, &listener, || end.end(None));
            if let Err(error) = result {
                end.end(Some(&format!("control socket: {error}")));
            }
        });
    }
    signals.wait().map_err(|errno| format!("signals: {errno}"))?;
    end.end(None)
}

/// The sockets that were created, which are removed when the process ends.
struct Sockets(Vec<PathBuf>);

impl Drop for Sockets {
    fn drop(&mut self) {
        for path in &self.0 {
            // It may have been removed already.
            let _ = fs::remove_file(path);
        }
    }
}

/// Ends the process, from any thread.
struct End {
    fabric: Arc<Fabric>,
    sockets: Mutex<Sockets>,
    strict: bool,
}

impl End {
    fn end(&self, error: Option<&str>) -> ! {
        // Held until the process ends: a second thread that wants to end it waits here.
        let fabric = self.fabric.lock();
        let count: u64 = fabric.hcas.iter().map(|hca| hca.violations()).sum();
        if let Ok(mut sockets) = self.sockets.lock() {
            drop(std::mem::replace(&mut *sockets, Sockets(Vec::new())));
        }
        if let Some(error) = error {
            eprintln!("connectx: {error}");
        }
        let strict = if self.strict { ", strict" } else { "" };
        eprintln!("connectx: violations: {count}{strict}");
        process::exit(i32::from(error.is_some() || self.strict && count > 0))
    }
}

/// Where the trace goes, if anywhere.
fn output(arguments: &Arguments) -> Result<Option<Output>, String> {
    Ok(match &arguments.trace {
        Some(path) if path.as_os_str() == "-" => Some(Output::Standard),
        Some(path) => {
            let file = File::create(path).map_err(|error| format!("--trace {}: {error}", path.display()))?;
            Some(Output::File(file))
        }
        None => None,
    })
}

fn hcas(
    arguments: &Arguments,
    trace: impl Fn(&str) -> Result<Trace, String>,
) -> Result<Vec<Box<dyn Device>>, String> {
    let count = arguments.sockets.len();
    for (what, given) in [("--guid", arguments.guid.len()), ("--lid", arguments.lid.len())] {
        if given > count {
            return Err(format!("{what} is given {given} times, but there are {count} sockets"));
        }
    }
    let model = match arguments.model {
        ModelName::Connectx2 => Model::ConnectX2,
        ModelName::Connectx3 => Model::ConnectX3,
    };
    let mut hcas: Vec<Box<dyn Device>> = Vec::new();
    for number in 0..count {
        let step = u16::try_from(number).map_err(|_| "too many sockets")?;
        let default = 0x10d2_c910_0000_6bd0 + u64::from(step) * GUIDS;
        let guid = arguments.guid.get(number).copied().unwrap_or(default);
        let lid = match arguments.lid.get(number) {
            Some(lid) => *lid,
            None => step
                .checked_mul(LIDS)
                .map(|lid| lid + 1)
                .filter(|lid| *lid < 0xc000)
                .ok_or("too many sockets")?,
        };
        for (other, hca) in hcas.iter().enumerate() {
            let (one, two) = (other + 1, number + 1);
            if hca.port().lid == lid {
                return Err(format!(
                    "HCAs {one} and {two} both have LID {lid}; give each its own with --lid"
                ));
            }
            if hca.node_guid().abs_diff(guid) < 4 {
                return Err(format!(
                    "HCAs {one} and {two} have GUIDs less than 4 apart; give others with --guid"
                ));
            }
        }
        let mut identity = Identity::new(model, guid);
        identity.link_layer = match arguments.link_layer {
            LinkLayerName::Infiniband => LinkLayer::InfiniBand,
            LinkLayerName::Ethernet => LinkLayer::Ethernet,
        };
        if let Some(firmware) = arguments.firmware {
            identity.firmware = firmware;
        }
        if let Some(board) = &arguments.board {
            identity.board.clone_from(board);
        }
        let name = if count == 1 { "hca".to_owned() } else { format!("hca {}", number + 1) };
        let trace = trace(&name)?;
        hcas.push(Box::new(Hca::new(&name, identity, lid, arguments.sm_lid, trace)));
    }
    Ok(hcas)
}

/// Where the trace goes.
enum Output {
    Standard,
    File(File),
}

impl Output {
    /// The trace of the card with this name.
    fn trace(&self, name: &str) -> Result<Trace, String> {
        Ok(Trace::to(name, self.writer()?))
    }

    fn writer(&self) -> Result<Box<dyn Write + Send>, String> {
        Ok(match self {
            Self::Standard => Box::new(io::stdout()),
            Self::File(file) => {
                Box::new(LineWriter::new(file.try_clone().map_err(|error| format!("--trace: {error}"))?))
            }
        })
    }
}
