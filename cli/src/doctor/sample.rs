//! Machines for the tests.

use bareverbs::discover::DriverId;
use bareverbs::netlink::NetNamespaceMode;
use bareverbs::{Gid, GidEntry, GidType, LinkLayer, Mtu, PhysState, PortNum, PortState};

use super::snapshot::{
    Detail, Device, Filter, Memlock, Modules, Netdev, NfTables, Node, NodeState, Port, Snapshot, Trouble,
};

/// One rxe device with an IPv4 address, all well.
pub(super) fn healthy() -> Snapshot {
    let node = |path: &str, major, minor| Node { path: path.into(), major, minor, state: NodeState::Opens };
    let port = Port {
        number: 1,
        state: PortState::ACTIVE,
        phys_state: PhysState::LINK_UP,
        netdev: Some(Netdev { name: "eth0".into(), mtu: Some(1500), up: Some(true) }),
        elsewhere: false,
        detail: Some(Detail {
            link_layer: LinkLayer::ETHERNET,
            active_mtu: Mtu::MTU_1024,
            max_mtu: Mtu::MTU_4096,
            lid: 0,
            gids: Ok(vec![gid(0, "fe80::1", GidType::ROCE_V2), gid(1, "::ffff:10.0.0.1", GidType::ROCE_V2)]),
        }),
    };
    Snapshot {
        modules: Modules {
            release: "6.1.0-test".into(),
            loaded: Some(["ib_uverbs", "rdma_rxe", "rdma_ucm"].map(str::to_owned).into()),
            available: Some(Default::default()),
            ..Modules::default()
        },
        adapters: Vec::new(),
        devices: Ok(vec![Device {
            name: "rxe0".into(),
            driver: DriverId::RXE,
            iwarp: false,
            node: Some(node("/dev/infiniband/uverbs0", 231, 192)),
            ports: vec![port],
        }]),
        netdevs: vec!["eth0".into()],
        rdma_cm: Some(node("/dev/infiniband/rdma_cm", 10, 123)),
        memlock: Memlock { soft: None, hard: None, exempt: false },
        namespaces: Some(NetNamespaceMode::SHARED),
        filter: Filter { nf_tables: NfTables::NotThere, legacy: Some(false) },
        unmounted: Vec::new(),
    }
}

/// A kernel without anything of RDMA loaded.
pub(super) fn no_modules() -> Snapshot {
    let mut snapshot = healthy();
    snapshot.modules.loaded = Some(Default::default());
    snapshot.devices = Err(Trouble { reason: "no RDMA subsystem".into(), absent: true });
    (snapshot.rdma_cm, snapshot.namespaces) = (None, None);
    snapshot
}

pub(super) fn gid(index: u32, text: &str, gid_type: GidType) -> GidEntry {
    let gid: Gid = text.parse::<std::net::Ipv6Addr>().unwrap().into();
    GidEntry::new(PortNum::ONE, index, gid, gid_type)
}
