//! Are there devices, and can their nodes be opened?

use bareverbs::netlink::NetNamespaceMode;

use super::finding::Finding;
use super::snapshot::{ModuleState, Node, NodeState, Snapshot};

const DEVICE: &str = "device";
const NODE: &str = "node";

pub(super) fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let devices = match &snapshot.devices {
        Ok(devices) => devices,
        Err(trouble) => {
            let fix = none(snapshot).fix.filter(|_| trouble.absent);
            return vec![Finding { fix, ..Finding::fail(DEVICE, "", trouble.reason.clone()) }];
        }
    };
    if devices.is_empty() {
        return vec![none(snapshot)];
    }
    let mut findings = Vec::new();
    for device in devices {
        findings.push(Finding::ok(DEVICE, device.name.clone(), format!("driver {}", device.driver)));
        findings.push(match &device.node {
            Some(node) => opens(node),
            None => Finding::fail(NODE, device.name.clone(), "the kernel made no uverbs device for it")
                .fix("modprobe ib_uverbs"),
        });
    }
    if let Some(node) = &snapshot.rdma_cm {
        // Needed by those alone who use RDMA-CM.
        findings.push(opens(node).softened());
    }
    findings
}

fn none(snapshot: &Snapshot) -> Finding {
    let reason = match snapshot.namespaces {
        Some(NetNamespaceMode::EXCLUSIVE) => {
            "there is none in this network namespace (those of others are hidden: rdma system is exclusive)"
        }
        _ => "there is none",
    };
    let finding = Finding::fail(DEVICE, "", reason);
    let loads = |module| match snapshot.modules.state(module) {
        ModuleState::Available | ModuleState::Unknown => !snapshot.modules.locked,
        _ => false,
    };
    let driver = snapshot.adapters.iter().find(|adapter| loads(adapter.module));
    if let Some(adapter) = driver.filter(|adapter| adapter.always) {
        return finding.fix(format!("modprobe {}", adapter.module));
    }
    let netdev = snapshot.netdevs.first().map_or("NETDEV", String::as_str);
    let add = format!("bareverbs link add rxe0 type rxe netdev {netdev}");
    match snapshot.modules.state("rdma_rxe") {
        ModuleState::Loaded | ModuleState::BuiltIn => finding.fix(add),
        ModuleState::Available | ModuleState::Unknown => finding.fix(format!("modprobe rdma_rxe && {add}")),
        ModuleState::Absent | ModuleState::Impossible => {
            finding.fix("boot a kernel that has rdma_rxe, or that has the driver of an adapter")
        }
    }
}

