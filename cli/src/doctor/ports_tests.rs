//! Ports of every condition.

use bareverbs::Mtu;

use super::super::sample;
use super::super::snapshot::Netdev;
use super::*;
use crate::doctor::finding::Level;

/// The findings of a machine whose only port was changed, by check.
fn with(change: impl FnOnce(&mut Port)) -> impl Fn(&str) -> Finding {
    let mut snapshot = sample::healthy();
    change(&mut snapshot.devices.as_mut().unwrap()[0].ports[0]);
    let findings = check(&snapshot);
    move |wanted| findings.iter().find(|finding| finding.check == wanted).unwrap().clone()
}

fn detail(port: &mut Port) -> &mut Detail {
    port.detail.as_mut().unwrap()
}

#[test]
fn a_port_that_works_has_an_index_for_g() {
    let found = with(|_| {});
    for check in [PORT, MTU, GID] {
        assert_eq!(found(check).level, Level::Ok, "{check}");
    }
    assert_eq!(found(PORT).reason, "ACTIVE, RoCE over eth0");
    assert_eq!((found(GID).gid_index, found(GID).object.as_str()), (Some(1), "rxe0/1"));
    assert_eq!(found(GID).reason, "-g 1: ::ffff:10.0.0.1, RoCE v2");
}

#[test]
fn a_port_that_is_down_says_why() {
    let off = with(|port| {
        port.state = PortState::DOWN;
        port.netdev.as_mut().unwrap().up = Some(false);
    });
    assert_eq!((off(PORT).level, off(PORT).fix.as_deref()), (Level::Fail, Some("ip link set dev eth0 up")));
    let unplugged = with(|port| port.state = PortState::DOWN);
    assert!(unplugged(PORT).fix.unwrap().contains("cable"));
    let alone = with(|port| port.state = PortState::INIT);
    assert!(alone(PORT).fix.unwrap().contains("opensm"));
    let unknown = with(|port| port.state = PortState(77));
    assert_eq!(unknown(PORT).level, Level::Fail);
}

#[test]
fn a_second_port_may_be_unplugged() {
    let mut snapshot = sample::healthy();
    let ports = &mut snapshot.devices.as_mut().unwrap()[0].ports;
    let mut second = Port { number: 2, state: PortState::DOWN, ..ports[0].clone() };
    let unset = detail(&mut second);
    (unset.link_layer, unset.lid) = (LinkLayer::INFINIBAND, 0);
    ports.push(second.clone());
    let no_failure = |snapshot: &Snapshot, name: &str| {
        let found: Vec<_> = check(snapshot).into_iter().filter(|finding| finding.object == name).collect();
        assert!(found.iter().any(|finding| finding.level == Level::Warning), "{found:?}");
        assert!(found.iter().all(|finding| finding.level != Level::Fail), "{found:?}");
    };
    no_failure(&snapshot, "rxe0/2");
    // Newer adapters have a device for each port.
    let devices = snapshot.devices.as_mut().unwrap();
    devices[0].ports.pop();
    devices.push(Device { name: "rxe1".into(), ports: vec![second], ..devices[0].clone() });
    no_failure(&snapshot, "rxe1/2");
}

#[test]
fn packets_must_fit_into_the_network_device() {
    let small = with(|port| port.netdev.as_mut().unwrap().mtu = Some(1000));
    assert_eq!(
        (small(MTU).level, small(MTU).fix.as_deref()),
        (Level::Warning, Some("ip link set dev eth0 mtu 1500"))
    );
    let stale = with(|port| detail(port).active_mtu = Mtu::MTU_4096);
    assert_eq!(stale(MTU).fix.as_deref(), Some("ip link set dev eth0 mtu 4200"));
    let large = with(|port| {
        detail(port).active_mtu = Mtu::MTU_4096;
        port.netdev.as_mut().unwrap().mtu = Some(9000);
    });
    assert_eq!(large(MTU).reason, "4096 bytes active, eth0 has 9000");
    assert!(with(|_| {})(MTU).reason.contains("4096 takes an MTU of 4200"));
    let unknown = with(|port| port.netdev = Some(Netdev { name: "eth0".into(), mtu: None, up: None }));
    assert_eq!(unknown(MTU).level, Level::Ok);
    let odd = with(|port| detail(port).active_mtu = Mtu(9));
    assert_eq!(odd(MTU).level, Level::Warning);
}

