//! Looks at the machine. What cannot be seen is left out of the snapshot; nothing here is judged.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bareverbs::cm::EventChannel;
use bareverbs::discover::{DeviceInfo, DeviceNumber, Transport};
use bareverbs::netlink::Nldev;
use bareverbs::{Context, Error, ErrorKind, LinkLayer, PortNum};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access};

use super::super::devices;
use super::modules::ADAPTERS;
use super::netfilter;
use super::snapshot::{
    Detail, Device, Filter, Memlock, ModuleState, Modules, Netdev, NfTables, Node, NodeState, Port, Snapshot,
    Trouble,
};

/// What this process can see of the machine.
pub(super) fn gather() -> Snapshot {
    // Devices first: asking netlink for them loads what it needs, if there is a modprobe.
    let mut nldev = Nldev::open().ok();
    let devices = bareverbs::Device::list()
        .map(|devices| devices.iter().map(|found| device(found, nldev.as_mut())).collect())
        .map_err(|error| Trouble { reason: reason(&error), absent: error.kind() == ErrorKind::NotFound });
    let modules = modules();
    let filter = filter(&modules);
    let rdma_cm = rdma_cm(nldev.as_mut(), &modules);
    Snapshot {
        adapters: ADAPTERS.iter().filter(|adapter| drives_something(adapter.pci_driver)).collect(),
        devices,
        netdevs: netdevs(),
        rdma_cm,
        memlock: memlock(),
        namespaces: nldev.and_then(|mut nldev| nldev.net_namespace_mode().ok()),
        filter,
        modules,
        unmounted: [("/proc", "self", "proc"), ("/sys", "kernel", "sysfs")]
            .into_iter()
            .filter(|(folder, inside, _)| !Path::new(folder).join(inside).exists())
            .map(|(folder, _, kind)| (folder, kind))
            .collect(),
    }
}

/// An error's cause in words, without what doctor says itself.
fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Os => format!("{}: {}", error.operation(), error.reason()),
        ErrorKind::NotFound | ErrorKind::InvalidData => error.reason(),
        _ => error.to_string(),
    }
}

fn device(found: &bareverbs::Device, nldev: Option<&mut Nldev>) -> Device {
    let info = found.info();
    let mut node = info.uverbs.as_ref().map(|uverbs| Node {
        path: uverbs.path().display().to_string(),
        major: uverbs.number.major,
        minor: uverbs.number.minor,
        state: state(info.open_node(), &uverbs.path()),
    });
    let ctx = match node.as_mut().filter(|node| node.state == NodeState::Opens) {
        Some(node) => {
            let failed = |error| match found.has_provider() {
                true => NodeState::Failed(reason(&error)),
                // Some drivers make a context for a program alone that knows their devices.
                false => NodeState::Unasked(reason(&error)),
            };
            devices::open_device(found).map_err(|error| node.state = failed(error)).ok()
        }
        None => None,
    };
    Device {
        name: info.name.clone(),
        driver: info.driver,
        iwarp: info.transport() == Transport::IWARP,
        node,
        ports: ports(info, ctx.as_ref(), nldev),
    }
}

/// What came of opening a node.
fn state<T>(opened: Result<T, Error>, path: &Path) -> NodeState {
    let error = match opened {
        Ok(_) => return NodeState::Opens,
        Err(error) => error,
    };
    match error.raw_os_error().map(Errno::from_raw) {
        None if error.kind() == ErrorKind::InvalidData => NodeState::Wrong(reason(&error)),
        None => NodeState::Failed(reason(&error)),
        Some(Errno::ENOENT) => NodeState::Missing,
        Some(Errno::EACCES) => match access(path, AccessFlags::R_OK | AccessFlags::W_OK) {
            Ok(()) => NodeState::Barred,
            Err(_) => NodeState::Denied,
        },
        Some(Errno::EPERM) => NodeState::Forbidden,
        Some(Errno::ENXIO | Errno::ENODEV) => NodeState::Gone,
        Some(_) => NodeState::Failed(error.reason()),
    }
}

