//! Guests: describe them with [`Vm`], boot them, run commands in them, shut them down.
//!
//! ```ignore
//! let guests = Vm::new(Kernel::Line("6.1")).cpus(2).c_tools(true).boot()?;
//! let node = guests.node(1);
//! let server = node.spawn(Run::new(["ibv_rc_pingpong", "-g", "1"]))?;
//! node.await_port(18515)?;
//! let client = node.run(Run::new(["ibv_rc_pingpong", "-g", "1", "127.0.0.1"]))?;
//! assert!(client.success() && server.wait()?.success());
//! guests.shutdown()?; // an error if the kernel complained about anything
//! ```

pub mod cards;
pub mod kernel;
pub mod log;
pub mod node;
pub mod qemu;
pub mod run;

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::image::cpio::Archive;
use crate::image::{libraries, modules, tools, vmlinux};
use crate::packages::{KERNEL_LINES, module};
use crate::protocol::{Address, BOOT_FILE, Boot, INIT, Link};
use crate::{Result, cache, image, installation};

pub use cards::{Emulator, Mlx4};
pub use kernel::Kernel;
pub use node::{Job, Node};
pub use run::{Output, Run};

/// How long a guest may take to set itself up, under emulation on a busy machine.
const BOOT_TIME: Duration = Duration::from_secs(120);

/// The configuration of one guest, or of two on a wire.
#[derive(Debug, Clone)]
pub struct Vm {
    kernel: Kernel,
    modules: Option<PathBuf>,
    nodes: u32,
    cpus: u32,
    memory: u32,
    c_tools: bool,
    files: Vec<(PathBuf, String)>,
    links: Vec<Link>,
    bare: bool,
    lifetime: Duration,
    devices: Vec<String>,
    more_modules: Vec<String>,
    siw: bool,
    mlx4: Option<Mlx4>,
}

