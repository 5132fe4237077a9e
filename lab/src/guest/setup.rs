//! From a bare kernel to a working RDMA device: file systems, modules, network device, link.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bareverbs::Device;
use bareverbs::netlink::Nldev;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::netdev;
use crate::protocol::{Address, BOOT_FILE, Boot, Module};

/// How long a device or an address may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// Mounts the file systems that programs expect.
pub(crate) fn mounts() -> Result<(), String> {
    let table: [(&str, &str, &str); 6] = [
        ("proc", "/proc", "proc"),
        ("sysfs", "/sys", "sysfs"),
        ("devtmpfs", "/dev", "devtmpfs"),
        ("devpts", "/dev/pts", "devpts"),
        ("tmpfs", "/dev/shm", "tmpfs"),
        ("tmpfs", "/tmp", "tmpfs"),
    ];
    for (source, target, kind) in table {
        fs::create_dir_all(target).map_err(|error| format!("{target}: {error}"))?;
        let flags = MsFlags::MS_NOSUID;
        match mount(Some(source), target, Some(kind), flags, None::<&str>) {
            // The kernel may have mounted devtmpfs itself.
            Ok(()) | Err(nix::errno::Errno::EBUSY) => {}
            Err(errno) => return Err(format!("mount {target}: {errno}")),
        }
    }
    for (target, link) in
        [("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/1", "/dev/stdout"), ("/proc/self/fd/2", "/dev/stderr")]
    {
        // A convenience, which may exist already.
        let _ = symlink(target, link);
    }
    Ok(())
}

/// Reads the boot file.
pub(crate) fn boot_file() -> Result<Boot, String> {
    let bytes = fs::read(BOOT_FILE).map_err(|error| format!("{BOOT_FILE}: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{BOOT_FILE}: {error}"))
}

/// Sets up everything that [`Boot`] describes, and reports each step to `doing` first.
pub(crate) fn apply(boot: &Boot, mut doing: impl FnMut(String)) -> Result<(), String> {
    nix::unistd::sethostname(&boot.hostname).map_err(|errno| format!("host name: {errno}"))?;
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
        .map_err(|errno| format!("memlock limit: {errno}"))?;
    if boot.bare {
        return netdev::up("lo", None);
    }
    no_duplicates();
    for module in &boot.modules {
        doing(format!("loading {}", module.path));
        load(module)?;
    }
    doing(format!("bringing lo and {} up", boot.netdev));
    netdev::up("lo", None)?;
    await_path(&format!("/sys/class/net/{}", boot.netdev))?;
    netdev::up(&boot.netdev, Some(boot.mtu))?;
    netdev::set_address(&boot.netdev, boot.address.into(), 24)?;
    for link in &boot.links {
        doing(format!("adding {} link {}", link.kind, link.name));
        add_link(&link.name, &link.kind, &boot.netdev)?;
    }
    for device in &boot.gids {
        doing(format!("waiting for {device}'s address in its GID table"));
        await_gid(device, boot.address)?;
    }
    for device in &boot.ports {
        doing(format!("waiting for {device}'s port to be active"));
        await_active(device)?;
    }
    for Address { netdev, ip, prefix } in &boot.addresses {
        doing(format!("giving {netdev} the address {ip}"));
        await_path(&format!("/sys/class/net/{netdev}"))?;
        netdev::up(netdev, None)?;
        netdev::set_address(netdev, *ip, *prefix)?;
        await_carrier(netdev)?;
    }
    Ok(())
}

/// Disables duplicate address detection. While it runs, the kernel resolves no IPv6 neighbours on the device, and a connection may
/// give up before it ends.
fn no_duplicates() {
    for devices in ["all", "default"] {
        // A kernel without IPv6 has no such file.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{devices}/accept_dad"), "0");
    }
}