fn ports(info: &DeviceInfo, ctx: Option<&Context>, mut nldev: Option<&mut Nldev>) -> Vec<Port> {
    let port = |number: u32| {
        let told = match (info.index, nldev.as_deref_mut()) {
            (Some(index), Some(nldev)) => nldev.port(index, number).ok(),
            _ => None,
        };
        let asked = PortNum::new(number)
            .ok()
            .zip(ctx)
            .and_then(|(number, ctx)| Some((number, ctx, ctx.query_port(number).ok()?)));
        let detail = asked.as_ref().map(|(number, ctx, attr)| Detail {
            link_layer: attr.link_layer,
            active_mtu: attr.active_mtu,
            max_mtu: attr.max_mtu,
            lid: attr.lid.0,
            gids: ctx.query_gids_of(*number, attr).map_err(|error| reason(&error)),
        });
        let state = match (&asked, &told) {
            (Some((_, _, attr)), _) => (attr.state, attr.phys_state),
            (None, Some(told)) => (told.state, told.phys_state),
            (None, None) => return None,
        };
        let ethernet = detail.as_ref().is_some_and(|detail| {
            let has_gids = detail.gids.as_ref().is_ok_and(|gids| !gids.is_empty());
            detail.link_layer == LinkLayer::ETHERNET && has_gids
        });
        let elsewhere = ethernet && told.as_ref().is_some_and(|told| told.netdev.is_none());
        let name = match told {
            Some(told) => told.netdev,
            None => text(&format!("/sys/class/infiniband/{}/ports/{number}/gid_attrs/ndevs/0", info.name)),
        };
        let netdev = name.filter(|name| !is_ipoib(name)).map(netdev);
        Some(Port { number, state: state.0, phys_state: state.1, netdev, elsewhere, detail })
    };
    (1..=info.port_count).filter_map(port).collect()
}

/// Whether a network device is IP over InfiniBand. Newer kernels tell it with the port, but it is over the port, and says
/// nothing of the port's packets.
fn is_ipoib(name: &str) -> bool {
    let kind = text(&format!("/sys/class/net/{name}/type"));
    kind.as_deref() == Some(&nix::libc::ARPHRD_INFINIBAND.to_string())
}

fn netdev(name: String) -> Netdev {
    let mtu = text(&format!("/sys/class/net/{name}/mtu")).and_then(|mtu| mtu.parse().ok());
    let up = text(&format!("/sys/class/net/{name}/flags"))
        .and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok())
        .map(|flags| flags & nix::libc::IFF_UP as u32 != 0);
    Netdev { name, mtu, up }
}

/// Ethernet devices that can carry a software device: those that are up before the others, then adapters and bonds before what
/// programs have made or what is part of a bond.
fn netdevs() -> Vec<String> {
    let of = |name: &str, attribute| text(&format!("/sys/class/net/{name}/{attribute}"));
    let ethernet = nix::libc::ARPHRD_ETHER.to_string();
    let mut names = entries("/sys/class/net");
    // rxe takes no VLAN.
    let is_vlan =
        |name: &str| of(name, "uevent").is_some_and(|lines| lines.lines().any(|line| line == "DEVTYPE=vlan"));
    names.retain(|name| of(name, "type").as_deref() == Some(&ethernet) && !is_vlan(name));
    let has = |name: &str, entry: &str| Path::new(&format!("/sys/class/net/{name}/{entry}")).exists();
    names.sort_by_key(|name| {
        let rank = match of(name, "operstate").as_deref() {
            Some("up") => 0,
            Some("unknown") => 1,
            _ => 2,
        };
        let real = has(name, "device") || has(name, "bonding");
        (rank, !real || has(name, "master"), name.clone())
    });
    names
}