impl Vm {
    /// Creates the configuration of one guest with two processors and the device `rxe0`.
    pub fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            modules: None,
            nodes: 1,
            cpus: 2,
            memory: 1024,
            c_tools: false,
            files: Vec::new(),
            links: vec![Link { name: "rxe0".into(), kind: "rxe".into() }],
            bare: false,
            lifetime: Duration::from_secs(600),
            devices: Vec::new(),
            more_modules: Vec::new(),
            siw: false,
            mlx4: None,
        }
    }

    /// Sets the folder of the kernel's modules, if it cannot be derived from the kernel.
    pub fn modules(mut self, folder: Option<PathBuf>) -> Self {
        self.modules = folder;
        self
    }

    /// Sets the number of guests, 1 or 2.
    pub fn nodes(mut self, nodes: u32) -> Self {
        self.nodes = nodes;
        self
    }

    /// Sets the number of virtual processors of each guest.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Sets the memory of each guest in MiB.
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// Sets whether the guests have the C tools.
    pub fn c_tools(mut self, wanted: bool) -> Self {
        self.c_tools = wanted;
        self
    }

    /// Copies a file of the host into the guests.
    pub fn file(mut self, host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        self.files.push((host.into(), guest.into()));
        self
    }

    /// Gives each guest an emulated ConnectX card in place of `rxe0`.
    pub fn mlx4(mut self, cards: Mlx4) -> Self {
        self.mlx4 = Some(cards);
        self.no_link()
    }

    /// Gives each guest the software iWARP device `siw0` in place of `rxe0`.
    pub fn siw(mut self) -> Self {
        self.siw = true;
        self.links = vec![Link { name: "siw0".into(), kind: "siw".into() }];
        self
    }

    /// Boots without a software RDMA device.
    pub fn no_link(mut self) -> Self {
        self.links.clear();
        self
    }

    /// Boots without loading any module, so without RDMA. `/init load NAME` loads one later.
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self.no_link()
    }

    /// Sets the time after which the guests are killed, whatever they do.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Adds a kernel module and its dependencies.
    pub fn module(mut self, name: impl Into<String>) -> Self {
        self.more_modules.push(name.into());
        self
    }

    /// Adds arguments for QEMU.
    pub fn devices(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        self.devices.extend(arguments);
        self
    }

    /// Boots the guests and waits until their RDMA devices work.
    pub fn boot(&self) -> Result<Guests> {
        self.prepare()?.boot()
    }

    /// Fetches and builds everything that the guests boot from, which takes a while the first time.
    pub fn prepare(&self) -> Result<Prepared<'_>> {
        let mut files = self.kernel.files(self.modules.as_deref())?;
        let emulator = self.mlx4.as_ref().map(|_| (installation::current().emulator)()).transpose()?;
        let oldest = if self.mlx4.is_some() { qemu::VFIO_USER } else { qemu::OLDEST };
        let qemu = qemu::Qemu::find(oldest)?;
        let mut layers = vec![self.modules_layer(&files)?];
        files.image = vmlinux::bootable(&files.image, cache::key(&image::identity(&files.image)?))?;
        if self.c_tools {
            layers.push(tools::archive()?);
        }
        let init = (installation::current().guest)()?;
        let linked = libraries::of(&init)?;
        Ok(Prepared { vm: self, files, qemu, layers, init: Init { program: init, linked }, emulator })
    }

    /// What the guests are made of that comes from elsewhere: kernel, QEMU, C tools. Equal values mean equal packages.
    pub fn identity(&self) -> Result<String> {
        let files = self.kernel.files(self.modules.as_deref())?;
        let kernel = files.modules.file_name().map(|name| name.to_string_lossy().into_owned());
        let image = cache::key(&image::read(&files.image)?);
        let qemu = qemu::Qemu::find(qemu::VFIO_USER)?.describe()?;
        let tools = if self.c_tools { cache::key(&image::read(&tools::archive()?)?) } else { 0 };
        Ok(format!("kernel {} {image:016x}, QEMU {qemu}, C tools {tools:016x}", kernel.unwrap_or_default()))
    }

    /// Returns siw's module for one of Debian's kernels. Others must have it among their own.
    fn built_siw(&self, files: &kernel::Files) -> Result<Option<PathBuf>> {
        let line = match &self.kernel {
            Kernel::Line(line) if self.siw && self.modules.is_none() => *line,
            _ => return Ok(None),
        };
        let known = KERNEL_LINES.iter().find(|(known, _)| *known == line);
        let release = files.modules.file_name().and_then(|name| name.to_str());
        let (Some((_, suite)), Some(release)) = (known, release) else { return Ok(None) };
        Ok(Some(module::siw(line, *suite, release)?.join("siw.ko")))
    }

    /// The kernel's modules, cached by kernel and by what is wanted of it.
    fn modules_layer(&self, files: &kernel::Files) -> Result<PathBuf> {
        let wanted = self.wanted();
        let siw = self.built_siw(files)?;
        let key = cache::key(&(image::identity(&files.image)?, &files.modules, &wanted));
        cache::produce(&format!("images/modules-{key:016x}.cpio"), "kernel modules' image", |path, _| {
            let mut modules = modules::Modules::find(&files.modules)?;
            if let Some(path) = &siw {
                modules.add("siw", path.clone());
            }
            let found = modules.closure(&wanted)?;
            let failed = |error: io::Error| format!("{}: {error}", path.display());
            let mut archive = Archive::new(BufWriter::new(File::create(path).map_err(failed)?));
            for one in &found {
                archive.file(&one.module.path, 0o644, &one.content).map_err(failed)?;
            }
            // The boot file lists the modules in this order, which depends on their content.
            let order = serde_json::to_vec(&found.iter().map(|one| &one.module).collect::<Vec<_>>());
            let order = order.map_err(|error| format!("modules' order: {error}"))?;
            fs::write(path.with_extension("").with_extension("order"), order).map_err(failed)?;
            archive.finish().map(drop).map_err(failed)
        })
    }

    fn wanted(&self) -> Vec<modules::Wanted> {
        let wire = if self.has_wire() { modules::WIRE } else { &[] };
        let more = self
            .more_modules
            .iter()
            .map(|name| modules::Wanted { name: name.clone().into(), optional: false });
        let device = match () {
            () if self.mlx4.is_some() => modules::MLX4,
            () if self.siw => modules::SIW,
            () => modules::RXE,
        };
        let ethernet = if self.is_ethernet() { modules::MLX4_ETHERNET } else { &[] };
        wire.iter().chain(modules::BASE).chain(device).chain(ethernet).cloned().chain(more).collect()
    }

    /// Whether the guests' cards are their network devices.
    fn is_ethernet(&self) -> bool {
        self.mlx4.as_ref().is_some_and(Mlx4::is_ethernet)
    }

    /// Whether QEMU connects the guests by a network device.
    fn has_wire(&self) -> bool {
        self.nodes > 1 && !self.is_ethernet()
    }

    /// Writes the image of one node: what belongs to this run, then the cached archives.
    fn write_initrd(&self, path: &Path, number: u32, init: &Init, layers: &[PathBuf]) -> Result<()> {
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let mut out = BufWriter::new(File::create(path).map_err(failed)?);
        let mut base = Archive::new(&mut out);
        for (link, target) in
            [("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
        {
            base.link(link, target).map_err(failed)?;
        }
        for folder in ["usr/bin", "usr/lib", "usr/lib64", "dev", "proc", "sys", "tmp", "etc", "root", "var"] {
            base.folder(folder).map_err(failed)?;
        }
        base.device("dev/console", 5, 1).map_err(failed)?;
        base.link("usr/sbin", "bin").map_err(failed)?;
        base.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n10.0.0.1 node1\n10.0.0.2 node2\n")
            .map_err(failed)?;
        // Nothing answers there, so lookups of unknown names fail soon.
        base.file("etc/resolv.conf", 0o644, b"nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
            .map_err(failed)?;
        base.file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/false\nuser:x:1000:1000:user:/:/bin/false\n")
            .map_err(failed)?;
        base.file("init", 0o755, &image::read(&init.program)?).map_err(failed)?;
        let boot = serde_json::to_vec(&self.boot_file(number, init, &layers[0])?)
            .map_err(|error| error.to_string())?;
        base.file(BOOT_FILE, 0o644, &boot).map_err(failed)?;
        for (host, guest) in self.files.iter().chain(&init.linked.files) {
            let content = image::read(host)?;
            base.file(&in_usr(guest), image::mode(host)?, &content).map_err(failed)?;
        }
        base.finish().map_err(failed)?;
        for layer in layers {
            let mut file = File::open(layer).map_err(|error| format!("{}: {error}", layer.display()))?;
            io::copy(&mut file, &mut out).map_err(failed)?;
        }
        io::Write::flush(&mut out).map_err(failed)
    }

    fn boot_file(&self, number: u32, init: &Init, modules: &Path) -> Result<Boot> {
        let order = modules.with_extension("order");
        // iWARP has no GID of an address.
        let links = |iwarp: bool| -> Vec<String> {
            let links = self.links.iter().filter(|link| (link.kind == "siw") == iwarp);
            links.map(|link| link.name.clone()).collect()
        };
        Ok(Boot {
            hostname: format!("node{number}"),
            init: init.command_line(),
            modules: serde_json::from_slice(&image::read(&order)?)
                .map_err(|error| format!("{}: {error}; remove it and the file beside it", order.display()))?,
            bare: self.bare,
            netdev: if self.nodes > 1 || self.is_ethernet() { "eth0" } else { "dummy0" }.into(),
            address: [10, 0, 0, number as u8],
            // Room for the largest path MTU, 4096, and its headers.
            mtu: 9000,
            links: self.links.clone(),
            ports: if self.mlx4.is_some() { vec!["mlx4_0".into()] } else { links(true) },
            gids: if self.is_ethernet() { vec!["mlx4_0".into()] } else { links(false) },
            addresses: match self.is_ethernet() {
                true => vec![ipv6("eth0", 0xfd00, number as u8)],
                false if self.mlx4.is_some() => ipoib(number as u8),
                false => Vec::new(),
            },
            lifetime: BOOT_TIME + self.lifetime,
        })
    }
}

/// Returns the addresses of a guest's IP over InfiniBand.
fn ipoib(number: u8) -> Vec<Address> {
    let ip = Ipv4Addr::new(10, 1, 0, number).into();
    vec![Address { netdev: "ib0".into(), ip, prefix: 24 }, ipv6("ib0", 0xfd01, number)]
}

/// Returns an IPv6 address in the network.
fn ipv6(netdev: &str, network: u16, number: u8) -> Address {
    let ip = Ipv6Addr::new(network, 0, 0, 0, 0, 0, 0, number.into()).into();
    Address { netdev: netdev.into(), ip, prefix: 64 }
}

/// Guests that are ready to boot.
pub struct Prepared<'vm> {
    vm: &'vm Vm,
    files: kernel::Files,
    qemu: qemu::Qemu,
    layers: Vec<PathBuf>,
    init: Init,
    emulator: Option<PathBuf>,
}

/// The program that a guest runs as process 1. It is static where it was built for guests alone, and dynamic where it was
/// built for the host, by `cargo install` for instance.
struct Init {
    program: PathBuf,
    linked: libraries::Linked,
}

impl Init {
    /// The words that start it in a guest.
    fn command_line(&self) -> Vec<String> {
        self.linked.loader.iter().cloned().chain([INIT.to_owned()]).collect()
    }
}

impl Prepared<'_> {
    /// Boots the guests and waits until their RDMA devices work.
    pub fn boot(&self) -> Result<Guests> {
        let vm = self.vm;
        let deadline = Instant::now() + BOOT_TIME + vm.lifetime;
        let mut guests =
            Guests { nodes: Vec::new(), emulator: None, folder: Folder::new()?, kernel: vm.kernel.clone() };
        if let (Some(cards), Some(program)) = (&vm.mlx4, &self.emulator) {
            let log = log_path(&vm.kernel, "emulator")?;
            guests.emulator = Some(cards.start(program, vm.nodes, &guests.folder.0, log)?);
        }
        let socket = guests.folder.0.join("wire");
        for number in 1..=vm.nodes {
            if number > 1 && vm.has_wire() {
                await_file(&socket)?;
            }
            let path = |name: &str| guests.folder.0.join(format!("{name}-{number}"));
            let (initrd, control, complaints) = (path("initrd"), path("control"), path("qemu"));
            vm.write_initrd(&initrd, number, &self.init, &self.layers)?;
            let listener =
                UnixListener::bind(&control).map_err(|error| format!("{}: {error}", control.display()))?;
            let log = log_path(&vm.kernel, &format!("node{number}"))?;
            let card = guests.emulator.as_ref().map(|_| cards::socket(&guests.folder.0, number));
            let wire =
                vm.has_wire().then_some(qemu::Wire { socket: &socket, listens: number == 1, node: number });
            let child = self.qemu.start(&qemu::Machine {
                image: &self.files.image,
                init: &self.init.command_line(),
                initrd: &initrd,
                cpus: vm.cpus,
                memory: vm.memory,
                control: &control,
                log: &log,
                complaints: &complaints,
                wire,
                card: card.as_deref(),
                more: &vm.devices,
            })?;
            let name = format!("guest {number} ({})", vm.kernel);
            let quiet = vm.mlx4.as_ref().is_some_and(|cards| !cards.may_fail());
            let log = log::Log { path: log, mlx4: quiet };
            guests.nodes.push(Node::connect(name, child, &listener, log, complaints, deadline)?);
        }
        for node in &guests.nodes {
            node.await_ready(BOOT_TIME)?;
        }
        Ok(guests)
    }
}

