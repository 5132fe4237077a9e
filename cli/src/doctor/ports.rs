//! Are the ports up, do their packets fit, and which GID is to be used?

use bareverbs::{Gid, GidEntry, GidType, LinkLayer, PhysState, PortState};

use super::finding::Finding;
use super::snapshot::{Detail, Device, Port, Snapshot};

const PORT: &str = "port";
const MTU: &str = "mtu";
const GID: &str = "gid";

/// What the shortest RoCE v2 packet has around its payload: IPv4, UDP, base transport header, checksum.
const HEADERS: u32 = 20 + 8 + 12 + 4;

/// The network device's MTU at which every RoCE device takes an MTU of 4096, with headers of any kind.
const ROOMY: u32 = 4200;

/// A connection's GID index has 8 bits in the kernel's command.
const LAST_INDEX: u32 = 255;

pub(super) fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for device in snapshot.devices.as_deref().unwrap_or_default() {
        for port in &device.ports {
            let name = format!("{}/{}", device.name, port.number);
            let soften =
                |found: Finding| if may_be_unplugged(snapshot, port) { found.softened() } else { found };
            findings.push(soften(state(device, port, &name)));
            if let Some(detail) = &port.detail {
                findings.extend(mtu(port, detail, &name));
                findings.extend((!device.iwarp).then(|| soften(gid(port, detail, &name))));
            }
        }
    }
    findings
}

pub(super) fn is_active(port: &Port) -> bool {
    matches!(port.state, PortState::ACTIVE | PortState::ACTIVE_DEFER)
}

/// Beside a port that is active, of the same device or, as adapters have it whose ports are a device each, of another, one that is
/// not may be left unplugged.
pub(super) fn may_be_unplugged(snapshot: &Snapshot, port: &Port) -> bool {
    let mut ports = snapshot.devices.as_deref().unwrap_or_default().iter().flat_map(|device| &device.ports);
    !is_active(port) && ports.any(is_active)
}

fn state(device: &Device, port: &Port, name: &str) -> Finding {
    let layer = match port.detail.as_ref().map(|detail| detail.link_layer) {
        Some(LinkLayer::INFINIBAND) => ", InfiniBand",
        Some(LinkLayer::ETHERNET) if device.iwarp => ", iWARP",
        Some(LinkLayer::ETHERNET) => ", RoCE",
        _ => "",
    };
    let over = port.netdev.as_ref().map(|netdev| format!(" over {}", netdev.name)).unwrap_or_default();
    let fail = |reason: &str| Finding::fail(PORT, name, format!("{reason}{layer}{over}"));
    match port.state {
        PortState::ACTIVE | PortState::ACTIVE_DEFER => {
            Finding::ok(PORT, name, format!("ACTIVE{layer}{over}"))
        }
        PortState::INIT => {
            fail("INIT: no subnet manager has set it up").fix("start opensm on a node of this network")
        }
        PortState::ARMED => {
            fail("ARMED: the subnet manager has not set it up to the end").fix("see opensm's log")
        }
        _ => {
            let netdev = port.netdev.as_ref();
            match netdev.filter(|netdev| netdev.up == Some(false)) {
                Some(netdev) => fail("DOWN: its network device is switched off")
                    .fix(format!("ip link set dev {} up", netdev.name)),
                None if port.phys_state == PhysState::DISABLED => {
                    fail("DOWN: the port is disabled").fix("see the switch, and ibportstate on InfiniBand")
                }
                None => fail("DOWN: there is no link").fix("see the cable, the other end, and the switch"),
            }
        }
    }
}

