//! The command line of `rdma-lab`: a command in a guest with a working RDMA device, and its exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::image::{check_program, tools};
use crate::vm::{Job, Kernel, Mlx4, Run, Vm};
use crate::{Result, packages};

const EXAMPLES: &str = "\
Examples:
  rdma-lab -- ibv_devinfo                       a C tool on kernel 6.1
  rdma-lab --kernel 7.3 -- ./my-test --all      a static program of yours on 7.3
  rdma-lab --c-tools -- strace -c ./my-test     a tool of the image on a program of yours
  rdma-lab --nodes 2 -- ./my-test               the same program in two guests; each reads BAREVERBS_NODE (1 or 2)
                                                and BAREVERBS_PEER (the other's address)
  rdma-lab --client 'ibv_rc_pingpong -g 1 127.0.0.1' -- ibv_rc_pingpong -g 1
                                                a server and a client in one guest
  rdma-lab --nodes 2 --client 'ibv_rc_pingpong -g 1 10.0.0.1' -- ibv_rc_pingpong -g 1
                                                a server in guest 1 and a client in guest 2
  rdma-lab --device mlx4 -- ibv_devinfo -v      an emulated ConnectX-3 and the kernel's own driver
  rdma-lab --device mlx4 --emulator=--model=connectx-2 --emulator=--trace=/tmp/trace -- ibv_devinfo
                                                a ConnectX-2, and all that the card does in /tmp/trace
  rdma-lab --device mlx4 --link-layer ethernet --nodes 2 --client 'ibv_rc_pingpong -g 1 10.0.0.1' -- ibv_rc_pingpong -g 1
                                                RoCE between two guests whose network device is the card

A guest has the RDMA device rxe0 on dummy0 (with two guests, on eth0). Its address is 10.0.0.1 (the second guest's
10.0.0.2), at GID index 1. With --device siw it has siw0 in place of it, which is reached by that address alone. With
--device mlx4 it has mlx4_0 with LID 1 (the second, 9).

The exit code is the command's own; 128 + N after signal N; 124 after a timeout; 125 if the guest failed, its kernel
logged a warning or an error, or the options are wrong.";

/// The exit code of a guest that failed and of wrong options, as opposed to a command that failed.
pub const BROKEN: u8 = 125;

/// Run a static command in a guest with an RDMA device.
#[derive(Debug, Parser)]
#[command(name = "rdma-lab", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// A kernel: 6.1, 6.12, 7.3, host, or the path of an image
    #[arg(long, default_value = "6.1")]
    kernel: Kernel,
    /// The folder of the kernel's modules, if it cannot be derived from the kernel's path
    #[arg(long)]
    modules: Option<PathBuf>,
    /// Number of guests, 1 or 2
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    nodes: u32,
    /// Processors of each guest
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Memory of each guest in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(256..))]
    memory: u32,
    /// Put the C tools and their libraries into the guest (implied when COMMAND is one of them)
    #[arg(long)]
    c_tools: bool,
    /// Copy a file into the guest: HOST or HOST:GUEST
    #[arg(long, value_name = "HOST[:GUEST]")]
    file: Vec<String>,
    /// Set a variable of the command's environment
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Run as this user
    #[arg(long)]
    uid: Option<u32>,
    /// Limit locked memory, in bytes
    #[arg(long)]
    memlock: Option<u64>,
    /// The command's standard input
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,
    /// One more argument for QEMU (may be repeated)
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    qemu: Vec<String>,
    /// Load one more kernel module (may be repeated)
    #[arg(long, value_name = "NAME")]
    module: Vec<String>,
    /// The RDMA device of each guest
    #[arg(long, value_enum, default_value_t = Device::Rxe)]
    device: Device,
    /// Link layer of mlx4 devices
    #[arg(long, value_enum, default_value_t = LinkLayer::Infiniband)]
    link_layer: LinkLayer,
    /// One more argument for the emulator of mlx4 devices, `rdma-lab-emulator serve` (may be repeated)
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    emulator: Vec<String>,
    /// Boot without a software RDMA device
    #[arg(long)]
    no_link: bool,
    /// Boot without loading any module, so without RDMA; `/init load NAME` loads one
    #[arg(long, conflicts_with = "nodes")]
    bare: bool,
    /// Kill the command after so many seconds
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: u64,
    /// A second command, as one string of words, for the last guest; it starts when the first command listens
    #[arg(long, value_name = "COMMAND")]
    client: Option<String>,
    /// The TCP port to wait for before the client starts; 0 waits a second instead (an RDMA-CM server has no TCP port)
    #[arg(long, default_value_t = 18515)]
    port: u16,
    /// The command and its arguments: a static program of the host, or the name of a C tool
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The RDMA device of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Device {
    /// Software RoCE on the guest's network device
    Rxe,
    /// Software iWARP on the guest's network device
    Siw,
    /// An emulated ConnectX-3, strict: a violation fails the run with 125
    Mlx4,
}

/// The link layer of an emulated card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LinkLayer {
    /// LIDs 1 and 9
    Infiniband,
    /// The card is the guest's network device eth0 too, and its RDMA is RoCE
    Ethernet,
}

/// Finds a program that the caller builds and names like a C tool. It is linked to the C tools' libraries.
pub type Extra = fn(name: &str) -> Option<Result<PathBuf>>;

