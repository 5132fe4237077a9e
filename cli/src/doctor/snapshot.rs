//! What is known of a machine, as plain values: the checks are functions of these, so that tests can describe any machine.

use std::collections::BTreeSet;

use bareverbs::discover::DriverId;
use bareverbs::netlink::NetNamespaceMode;
use bareverbs::{GidEntry, LinkLayer, Mtu, PhysState, PortState};

/// A machine, as one process sees it.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) modules: Modules,
    /// Drivers of adapters that can do RDMA with one more module.
    pub(super) adapters: Vec<&'static Adapter>,
    pub(super) devices: Result<Vec<Device>, Trouble>,
    /// Network devices that a software device could stand on, the likeliest first.
    pub(super) netdevs: Vec<String>,
    /// /dev/infiniband/rdma_cm, where the kernel has it.
    pub(super) rdma_cm: Option<Node>,
    pub(super) memlock: Memlock,
    /// Nothing where the kernel does not tell.
    pub(super) namespaces: Option<NetNamespaceMode>,
    pub(super) filter: Filter,
    /// Folders where a file system is not mounted that the kernel tells of itself in, and its kind.
    pub(super) unmounted: Vec<(&'static str, &'static str)>,
}

/// Why there is no list of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) reason: String,
    /// The kernel has no RDMA at present.
    pub(super) absent: bool,
}

/// The kernel's modules.
#[derive(Debug, Clone, Default)]
pub(super) struct Modules {
    /// The kernel's release, as `uname -r` gives it.
    pub(super) release: String,
    /// Those that are loaded; nothing where the kernel takes none.
    pub(super) loaded: Option<BTreeSet<String>>,
    /// Those that are part of the kernel.
    pub(super) builtin: BTreeSet<String>,
    /// Those that can be loaded; nothing where there is no list of them for this release.
    pub(super) available: Option<BTreeSet<String>>,
    /// Other releases that have modules installed.
    pub(super) other_releases: Vec<String>,
    /// `kernel.modules_disabled`: none can be loaded until the next boot.
    pub(super) locked: bool,
}

/// Where a module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModuleState {
    Loaded,
    BuiltIn,
    /// In a file.
    Available,
    /// Not made for this kernel.
    Absent,
    /// Not loaded; there is no list of what could be.
    Unknown,
    /// Not part of a kernel that takes no modules.
    Impossible,
}

impl Modules {
    pub(super) fn state(&self, name: &str) -> ModuleState {
        let Some(loaded) = &self.loaded else {
            return if self.builtin.contains(name) { ModuleState::BuiltIn } else { ModuleState::Impossible };
        };
        if loaded.contains(name) {
            return ModuleState::Loaded;
        }
        if self.builtin.contains(name) {
            return ModuleState::BuiltIn;
        }
        match &self.available {
            None => ModuleState::Unknown,
            Some(available) if available.contains(name) => ModuleState::Available,
            Some(_) => ModuleState::Absent,
        }
    }

    /// Whether it works now.
    pub(super) fn works(&self, name: &str) -> bool {
        matches!(self.state(name), ModuleState::Loaded | ModuleState::BuiltIn)
    }
}

/// A PCI driver, and the module that makes RDMA devices of what it drives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Adapter {
    pub(super) pci_driver: &'static str,
    pub(super) module: &'static str,
    /// Whether every adapter of that driver can do RDMA.
    pub(super) always: bool,
}

/// An RDMA device.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) driver: DriverId,
    /// iWARP: connections are made by RDMA-CM alone, and GIDs do not matter.
    pub(super) iwarp: bool,
    /// Its node; nothing where the kernel made no `uverbs` device.
    pub(super) node: Option<Node>,
    pub(super) ports: Vec<Port>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) path: String,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) state: NodeState,
}

/// What came of opening a node for reading and writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeState {
    Opens,
    Missing,
    /// Owner and mode forbid it.
    Denied,
    /// They do not, but its mount or a security module does.
    Barred,
    /// A device policy forbids it.
    Forbidden,
    /// It stands for something else, in words.
    Wrong(String),
    /// Nothing is behind it.
    Gone,
    /// It opens, but nothing here drives its device, and the driver tells others nothing, in words.
    Unasked(String),
    /// Anything else, in words.
    Failed(String),
}

/// A port.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) number: u32,
    pub(super) state: PortState,
    pub(super) phys_state: PhysState,
    /// What it is over; on InfiniBand nothing.
    pub(super) netdev: Option<Netdev>,
    /// It is over a network device of another network namespace.
    pub(super) elsewhere: bool,
    /// What only the opened device tells.
    pub(super) detail: Option<Detail>,
}

/// What a port says through its device's node.
#[derive(Debug, Clone)]
pub(super) struct Detail {
    pub(super) link_layer: LinkLayer,
    pub(super) active_mtu: Mtu,
    pub(super) max_mtu: Mtu,
    pub(super) lid: u16,
    /// Those in use, or why they are not known, in words.
    pub(super) gids: Result<Vec<GidEntry>, String>,
}

/// A network device under a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Netdev {
    pub(super) name: String,
    /// Nothing where sysfs does not tell.
    pub(super) mtu: Option<u32>,
    /// Whether somebody switched it on.
    pub(super) up: Option<bool>,
}

/// How much memory this process may lock; nothing is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memlock {
    pub(super) soft: Option<u64>,
    pub(super) hard: Option<u64>,
    /// The process has CAP_IPC_LOCK where the kernel looks for it, so no limit holds.
    pub(super) exempt: bool,
}

/// What can be told of packet filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) nf_tables: NfTables,
    /// Whether iptables' older kernel side has a filter table; nothing if only root may know.
    pub(super) legacy: Option<bool>,
}

/// What nf_tables says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NfTables {
    /// It is not in the kernel.
    NotThere,
    /// Chains that packets come or go through, of this network namespace.
    Chains(Vec<Chain>),
    /// Why it does not say, in words.
    Silent(String),
}

/// A chain that the kernel sends packets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// `inet`, `ip`, `ip6`.
    pub(super) family: &'static str,
    pub(super) table: String,
    pub(super) name: String,
    /// `input` or `output`.
    pub(super) hook: &'static str,
    /// What no rule takes is dropped.
    pub(super) drops: bool,
    pub(super) rules: u32,
}