fn opens(node: &Node) -> Finding {
    let Node { path, major, minor, state } = node;
    let mknod = format!("mknod -m 666 {path} c {major} {minor}");
    let fail = |reason: String| Finding::fail(NODE, path.clone(), reason);
    match state {
        NodeState::Opens => Finding::ok(
            NODE,
            path.clone(),
            format!("character device {major}:{minor}, can be read and written"),
        ),
        NodeState::Missing => {
            let folder = path.rsplit_once('/').map_or("/dev", |(folder, _)| folder);
            fail(format!("missing; the kernel has the device as {major}:{minor}"))
                .fix(format!("mkdir -p {folder} && {mknod}"))
        }
        NodeState::Denied => fail("this user may not read and write it (EACCES)".into())
            .fix(format!("as root: chmod 666 {path}")),
        NodeState::Barred => {
            let folder = path.rsplit_once('/').map_or("/dev", |(folder, _)| folder);
            fail("its mode permits it, but its mount (nodev) or a security module does not (EACCES)".into())
                .fix(format!("start the container with --device {path}, or mount {folder} without nodev"))
        }
        NodeState::Forbidden => fail("a device policy (container, cgroup) forbids it (EPERM)".into())
        .fix(format!("start the container with --device {path}, or the service with DeviceAllow={path} rw")),
        NodeState::Wrong(why) => fail(why.clone()).fix(format!("rm {path} && {mknod}")),
        NodeState::Gone => fail(format!("no device is behind {major}:{minor}")).fix("modprobe ib_uverbs"),
        NodeState::Unasked(why) => Finding::warning(
            NODE,
            path.clone(),
            format!("character device {major}:{minor}, can be read and written; its driver tells nothing here ({why})"),
        )
        .fix("see ibv_devinfo: nothing in bareverbs drives such devices"),
        NodeState::Failed(why) => fail(why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::modules::ADAPTERS;
    use super::super::sample;
    use super::super::snapshot::Trouble;
    use super::*;

    fn node_in(state: NodeState) -> Finding {
        let mut snapshot = sample::healthy();
        let devices = snapshot.devices.as_mut().unwrap();
        devices[0].node.as_mut().unwrap().state = state;
        check(&snapshot).into_iter().find(|finding| finding.object == "/dev/infiniband/uverbs0").unwrap()
    }

    #[test]
    fn a_device_whose_node_opens_is_well() {
        assert!(check(&sample::healthy()).iter().all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn without_a_device_one_is_offered() {
        let mut snapshot = sample::healthy();
        snapshot.devices = Ok(Vec::new());
        let findings = check(&snapshot);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Fail);
        assert_eq!(findings[0].fix.as_deref(), Some("bareverbs link add rxe0 type rxe netdev eth0"));
        snapshot.modules.loaded.as_mut().unwrap().remove("rdma_rxe");
        snapshot.netdevs.clear();
        assert!(check(&snapshot)[0].fix.as_deref().unwrap().contains("a kernel that has rdma_rxe"));
        snapshot.modules.available.as_mut().unwrap().insert("rdma_rxe".into());
        let fix = check(&snapshot).remove(0).fix.unwrap();
        assert_eq!(fix, "modprobe rdma_rxe && bareverbs link add rxe0 type rxe netdev NETDEV");
        // An adapter's module that does not exist is not proposed.
        snapshot.adapters = vec![&ADAPTERS[1]];
        assert!(check(&snapshot)[0].fix.as_deref().unwrap().contains("rdma_rxe"));
        snapshot.modules.available.as_mut().unwrap().insert("mlx5_ib".into());
        assert_eq!(check(&snapshot)[0].fix.as_deref(), Some("modprobe mlx5_ib"));
        snapshot.namespaces = Some(NetNamespaceMode::EXCLUSIVE);
        assert!(check(&snapshot)[0].reason.contains("exclusive"));
        snapshot.devices = Err(Trouble { reason: "no RDMA".into(), absent: true });
        assert!(check(&snapshot)[0].fix.is_some());
        snapshot.devices = Err(Trouble { reason: "refused (EPERM)".into(), absent: false });
        let finding = check(&snapshot).remove(0);
        assert_eq!((finding.reason.as_str(), finding.fix), ("refused (EPERM)", None));
    }

    #[test]
    fn each_way_of_not_opening_has_its_own_hint() {
        for (state, reason, fix) in [
            (
                NodeState::Missing,
                "missing",
                "mkdir -p /dev/infiniband && mknod -m 666 /dev/infiniband/uverbs0 c 231 192",
            ),
            (NodeState::Denied, "EACCES", "as root: chmod 666 /dev/infiniband/uverbs0"),
            (NodeState::Barred, "nodev", "mount /dev/infiniband without nodev"),
            (NodeState::Forbidden, "EPERM", "--device /dev/infiniband/uverbs0"),
            (NodeState::Wrong("is 1:3".into()), "is 1:3", "rm /dev/infiniband/uverbs0 && mknod -m 666"),
            (NodeState::Gone, "231:192", "modprobe ib_uverbs"),
        ] {
            let finding = node_in(state);
            assert_eq!(finding.level, Level::Fail);
            assert!(finding.reason.contains(reason), "{}", finding.reason);
            assert!(finding.fix.as_deref().unwrap().contains(fix), "{finding:?}");
        }
        let unasked = node_in(NodeState::Unasked("get_context: EINVAL".into()));
        assert_eq!(unasked.level, Level::Warning, "{unasked:?}");
        let mut snapshot = sample::healthy();
        snapshot.rdma_cm.as_mut().unwrap().state = NodeState::Missing;
        let finding = check(&snapshot).pop().unwrap();
        assert_eq!((finding.level, finding.object.as_str()), (Level::Warning, "/dev/infiniband/rdma_cm"));
        snapshot.devices.as_mut().unwrap()[0].node = None;
        let findings = check(&snapshot);
        assert!(findings.iter().any(|finding| finding.fix.as_deref() == Some("modprobe ib_uverbs")));
    }
}