/// Boots the guests, runs the commands in them and returns the exit code.
///
/// # Errors
///
/// The options contradict each other, a program cannot run in a guest, a guest failed, or its kernel complained.
pub fn run(arguments: &Arguments, extra: Extra) -> Result<ExitCode> {
    let mut environment = Vec::new();
    for pair in &arguments.env {
        environment.push(pair.split_once('=').ok_or_else(|| format!("--env {pair}: not KEY=VALUE"))?);
    }
    let mut vm = Vm::new(arguments.kernel.clone())
        .modules(arguments.modules.clone())
        .nodes(arguments.nodes)
        .cpus(arguments.cpus)
        .memory(arguments.memory)
        .devices(arguments.qemu.clone())
        .lifetime(Duration::from_secs(arguments.timeout + 30));
    for name in &arguments.module {
        vm = vm.module(name);
    }
    if arguments.device == Device::Siw {
        vm = vm.siw();
    }
    if arguments.device == Device::Mlx4 {
        let cards = match arguments.link_layer {
            LinkLayer::Infiniband => Mlx4::default(),
            LinkLayer::Ethernet => Mlx4::default().ethernet(),
        };
        let cards = arguments.emulator.iter().fold(cards, |cards, argument| cards.argument(argument));
        vm = vm.mlx4(cards);
    } else if arguments.link_layer != LinkLayer::Infiniband {
        return Err("--link-layer needs --device mlx4".into());
    } else if !arguments.emulator.is_empty() {
        return Err("--emulator needs --device mlx4".into());
    }
    if arguments.no_link {
        vm = vm.no_link();
    }
    if arguments.bare {
        vm = vm.bare();
    }
    for file in &arguments.file {
        let (host, guest) = file.split_once(':').unwrap_or((file, ""));
        let guest = if guest.is_empty() { in_bin(Path::new(host))? } else { guest.to_owned() };
        vm = vm.file(host, guest);
    }
    let mut c_tools = arguments.c_tools;
    let mut resolve = |words: &[String]| -> Result<Vec<String>> {
        let mut words = words.to_vec();
        let mut needs_c_tools = false;
        for (at, word) in words.iter_mut().enumerate() {
            // Only the program itself must exist; a path among the arguments may be the guest's own.
            let path = Path::new(word.as_str());
            if at == 0 && tools::PROGRAMS.contains(&word.as_str()) {
                needs_c_tools = true;
            } else if let Some(program) = (at == 0).then(|| extra(word)).flatten() {
                needs_c_tools = true;
                vm = vm.clone().file(program?, format!("/bin/{word}"));
            } else if at == 0 && !word.starts_with("/init") || (word.contains('/') && is_program(path)) {
                if !path.is_file() {
                    return Err(unknown(word));
                }
                check_program(path, arguments.c_tools || needs_c_tools)?;
                let guest = in_bin(path)?;
                vm = vm.clone().file(path, guest.clone());
                *word = guest;
            }
        }
        c_tools |= needs_c_tools;
        Ok(words)
    };
    let stdin = match &arguments.stdin {
        Some(path) => {
            Some(std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
        }
        None => None,
    };
    let command = resolve(&arguments.command)?;
    let client = match &arguments.client {
        Some(text) => Some(resolve(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())?),
        None => None,
    };
    let guests = vm.c_tools(c_tools).boot()?;
    let last = arguments.nodes;
    let start = |number: u32, prefix: Option<&str>, words: &[String]| -> Result<Job<'_>> {
        let mut run = Run::new(words).timeout(Duration::from_secs(arguments.timeout));
        for (key, value) in &environment {
            run = run.env(*key, *value);
        }
        if last > 1 {
            let peer = format!("10.0.0.{}", 3 - number);
            run = run.env("BAREVERBS_NODE", number.to_string()).env("BAREVERBS_PEER", peer);
        }
        if let Some(text) = &stdin {
            run = run.stdin(text);
        }
        if let Some(uid) = arguments.uid {
            run = run.uid(uid);
        }
        if let Some(bytes) = arguments.memlock {
            run = run.memlock(bytes);
        }
        run = match prefix {
            Some(prefix) => run.live_as(prefix),
            None => run.live(),
        };
        guests.node(number as usize).spawn(run)
    };
    let jobs = match &client {
        Some(client) => {
            let server = start(1, Some("[server] "), &command)?;
            let listens = if arguments.port == 0 {
                sleep(Duration::from_secs(1));
                true
            } else {
                guests.node(1).await_port_of(&server, arguments.port)?
            };
            match listens {
                true => vec![server, start(last, Some("[client] "), client)?],
                // How it ended is all there is to tell.
                false => vec![server],
            }
        }
        None if last > 1 => vec![start(1, Some("[1] "), &command)?, start(2, Some("[2] "), &command)?],
        None => vec![start(1, None, &command)?],
    };
    let mut code = 0;
    for job in jobs {
        let output = job.wait()?;
        if !output.success() {
            eprintln!("rdma-lab: {}: {}", output.command, output.ending());
            code = if code == 0 { output.code() } else { code };
        }
    }
    guests.shutdown()?;
    Ok(ExitCode::from(code))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && check_program(path, true).is_ok()
}

fn in_bin(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(|name| format!("/bin/{name}"))
        .ok_or_else(|| format!("{}: no file name in UTF-8", path.display()))
}

fn unknown(word: &str) -> String {
    if word.contains('/') {
        return format!("{word}: no such file");
    }
    format!(
        "{word}: no such file here, and no C tool of the image ({}; kernels: {})",
        tools::PROGRAMS.join(" "),
        packages::KERNEL_LINES.map(|(line, _)| line).join(" ")
    )
}