#[test]
fn without_an_ipv4_address_the_next_best_gid_is_named() {
    let gids = |gids: &[(u32, &str, GidType)]| {
        let gids: Vec<_> = gids.iter().map(|(index, text, kind)| sample::gid(*index, text, *kind)).collect();
        with(|port| detail(port).gids = Ok(gids))(GID)
    };
    let local = gids(&[(0, "fe80::1", GidType::ROCE_V2)]);
    assert_eq!((local.level, local.gid_index), (Level::Warning, Some(0)));
    assert!(local.reason.contains("no IPv4 address") && local.reason.contains("same Ethernet"));
    assert_eq!(local.fix.as_deref(), Some("ip address add ADDRESS/24 dev eth0"));
    let global = gids(&[(0, "fe80::1", GidType::ROCE_V2), (2, "2001:db8::1", GidType::ROCE_V2)]);
    assert_eq!((global.level, global.gid_index), (Level::Warning, Some(2)));
    let far = gids(&[(0, "fe80::1", GidType::ROCE_V2), (300, "::ffff:10.0.0.1", GidType::ROCE_V2)]);
    assert_eq!(far.gid_index, Some(0));
    let none = gids(&[]);
    assert_eq!((none.level, none.gid_index), (Level::Fail, None));
}

#[test]
fn a_device_of_roce_v1_alone_is_well() {
    let of_v1 = |gids: &[&str]| {
        let gids =
            gids.iter().zip(0..).map(|(text, index)| sample::gid(index, text, GidType::ROCE_V1)).collect();
        with(|port| detail(port).gids = Ok(gids))(GID)
    };
    let ipv4 = of_v1(&["fe80::1", "::ffff:10.0.0.1"]);
    assert_eq!((ipv4.level, ipv4.gid_index), (Level::Ok, Some(1)));
    assert_eq!(ipv4.reason, "-g 1: ::ffff:10.0.0.1, RoCE v1, which reaches the same Ethernet only");
    let local = of_v1(&["fe80::1"]);
    assert_eq!((local.level, local.gid_index), (Level::Warning, Some(0)));
    assert!(local.reason.contains("no IPv4 address") && local.reason.contains("RoCE v1"), "{}", local.reason);
    assert_eq!(local.fix.as_deref(), Some("ip address add ADDRESS/24 dev eth0"));
}

#[test]
fn roce_v2_is_chosen_before_v1() {
    let both = [(0, GidType::ROCE_V1), (1, GidType::ROCE_V2)]
        .map(|(index, kind)| sample::gid(index, "::ffff:10.0.0.1", kind));
    let found = with(|port| detail(port).gids = Ok(both.to_vec()))(GID);
    assert_eq!(found.reason, "-g 1: ::ffff:10.0.0.1, RoCE v2");
}

#[test]
fn gids_that_could_not_be_read_are_not_taken_for_none() {
    let unread =
        with(|port| detail(port).gids = Err("query_gid_table: Input/output error (EIO)".into()))(GID);
    assert_eq!((unread.level, unread.fix), (Level::Fail, None));
    assert_eq!(unread.reason, "the port's GIDs are not known: query_gid_table: Input/output error (EIO)");
}

#[test]
fn a_network_device_of_another_namespace_is_told() {
    let elsewhere = with(|port| (port.netdev, port.elsewhere) = (None, true));
    assert!(elsewhere(GID).level == Level::Warning && elsewhere(GID).fix.unwrap().contains("ip netns exec"));
}

#[test]
fn infiniband_needs_a_lid() {
    let infiniband = |lid| {
        with(move |port| {
            port.netdev = None;
            let detail = detail(port);
            (detail.link_layer, detail.lid) = (LinkLayer::INFINIBAND, lid);
            detail.gids = Ok(vec![sample::gid(0, "fe80::10d2:c910:0:6bd1", GidType::IB)]);
        })
    };
    assert_eq!(infiniband(1)(GID).level, Level::Ok);
    assert_eq!(infiniband(1)(PORT).reason, "ACTIVE, InfiniBand");
    assert!(infiniband(0)(GID).level == Level::Fail && infiniband(0)(GID).fix.unwrap().contains("opensm"));
}

#[test]
fn a_device_that_does_not_open_has_its_port_s_state_alone() {
    let mut snapshot = sample::healthy();
    snapshot.devices.as_mut().unwrap()[0].ports[0].detail = None;
    let findings = check(&snapshot);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].reason, "ACTIVE over eth0");
}