fn modules() -> Modules {
    let release = nix::sys::utsname::uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let in_sysfs = |loadable: bool| {
        let mut names = entries("/sys/module");
        names.retain(|name| Path::new(&format!("/sys/module/{name}/initstate")).exists() == loadable);
        names
    };
    let first_word = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let loaded = match fs::read_to_string("/proc/modules") {
        Ok(list) => Some(list.lines().filter_map(first_word).collect()),
        Err(_) if Path::new("/proc/self").exists() => None,
        Err(_) => Some(in_sysfs(true).into_iter().collect()),
    };
    let folder = format!("/lib/modules/{release}");
    let named =
        |file: &str| fs::read_to_string(format!("{folder}/{file}")).ok().map(|text| module_names(&text));
    let mut builtin = named("modules.builtin").unwrap_or_default();
    builtin.extend(in_sysfs(false));
    // Parts of the kernel without parameters show by what they make.
    for (trace, name) in
        [("/sys/class/infiniband_verbs", "ib_uverbs"), ("/sys/class/misc/rdma_cm", "rdma_ucm")]
    {
        if Path::new(trace).exists() {
            builtin.insert(name.to_owned());
        }
    }
    let available = named("modules.dep");
    let mut other_releases = Vec::new();
    if available.is_none() {
        other_releases = entries("/lib/modules");
        other_releases.retain(|other| {
            *other != release && Path::new(&format!("/lib/modules/{other}/modules.dep")).exists()
        });
        other_releases.sort_unstable();
    }
    let locked = text("/proc/sys/kernel/modules_disabled").as_deref() == Some("1");
    Modules { release, loaded, builtin, available, other_releases, locked }
}

/// The names in a list of module files, each with what it depends on after a colon.
fn module_names(list: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let path = line.split(':').next()?;
        let (name, _) = path.rsplit('/').next()?.split_once(".ko")?;
        Some(name.replace('-', "_"))
    };
    list.lines().filter_map(name).collect()
}

/// Whether a PCI driver is bound to some device: its folder has links named by their addresses.
fn drives_something(driver: &str) -> bool {
    entries(&format!("/sys/bus/pci/drivers/{driver}")).iter().any(|name| name.contains(':'))
}

/// The node of RDMA-CM; where its module is not there, a question to netlink would load it.
fn rdma_cm(nldev: Option<&mut Nldev>, modules: &Modules) -> Option<Node> {
    if !modules.works("rdma_ucm") {
        return None;
    }
    let told = nldev.and_then(|nldev| nldev.global_char_device("rdma_cm").ok());
    let number = match told {
        Some(told) => told.number,
        None => {
            let number = text("/sys/class/misc/rdma_cm/dev")?;
            let (major, minor) = number.split_once(':')?;
            DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? }
        }
    };
    let DeviceNumber { major, minor } = number;
    const PATH: &str = "/dev/infiniband/rdma_cm";
    let state = state(EventChannel::open(), Path::new(PATH));
    Some(Node { path: PATH.into(), major, minor, state })
}

fn memlock() -> Memlock {
    let finite = |limit: u64| (limit != nix::libc::RLIM_INFINITY).then_some(limit);
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((0, 0));
    Memlock { soft: finite(soft), hard: finite(hard), exempt: has_capability(CAP_IPC_LOCK) }
}

const CAP_IPC_LOCK: u32 = 14;

/// Whether the process has a capability in the first user namespace, the only one that counts for memory.
fn has_capability(capability: u32) -> bool {
    let whole =
        text("/proc/self/uid_map").is_some_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
    let effective = text("/proc/self/status")
        .and_then(|status| {
            let bits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(bits.trim(), 16).ok()
        })
        .unwrap_or(0);
    whole && effective >> capability & 1 == 1
}

fn filter(modules: &Modules) -> Filter {
    let nf_tables = match modules.state("nf_tables") {
        // A question would load it.
        ModuleState::Available | ModuleState::Absent => NfTables::NotThere,
        _ => netfilter::chains(),
    };
    let legacy = match fs::read_to_string("/proc/net/ip_tables_names") {
        Ok(names) => Some(names.lines().any(|name| name == "filter")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    };
    Filter { nf_tables, legacy }
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn entries(folder: &str) -> Vec<String> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_lists_are_read_in_both_forms() {
        let names = module_names(
            "kernel/drivers/infiniband/core/ib_uverbs.ko.xz: kernel/drivers/infiniband/core/ib_core.ko.xz\n\
             kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko:\nkernel/lib/crc32-generic.ko\nnonsense\n",
        );
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["crc32_generic", "ib_uverbs", "rdma_rxe"]);
    }

    #[test]
    fn any_machine_can_be_looked_at() {
        let snapshot = gather();
        assert!(!snapshot.modules.release.is_empty());
    }
}
