//! Devices that go.

use std::net::SocketAddr;
use std::time::Instant;

use bareverbs::netlink::Nldev;

use super::*;
use crate::faults::NoLink;
use crate::support::run;

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn an_id_outlives_its_device() {
    let address = SocketAddr::new(ipv4(), fresh_port());
    let bound = id();
    bound.bind(address).unwrap();
    {
        let _again = NoLink;
        let removing = std::thread::spawn(NoLink::remove);
        event(&bound.channel(), CmEventType::DEVICE_REMOVAL);
        removing.join().unwrap();
        assert!(bound.listen(1).is_err());
        assert!(bound.context().is_err());
        let error = id().bind(address).unwrap_err();
        assert!(error.to_string().contains("no RDMA device has that address"), "{error}");
    }
    bound.destroy().unwrap();
    // The device that came back is another one.
    let again = listener(address);
    let (mut client, mut server) = connected(&again, address);
    client.send(&mut server, b"again");
    assert_quiet(&mut client.cq);
    part(client, server);
}

/// Another device over another network device, as long as this lives.
struct SecondLink;

impl SecondLink {
    const NAME: &str = "rxe9";
    const NETDEV: &str = "plain9";

    /// Gives its address, which an id can be bound to.
    fn add() -> (Self, SocketAddr) {
        for line in
            ["link add NETDEV type dummy", "addr add 10.69.0.1/24 dev NETDEV", "link set dev NETDEV up"]
        {
            assert!(run(&format!("ip {}", line.replace("NETDEV", Self::NETDEV))).status.success(), "{line}");
        }
        Nldev::open().unwrap().link_add(Self::NAME, "rxe", Self::NETDEV).unwrap();
        let address = SocketAddr::new("10.69.0.1".parse().unwrap(), fresh_port());
        let start = Instant::now();
        while id().bind(address).is_err() {
            assert!(start.elapsed() < SOON, "{address} cannot be had");
        }
        (Self, address)
    }

    fn remove() {
        Nldev::open().unwrap().link_del(Self::NAME).unwrap();
    }
}

impl Drop for SecondLink {
    fn drop(&mut self) {
        run(&format!("ip link delete {}", Self::NETDEV));
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn contexts_of_other_devices_stay_when_one_of_rxe_goes() {
    let before = Resources::now();
    let (link, elsewhere) = SecondLink::add();
    let channel = crate::support::event_channel();
    let bound = |address| {
        let id = channel.create_id(PortSpace::Tcp).unwrap();
        id.bind(address).unwrap();
        id
    };
    let first = bound(SocketAddr::new(ipv4(), fresh_port()));
    let goes = bound(elsewhere);
    let _context = first.context().unwrap();
    let removing = std::thread::spawn(SecondLink::remove);
    let told = event(&channel, CmEventType::DEVICE_REMOVAL);
    assert!(goes.owns(&told));
    removing.join().unwrap();
    let second = bound(SocketAddr::new(ipv4(), fresh_port()));
    second.context().unwrap();
    assert_eq!(before.more("ctx"), 1);
    drop((first, second, goes, _context, link));
    before.are_back();
}