/// Loads a module of the boot file, and before it all earlier modules that are not optional, its dependencies among them.
pub(crate) fn load_up_to(name: &str) -> Result<(), String> {
    let modules = boot_file()?.modules;
    let file = format!("/{name}.ko");
    let last = modules.iter().position(|module| module.path.ends_with(&file));
    let last = last.ok_or_else(|| format!("no module {name} in this image"))?;
    modules[..last].iter().filter(|module| !module.optional).try_for_each(load)?;
    load(&Module { optional: false, ..modules[last].clone() })
}

fn load(module: &Module) -> Result<(), String> {
    let load = || -> Result<(), String> {
        let file = fs::File::open(&module.path).map_err(|error| error.to_string())?;
        let parameters = CString::new(module.parameters.as_str()).map_err(|error| error.to_string())?;
        match finit_module(&file, &parameters, ModuleInitFlags::empty()) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno.to_string()),
        }
    };
    match load() {
        Err(_) if module.optional => Ok(()),
        Err(error) => Err(format!("module {}: {error}", module.path)),
        Ok(()) => Ok(()),
    }
}

/// Adds a software RDMA device on a network device.
pub(crate) fn add_link(name: &str, kind: &str, netdev: &str) -> Result<(), String> {
    Nldev::open()
        .and_then(|mut socket| socket.link_add(name, kind, netdev))
        .map_err(|error| error.to_string())
}

/// Removes a software RDMA device.
pub(crate) fn remove_link(name: &str) -> Result<(), String> {
    Nldev::open().and_then(|mut socket| socket.link_del(name)).map_err(|error| error.to_string())
}

fn await_path(path: &str) -> Result<(), String> {
    await_that(|| Path::new(path).exists())
        .map_err(|seconds| format!("{path} has not appeared in {seconds} s"))
}

/// Waits for the IPv4-mapped GID, which the kernel adds a moment after the device and the address exist.
fn await_gid(device: &str, address: [u8; 4]) -> Result<(), String> {
    let [a, b, c, d] = address;
    let wanted = format!("0000:0000:0000:0000:0000:ffff:{a:02x}{b:02x}:{c:02x}{d:02x}");
    let path = format!("/sys/class/infiniband/{device}/ports/1/gids/1");
    await_that(|| fs::read_to_string(&path).is_ok_and(|gid| gid.trim() == wanted))
        .map_err(|seconds| format!("{path} is not {wanted} after {seconds} s"))
}

/// Waits until port 1 of a device is active and programs can open the device. A driver that restarts after a reset creates the
/// port first, then the node, and lets programs open it last.
pub(crate) fn await_active(device: &str) -> Result<(), String> {
    let path = format!("/sys/class/infiniband/{device}/ports/1/state");
    await_that(|| fs::read_to_string(&path).is_ok_and(|state| state.trim() == "4: ACTIVE"))
        .map_err(|seconds| format!("{path} is not ACTIVE after {seconds} s"))?;
    await_that(|| Device::by_name(device).and_then(|device| device.open()).is_ok())
        .map_err(|seconds| format!("{device} cannot be opened after {seconds} s"))
}

/// Waits until a network device has a carrier. IP over InfiniBand has then joined its broadcast group.
pub(crate) fn await_carrier(netdev: &str) -> Result<(), String> {
    let path = format!("/sys/class/net/{netdev}/carrier");
    await_that(|| fs::read_to_string(&path).is_ok_and(|carrier| carrier.trim() == "1"))
        .map_err(|seconds| format!("{path} is not 1 after {seconds} s"))
}

/// Unloads a module.
pub(crate) fn unload(name: &str) -> Result<(), String> {
    let text = CString::new(name).map_err(|error| format!("{name}: {error}"))?;
    delete_module(&text, DeleteModuleFlags::O_NONBLOCK).map_err(|errno| format!("module {name}: {errno}"))
}

fn await_that(condition: impl Fn() -> bool) -> Result<(), u64> {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() > end {
            return Err(PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