/// Nothing where the port is not over a network device whose MTU is known.
fn mtu(port: &Port, detail: &Detail, name: &str) -> Option<Finding> {
    let Some(active) = detail.active_mtu.bytes() else {
        let code = u8::from(detail.active_mtu);
        return Some(Finding::warning(
            MTU,
            name,
            format!("the port's active MTU has the unknown code {code}"),
        ));
    };
    let Some((netdev, below)) = port.netdev.as_ref().and_then(|netdev| Some((&netdev.name, netdev.mtu?)))
    else {
        return Some(Finding::ok(MTU, name, format!("{active} bytes active")));
    };
    if active + HEADERS > below {
        let reason = format!("packets of the active MTU, {active} bytes, do not fit into {netdev}'s {below}");
        return Some(
            Finding::warning(MTU, name, reason)
                .fix(format!("ip link set dev {netdev} mtu {}", if active > 1024 { ROOMY } else { 1500 })),
        );
    }
    let more = match detail.max_mtu.bytes() {
        Some(max) if max > active && below < ROOMY => {
            format!("; {max} takes an MTU of {ROOMY} on {netdev} and on all the way")
        }
        _ => String::new(),
    };
    Some(Finding::ok(MTU, name, format!("{active} bytes active, {netdev} has {below}{more}")))
}

/// The GID that a program should use, for `-g`: of RoCE v2 before v1, of an IPv4 address before others, and the first of its kind.
pub(super) fn choose(port: &Port) -> Option<&GidEntry> {
    let usable = port.detail.as_ref()?.gids.as_ref().ok()?.iter().filter(|entry| entry.index <= LAST_INDEX);
    usable.min_by_key(|entry| {
        (entry.gid_type != GidType::ROCE_V2, entry.gid.ipv4().is_none(), is_link_local(entry.gid))
    })
}

fn is_link_local(gid: Gid) -> bool {
    std::net::Ipv6Addr::from(gid.0).is_unicast_link_local()
}

fn gid(port: &Port, detail: &Detail, name: &str) -> Finding {
    if let Err(why) = &detail.gids {
        return Finding::fail(GID, name, format!("the port's GIDs are not known: {why}"));
    }
    let chosen = choose(port);
    if detail.link_layer == LinkLayer::INFINIBAND {
        return match (chosen, detail.lid) {
            (Some(entry), 1..) => {
                let reason = format!(
                    "LID {}; -g is needed across subnets only: {} is {}",
                    detail.lid, entry.index, entry.gid
                );
                Finding::ok(GID, name, reason).gid_index(entry.index)
            }
            (Some(_), 0) => {
                Finding::fail(GID, name, "the port has no LID").fix("start opensm on a node of this network")
            }
            (None, _) => {
                Finding::fail(GID, name, "the port has no GID").fix("start opensm on a node of this network")
            }
        };
    }
    let netdev = port.netdev.as_ref().map_or("NETDEV", |netdev| netdev.name.as_str());
    let give = |finding: Finding| finding.fix(format!("ip address add ADDRESS/24 dev {netdev}"));
    let Some(entry) = chosen else {
        return give(Finding::fail(GID, name, "the port has no GID: nothing can be connected"));
    };
    let GidEntry { index, gid, .. } = entry;
    if port.elsewhere {
        let reason = format!(
            "index {index} is {gid}, of a network device in another network namespace; RDMA-CM cannot use it here"
        );
        return Finding::warning(GID, name, reason)
            .fix("start the program in that namespace: ip netns exec NAMESPACE PROGRAM")
            .gid_index(*index);
    }
    // Routers know nothing of v1, with whatever address: some devices have no other.
    let kind = match entry.gid_type {
        GidType::ROCE_V2 if is_link_local(*gid) => "RoCE v2, which reaches the same Ethernet only",
        GidType::ROCE_V2 if gid.ipv4().is_none() => "RoCE v2 over IPv6",
        GidType::ROCE_V2 => "RoCE v2",
        _ => "RoCE v1, which reaches the same Ethernet only",
    };
    let finding = if gid.ipv4().is_some() {
        Finding::ok(GID, name, format!("-g {index}: {gid}, {kind}"))
    } else {
        let reason = format!("no IPv4 address; index {index} is {gid}, {kind} (-g {index})");
        give(Finding::warning(GID, name, reason))
    };
    finding.gid_index(*index)
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
