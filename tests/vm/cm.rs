//! The connection manager's API, both sides in this process.

mod foreign;
mod refused;
mod removed;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use bareverbs::{
    Access, AddressVector, Ah, AsyncEventType, CmEvent, CmEventType, CmId, ConnParam, Context, Cq, CqInit,
    EventChannel, Lid, Mr, Pd, PortNum, PortSpace, Qkey, Qp, QpAttr, QpInit, QpState, QpType, Qpn, RecvWr,
    SendWr, Wc,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::support::{
    Resources, Running, assert_quiet, await_cm_listener, completion, fresh_port, gid_index, infiniband, ipv4,
    ipv6, text,
};

const SOON: Duration = Duration::from_secs(5);

/// An id with what a connection needs.
struct Side {
    qp: Qp,
    cq: Cq,
    mr: Mr,
    id: CmId,
}

impl Side {
    fn new(id: CmId) -> Self {
        let ctx = id.context().unwrap();
        let pd = ctx.alloc_pd().unwrap();
        let cq = ctx.create_cq(CqInit::new(8).own_channel()).unwrap();
        let mr = pd.alloc_mr(256, Access::LOCAL_WRITE).unwrap();
        let qp = id.create_qp(&pd, QpInit::rc(&cq, &cq).max_recv_wr(2)).unwrap();
        Self { qp, cq, mr, id }
    }