/// Running guests. Dropping them kills them.
#[derive(Debug)]
pub struct Guests {
    nodes: Vec<Node>,
    emulator: Option<Emulator>,
    folder: Folder,
    kernel: Kernel,
}

impl Guests {
    /// Returns a guest by number, from 1.
    ///
    /// # Panics
    ///
    /// There is no such guest. The caller has chosen how many there are.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// Returns the emulator of their cards.
    ///
    /// # Errors
    ///
    /// They have no emulated cards.
    pub fn emulator(&self) -> Result<&Emulator> {
        self.emulator.as_ref().ok_or_else(|| "these guests have no emulated cards".into())
    }

    /// Powers the guests off.
    ///
    /// # Errors
    ///
    /// A kernel logged a warning or an error, or the emulator saw a violation.
    pub fn shutdown(mut self) -> Result<()> {
        for node in &self.nodes {
            node.power_off()?;
        }
        let mut complaints = Vec::new();
        for node in &mut self.nodes {
            complaints.extend(node.finish()?);
        }
        let emulator = self.emulator.take().map_or(Ok(()), Emulator::finish);
        if complaints.is_empty() {
            emulator
        } else {
            // The kernel's complaint is likely a consequence of the emulator's.
            if let Err(error) = emulator {
                complaints.insert(0, error);
            }
            Err(format!("kernel {} complained:\n{}", self.kernel, complaints.join("\n")))
        }
    }
}

/// A temporary folder that is removed on drop.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        remove_stale();
        let path = std::env::temp_dir().join(format!("bareverbs-{}-{}", std::process::id(), serial()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

/// Removes the folders of runs that were killed.
fn remove_stale() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("bareverbs-").and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        let owner = owner.and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Fails for those of other users.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover there is not worth an error.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn serial() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn log_path(kernel: &Kernel, whose: &str) -> Result<PathBuf> {
    let folder = (installation::current().logs)()?;
    cache::create(&folder)?;
    let kernel = kernel.to_string().replace('/', "_");
    Ok(folder.join(format!("{kernel}-{whose}-{}-{}.log", std::process::id(), serial())))
}

fn await_file(path: &Path) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while !path.exists() {
        if Instant::now() > end {
            return Err(format!("{}: QEMU has not made it in 10 s", path.display()));
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Returns the real path of a guest's file: `/bin` and others are symbolic links, which a folder of an archive would replace.
fn in_usr(path: &str) -> String {
    let path = path.trim_start_matches('/');
    match path.split_once('/') {
        Some(("bin" | "sbin", rest)) => format!("usr/bin/{rest}"),
        Some(("lib" | "lib64", _)) => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}