    /// Both sides have the same text: one sends it, the other receives it.
    fn send(&mut self, to: &mut Self, text: &[u8]) {
        to.qp.post_recv(RecvWr::new(7).sge(to.mr.slice(128..))).unwrap();
        self.mr.write(0, text);
        self.qp.post_send(SendWr::send(8).sge(self.mr.slice(..text.len())).signaled()).unwrap();
        assert!(completion(&mut self.cq).is_success());
        let wc: Wc = completion(&mut to.cq);
        assert!(wc.is_success() && wc.wr_id == 7, "{wc:?}");
        let mut found = vec![0; wc.byte_len as usize];
        to.mr.read(128, &mut found);
        assert_eq!(found, text);
    }
}

fn id() -> CmId {
    crate::support::event_channel().create_id(PortSpace::Tcp).unwrap()
}

fn listener(address: SocketAddr) -> CmId {
    let id = id();
    id.bind(address).unwrap();
    id.listen(8).unwrap();
    id
}

/// An id of its own channel, with the route to `address`.
fn resolved(address: SocketAddr) -> CmId {
    let id = id();
    resolve(&id, address);
    id
}

fn resolve(id: &CmId, address: SocketAddr) {
    id.resolve_addr(None, address, SOON).unwrap();
    id.wait_for(CmEventType::ADDR_RESOLVED, SOON).unwrap();
    id.resolve_route(SOON).unwrap();
    id.wait_for(CmEventType::ROUTE_RESOLVED, SOON).unwrap();
}

/// The LID of the device's port; 0 on Ethernet.
fn lid() -> Lid {
    crate::support::open().query_port(PortNum::ONE).unwrap().lid
}

fn event(channel: &EventChannel, wanted: CmEventType) -> CmEvent {
    let event = channel.wait(Some(SOON)).unwrap().ready().unwrap_or_else(|| panic!("no {wanted}"));
    assert_eq!(event.event_type, wanted, "{event:?}");
    event
}

/// The id of the next request that a listener gets.
fn request(listener: &CmId) -> CmId {
    let event = event(&listener.channel(), CmEventType::CONNECT_REQUEST);
    assert!(listener.owns(&event));
    event.request.unwrap()
}

/// A connection through `listener`: the client's side and the server's.
fn connected(listener: &CmId, address: SocketAddr) -> (Side, Side) {
    let mut client = Side::new(resolved(address));
    client.id.connect(&client.qp, &ConnParam::new()).unwrap();
    let mut server = Side::new(request(listener));
    server.id.accept(&mut server.qp, &ConnParam::new()).unwrap();
    client.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap();
    client.id.establish(&mut client.qp).unwrap();
    let established = event(&listener.channel(), CmEventType::ESTABLISHED);
    assert!(server.id.owns(&established));
    (client, server)
}

fn part(mut leaving: Side, mut left: Side) {
    leaving.id.disconnect(&mut leaving.qp).unwrap();
    let told = event(&left.id.channel(), CmEventType::DISCONNECTED);
    assert!(left.id.owns(&told));
    left.id.disconnect(&mut left.qp).unwrap();
    leaving.id.wait_for(CmEventType::DISCONNECTED, SOON).unwrap();
    assert_eq!(leaving.qp.state().unwrap(), QpState::ERR);
    left.id.destroy().unwrap();
    leaving.id.destroy().unwrap();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn connections_over_both_families() {
    let before = Resources::now();
    for ip in [ipv4(), ipv6()] {
        let address = SocketAddr::new(ip, fresh_port());
        let listener = listener(address);
        assert_eq!(listener.local_addr().unwrap(), address);

        let mut client = Side::new(resolved(address));
        assert_eq!(client.id.peer_addr().unwrap(), address);
        let param =
            ConnParam::new().private_data(b"from the client").responder_resources(3).initiator_depth(2);
        client.id.connect(&client.qp, &param).unwrap();

        let asked = event(&listener.channel(), CmEventType::CONNECT_REQUEST);
        assert!(asked.private_data().starts_with(b"from the client\0"));
        assert_eq!((asked.initiator_depth(), asked.responder_resources()), (3, 2));
        assert_eq!(asked.qp_num(), client.qp.qp_num());
        let mut server = Side::new(asked.request.unwrap());
        assert_eq!(server.id.peer_addr().unwrap(), client.id.local_addr().unwrap());
        // More than the client asked for is not given.
        let param =
            ConnParam::new().private_data(b"from the server").responder_resources(9).initiator_depth(1);
        server.id.accept(&mut server.qp, &param).unwrap();
        let at_server = server.qp.query().unwrap();
        assert_eq!((at_server.max_dest_rd_atomic, at_server.max_rd_atomic), (Some(2), Some(1)));

        let answer = client.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap();
        assert!(answer.private_data().starts_with(b"from the server\0"));
        assert_eq!(answer.qp_num(), server.qp.qp_num());
        client.id.establish(&mut client.qp).unwrap();
        let established = event(&listener.channel(), CmEventType::ESTABLISHED);
        assert!(server.id.owns(&established) && !listener.owns(&established));

        client.send(&mut server, b"there");
        server.send(&mut client, b"and back");
        part(client, server);
        drop(listener);
    }
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn either_side_may_leave_and_another_connect() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    for client_leaves in [true, false] {
        let (mut client, mut server) = connected(&listener, address);
        client.send(&mut server, b"hello");
        if client_leaves { part(client, server) } else { part(server, client) }
    }
    // A side that is dropped leaves too.
    let (client, mut server) = connected(&listener, address);
    drop(client);
    event(&listener.channel(), CmEventType::DISCONNECTED);
    server.id.disconnect(&mut server.qp).unwrap();
    drop((server, listener));
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_listener_of_all_addresses_serves_both_families() {
    let before = Resources::now();
    let listener = listener("[::]:0".parse().unwrap());
    let port = listener.local_addr().unwrap().port();
    assert_ne!(port, 0);
    let pairs = [ipv4(), ipv6()].map(|ip| connected(&listener, SocketAddr::new(ip, port)));
    assert_eq!(before.more("ctx"), 3, "the listener's channel has one context for both, each client its own");
    for (mut client, mut server) in pairs {
        client.send(&mut server, b"each to its own");
        part(client, server);
    }
    drop(listener);
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn waits_end() {
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let channel = listener.channel();
    assert!(channel.next_event().unwrap().is_none());
    assert_eq!(
        channel.wait(Some(Duration::from_millis(20))).unwrap().ready().map(|event| event.event_type),
        None
    );
    let readable = |channel: &EventChannel| {
        poll(&mut [PollFd::new(channel.as_fd(), PollFlags::POLLIN)], PollTimeout::from(500u16)).unwrap() > 0
    };
    // Nobody answers a request that nobody fetches.
    let client = Side::new(resolved(address));
    client.id.connect(&client.qp, &ConnParam::new()).unwrap();
    let error = client.id.wait_for(CmEventType::CONNECT_RESPONSE, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ETIMEDOUT as i32), "{error}");
    assert!(readable(&channel));
    // What was not delivered before an id went is not delivered after it.
    drop(listener);
    assert!(channel.next_event().unwrap().is_none());
    assert!(!readable(&channel));
}

/// An id may look for a second address where the first was none; errors name the one it was told last.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn ids_know_whom_they_mean() {
    let waiting = listener(SocketAddr::new(ipv4(), fresh_port()));
    let said = waiting.peer_addr().unwrap_err().to_string();
    assert!(said.contains("the id has no peer"), "{said}");

    let (id, address) = (id(), SocketAddr::new(ipv4(), fresh_port()));
    let nowhere = "192.0.2.1:1".parse().unwrap();
    let said = id.resolve_addr(None, nowhere, SOON).unwrap_err().to_string();
    assert!(said.starts_with("resolve_addr on 192.0.2.1:1: "), "{said}");
    // The kernel takes no time of 0 ms.
    id.resolve_addr(None, address, Duration::from_micros(1)).unwrap();
    id.wait_for(CmEventType::ADDR_RESOLVED, SOON).unwrap();
    id.resolve_route(Duration::from_micros(1)).unwrap();
    let said = id.listen(1).unwrap_err().to_string();
    assert!(said.starts_with(&format!("listen on {address}: ")), "{said}");
    assert_eq!(id.peer_addr().unwrap(), address);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn an_address_of_a_link_needs_its_device() {
    let address: SocketAddr = "[fe80::1]:0".parse().unwrap();
    let peer = SocketAddr::new(ipv6(), 1);
    for said in [id().bind(address), id().resolve_addr(Some(address), peer, SOON)] {
        let said = said.unwrap_err().to_string();
        assert!(said.contains("EINVAL") && said.contains("fe80::1%eth0"), "{said}");
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_queue_pair_brought_up_by_hand() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let by_hand = |side: &mut Side| {
        for state in [QpState::INIT, QpState::RTR, QpState::RTS] {
            let attr: QpAttr = side.id.init_qp_attr(state).unwrap();
            assert_eq!(attr.state, Some(state));
            side.qp.modify(&attr).unwrap();
        }
    };
    let client_id = id();
    client_id.set_tos(32).unwrap();
    client_id.set_ack_timeout(17).unwrap();
    resolve(&client_id, address);
    let mut client = Side::new(client_id);
    client.id.connect(&client.qp, &ConnParam::new()).unwrap();
    let mut server = Side::new(request(&listener));
    by_hand(&mut server);
    server.id.answer(server.qp.qp_num(), &ConnParam::new()).unwrap();
    client.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap();
    by_hand(&mut client);
    let attr = client.qp.query().unwrap();
    assert_eq!(attr.timeout, Some(17));
    let av = attr.av.unwrap();
    if infiniband() {
        // The type of service has chosen the path, whose packets have no global header; its rate is 40 Gbit/s.
        assert_eq!((av.dgid, av.dlid, av.static_rate), (None, lid(), 7));
    } else {
        assert_eq!(av.traffic_class, 32);
    }
    // The server need not wait for the client's word.
    server.id.notify(AsyncEventType::COMM_EST).unwrap();
    event(&listener.channel(), CmEventType::ESTABLISHED);
    client.id.confirm().unwrap();
    client.send(&mut server, b"by hand");
    part(client, server);
    drop(listener);
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn ids_of_one_channel_share_a_context() {
    let before = Resources::now();
    let channel = crate::support::event_channel();
    let ids: Vec<CmId> = (0..3)
        .map(|_| {
            let id = channel.create_id(PortSpace::Tcp).unwrap();
            id.bind(SocketAddr::new(ipv4(), fresh_port())).unwrap();
            id
        })
        .collect();
    let contexts: Vec<Context> = ids.iter().map(|id| id.context().unwrap()).collect();
    assert_eq!(before.more("ctx"), 1);
    // What one id's context has made serves another id.
    let pd = contexts[0].alloc_pd().unwrap();
    let cq = contexts[1].create_cq(4).unwrap();
    assert_eq!(ids[2].create_qp(&pd, QpInit::rc(&cq, &cq)).unwrap().state().unwrap(), QpState::INIT);
    drop((contexts, ids, cq, pd));
    assert_eq!(before.more("ctx"), 0, "the channel alone keeps no context open");
    drop(channel);
    before.are_back();
}

fn ud_id() -> CmId {
    crate::support::event_channel().create_id(PortSpace::Udp).unwrap()
}

fn ud_listener(address: SocketAddr) -> CmId {
    let id = ud_id();
    id.bind(address).unwrap();
    id.listen(8).unwrap();
    id
}

/// A queue pair for datagrams.
fn ud(id: &CmId) -> Qp {
    let ctx = id.context().unwrap();
    let pd = ctx.alloc_pd().unwrap();
    let cq = ctx.create_cq(4).unwrap();
    id.create_qp(&pd, QpInit::new(QpType::UD, &cq, &cq)).unwrap()
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn datagrams_find_their_peer() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = ud_listener(address);
    let client = ud_id();
    resolve(&client, address);
    let asking = ud(&client);
    assert_eq!(asking.state().unwrap(), QpState::RTS);
    let long = [b'u'; 181];
    let error = client.connect(&asking, &ConnParam::new().private_data(&long)).unwrap_err();
    assert!(error.to_string().contains("180"), "{error}");
    client.connect(&asking, &ConnParam::new().private_data(&long[..180])).unwrap();
    let asked = event(&listener.channel(), CmEventType::CONNECT_REQUEST);
    assert!(asked.private_data().starts_with(&long[..180]));
    let server = asked.request.unwrap();
    let mut answering = ud(&server);
    server.accept(&mut answering, &ConnParam::new().private_data(b"here")).unwrap();
    let found = client.wait_for(CmEventType::ESTABLISHED, SOON).unwrap();
    assert!(found.private_data().starts_with(b"here"));
    let peer = found.datagram_peer().unwrap();
    assert_eq!(peer.qp_num, answering.qp_num());
    assert_eq!(Some(peer.qkey), answering.query().unwrap().qkey);
    assert_eq!(peer.av.dgid.is_none(), infiniband());
    assert_eq!(peer.av.dlid, lid());
    drop((asking, answering, client, server, listener));
    before.are_back();
}
