//! The connection manager's API, both sides in this process.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use bareverbs::{
    Access, AddressVector, Ah, AsyncEventType, Cause, CmEvent, CmEventType, CmId, ConnParam, Context, Cq,
    CqInit, Device, EventChannel, Lid, Mr, Pd, PortNum, PortSpace, Qkey, Qp, QpAttr, QpInit, QpState, QpType,
    Qpn, RecvWr, SendWr, Wc,
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
    EventChannel::open().unwrap().create_id(PortSpace::Tcp).unwrap()
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
    id.wait_for(CmEventType::AddrResolved, SOON).unwrap();
    id.resolve_route(SOON).unwrap();
    id.wait_for(CmEventType::RouteResolved, SOON).unwrap();
}

/// The LID of the device's port; 0 on Ethernet.
fn lid() -> Lid {
    Device::first().unwrap().open().unwrap().query_port(PortNum::ONE).unwrap().lid
}

fn event(channel: &EventChannel, wanted: CmEventType) -> CmEvent {
    let event = channel.wait(Some(SOON)).unwrap().unwrap_or_else(|| panic!("no {}", wanted.name()));
    assert_eq!(event.event_type, wanted, "{event:?}");
    event
}

/// The id of the next request that a listener gets.
fn request(listener: &CmId) -> CmId {
    let event = event(&listener.channel(), CmEventType::ConnectRequest);
    assert!(listener.owns(&event));
    event.request.unwrap()
}

/// A connection through `listener`: the client's side and the server's.
fn connected(listener: &CmId, address: SocketAddr) -> (Side, Side) {
    let mut client = Side::new(resolved(address));
    client.id.connect(&client.qp, &ConnParam::new()).unwrap();
    let mut server = Side::new(request(listener));
    server.id.accept(&mut server.qp, &ConnParam::new()).unwrap();
    client.id.wait_for(CmEventType::ConnectResponse, SOON).unwrap();
    client.id.establish(&mut client.qp).unwrap();
    let established = event(&listener.channel(), CmEventType::Established);
    assert!(server.id.owns(&established));
    (client, server)
}

fn part(mut leaving: Side, mut left: Side) {
    leaving.id.disconnect(&mut leaving.qp).unwrap();
    let told = event(&left.id.channel(), CmEventType::Disconnected);
    assert!(left.id.owns(&told));
    left.id.disconnect(&mut left.qp).unwrap();
    leaving.id.wait_for(CmEventType::Disconnected, SOON).unwrap();
    assert_eq!(leaving.qp.state().unwrap(), QpState::Err);
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

        let asked = event(&listener.channel(), CmEventType::ConnectRequest);
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

        let answer = client.id.wait_for(CmEventType::ConnectResponse, SOON).unwrap();
        assert!(answer.private_data().starts_with(b"from the server\0"));
        assert_eq!(answer.qp_num(), server.qp.qp_num());
        client.id.establish(&mut client.qp).unwrap();
        let established = event(&listener.channel(), CmEventType::Established);
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
    event(&listener.channel(), CmEventType::Disconnected);
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
fn requests_that_are_rejected() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let ask = || {
        let client = Side::new(resolved(address));
        client.id.connect(&client.qp, &ConnParam::new()).unwrap();
        client
    };
    let client = ask();
    request(&listener).reject(b"not today").unwrap();
    let told = event(&client.id.channel(), CmEventType::Rejected);
    assert!(told.private_data().starts_with(b"not today\0"));
    assert_eq!(told.status, 28);
    let meaning = client.id.failure(&told).unwrap();
    assert!(matches!(meaning.cause(), Cause::Refused(_)));
    assert_eq!(
        meaning.to_string(),
        format!("connect on {address}: the peer's program rejected it (reason 28)")
    );
    drop(client);

    // A request that nobody wants to have.
    let client = ask();
    drop(request(&listener));
    let error = client.id.wait_for(CmEventType::ConnectResponse, SOON).unwrap_err();
    assert!(error.to_string().contains("rejected"), "{error}");
    drop(client);

    // A listener that goes before it has looked.
    let client = ask();
    drop(listener);
    let error = client.id.wait_for(CmEventType::ConnectResponse, SOON).unwrap_err();
    assert!(matches!(error.cause(), Cause::Refused(_)), "{error}");
    drop(client);

    // None at all.
    let client = ask();
    let error = client.id.wait_for(CmEventType::ConnectResponse, SOON).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&address.to_string()) && said.contains("nobody listens there"), "{said}");
    drop(client);
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn private_data_that_are_too_long() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let bytes = [b'x'; 300];
    let refused = |done: bareverbs::Result<()>, len: usize, limit: usize| {
        let said = done.unwrap_err().to_string();
        assert!(said.contains(&format!("{len} bytes of private data")), "{said}");
        assert!(said.contains(&limit.to_string()), "{said}");
    };
    let client = Side::new(resolved(address));
    for len in [57, 255] {
        refused(client.id.connect(&client.qp, &ConnParam::new().private_data(&bytes[..len])), len, 56);
    }
    refused(client.id.connect(&client.qp, &ConnParam::new().private_data(&bytes)), 300, 255);
    client.id.connect(&client.qp, &ConnParam::new().private_data(&bytes[..56])).unwrap();
    let mut server = Side::new(request(&listener));
    let answer = |len: usize| ConnParam::new().private_data(bytes.get(..len).unwrap());
    refused(server.id.accept(&mut server.qp, &answer(197)), 197, 196);
    drop(server);
    drop(client);

    let client = Side::new(resolved(address));
    client.id.connect(&client.qp, &ConnParam::new()).unwrap();
    let mut server = Side::new(request(&listener));
    server.id.accept(&mut server.qp, &answer(196)).unwrap();
    let told = client.id.wait_for(CmEventType::ConnectResponse, SOON).unwrap();
    assert_eq!(told.private_data(), &bytes[..196]);
    drop((client, server));

    for (len, limit) in [(149, 148), (256, 255)] {
        let client = Side::new(resolved(address));
        client.id.connect(&client.qp, &ConnParam::new()).unwrap();
        refused(skipping(&listener).reject(&bytes[..len]), len, limit);
    }
    drop(listener);
    before.are_back();
}

/// The id of the next request, whatever comes before it.
fn skipping(listener: &CmId) -> CmId {
    loop {
        let event = listener.channel().wait(Some(SOON)).unwrap().unwrap();
        if let Some(id) = event.request {
            return id;
        }
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn addresses_that_cannot_be_had() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let holder = listener(address);
    let refused = |done: bareverbs::Result<()>, errno: Errno, part: &str| {
        let error = done.unwrap_err();
        assert_eq!(error.errno(), Some(errno), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(id().bind(address), Errno::EADDRINUSE, "somebody else has that port");
    refused(
        id().bind("10.9.9.9:7174".parse().unwrap()),
        Errno::EADDRNOTAVAIL,
        "no RDMA device has that address",
    );
    let unbound = id();
    unbound.listen(1).unwrap();
    assert_ne!(unbound.local_addr().unwrap().port(), 0);
    drop(unbound);
    drop(holder);

    // Two may have one address if both say so, but a listener must have it alone.
    let [one, other] = [id(), id()];
    for id in [&one, &other] {
        id.set_reuseaddr(true).unwrap();
        id.bind(address).unwrap();
    }
    refused(one.listen(1), Errno::EADDRINUSE, "choose another");
    drop(other);
    one.listen(1).unwrap();
    let all = SocketAddr::new("0.0.0.0".parse().unwrap(), address.port());
    refused(id().bind(all), Errno::EADDRNOTAVAIL, "somebody else has that port");
    drop(one);
    let everywhere = listener(all);
    refused(id().bind(address), Errno::EADDRNOTAVAIL, "somebody else has that port");
    drop(everywhere);

    let port = fresh_port();
    let (six, four) = (id(), id());
    six.set_afonly(true).unwrap();
    six.bind(SocketAddr::new("::".parse().unwrap(), port)).unwrap();
    six.listen(1).unwrap();
    four.bind(SocketAddr::new("0.0.0.0".parse().unwrap(), port)).unwrap();
    four.listen(1).unwrap();
    drop((six, four));

    let far = "192.0.2.1:7174".parse().unwrap();
    refused(id().resolve_addr(None, far, SOON), Errno::ENETUNREACH, "192.0.2.1:7174");
    let source = "10.9.9.9:0".parse().unwrap();
    let done = id().resolve_addr(Some(source), address, SOON);
    assert!(done.unwrap_err().to_string().contains("does an RDMA device have the address 10.9.9.9?"));
    let done = id().resolve_addr(Some("[::1]:0".parse().unwrap()), address, SOON);
    assert!(done.is_err());
    // Steps that are not due.
    refused(id().resolve_route(SOON), Errno::EINVAL, "resolve_route");
    let error = id().context().unwrap_err();
    assert!(error.to_string().contains("not bound to a device"), "{error}");
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn waits_end() {
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let channel = listener.channel();
    assert!(channel.next_event().unwrap().is_none());
    assert!(channel.wait(Some(Duration::from_millis(20))).unwrap().is_none());
    let readable = |channel: &EventChannel| {
        poll(&mut [PollFd::new(channel.as_fd(), PollFlags::POLLIN)], PollTimeout::from(500u16)).unwrap() > 0
    };
    // Nobody answers a request that nobody fetches.
    let client = Side::new(resolved(address));
    client.id.connect(&client.qp, &ConnParam::new()).unwrap();
    let error = client.id.wait_for(CmEventType::ConnectResponse, Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ETIMEDOUT), "{error}");
    assert!(readable(&channel));
    // What was not delivered before an id went is not delivered after it.
    drop(listener);
    assert!(channel.next_event().unwrap().is_none());
    assert!(!readable(&channel));
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_queue_pair_brought_up_by_hand() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let by_hand = |side: &mut Side| {
        for state in [QpState::Init, QpState::Rtr, QpState::Rts] {
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
    client.id.wait_for(CmEventType::ConnectResponse, SOON).unwrap();
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
    server.id.notify(AsyncEventType::CommEst).unwrap();
    event(&listener.channel(), CmEventType::Established);
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
    let channel = EventChannel::open().unwrap();
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
    assert_eq!(ids[2].create_qp(&pd, QpInit::rc(&cq, &cq)).unwrap().state().unwrap(), QpState::Init);
    drop((contexts, ids, cq, pd));
    assert_eq!(before.more("ctx"), 0, "the channel alone keeps no context open");
    drop(channel);
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn datagrams_find_their_peer() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let ud = |id: &CmId| {
        let ctx = id.context().unwrap();
        let pd = ctx.alloc_pd().unwrap();
        let cq = ctx.create_cq(4).unwrap();
        id.create_qp(&pd, QpInit::new(QpType::Ud, &cq, &cq)).unwrap()
    };
    let listener = EventChannel::open().unwrap().create_id(PortSpace::Udp).unwrap();
    listener.bind(address).unwrap();
    listener.listen(8).unwrap();
    let client = EventChannel::open().unwrap().create_id(PortSpace::Udp).unwrap();
    resolve(&client, address);
    let asking = ud(&client);
    assert_eq!(asking.state().unwrap(), QpState::Rts);
    let long = [b'u'; 181];
    let error = client.connect(&asking, &ConnParam::new().private_data(&long)).unwrap_err();
    assert!(error.to_string().contains("180"), "{error}");
    client.connect(&asking, &ConnParam::new().private_data(&long[..180])).unwrap();
    let asked = event(&listener.channel(), CmEventType::ConnectRequest);
    assert!(asked.private_data().starts_with(&long[..180]));
    let server = asked.request.unwrap();
    let mut answering = ud(&server);
    server.accept(&mut answering, &ConnParam::new().private_data(b"here")).unwrap();
    let found = client.wait_for(CmEventType::Established, SOON).unwrap();
    assert!(found.private_data().starts_with(b"here"));
    let peer = found.datagram_peer().unwrap();
    assert_eq!(peer.qp_num, answering.qp_num());
    assert_eq!(Some(peer.qkey), answering.query().unwrap().qkey);
    assert_eq!(peer.av.dgid.is_none(), infiniband());
    assert_eq!(peer.av.dlid, lid());
    drop((asking, answering, client, server, listener));
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn an_id_outlives_its_device() {
    use crate::faults::NoLink;
    let address = SocketAddr::new(ipv4(), fresh_port());
    let bound = id();
    bound.bind(address).unwrap();
    {
        let _again = NoLink;
        let removing = std::thread::spawn(NoLink::remove);
        event(&bound.channel(), CmEventType::DeviceRemoval);
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

/// rdmacm-utils' ucmatose: the server sends so many messages, the client answers with as many, the server ends it.
const UCMATOSE: &str = "-C 2 -S 100";

fn post_receives(side: &mut Side) {
    for id in [1, 2] {
        side.qp.post_recv(RecvWr::new(id).sge(side.mr.slice(..100))).unwrap();
    }
}

fn take(side: &mut Side) {
    for id in [1, 2] {
        let wc = completion(&mut side.cq);
        assert_eq!((wc.wr_id, wc.is_success(), wc.byte_len), (id, true, 100), "{wc:?}");
    }
}

fn give(side: &mut Side) {
    for id in [3, 4] {
        side.qp.post_send(SendWr::send(id).sge(side.mr.slice(100..200)).signaled()).unwrap();
        assert!(completion(&mut side.cq).is_success());
    }
}

fn assert_content(ucmatose: Running) {
    let output = ucmatose.finish(SOON);
    let said = text(&output.stdout);
    assert!(
        output.status.success() && said.contains("data transfers complete"),
        "{:?} {said}",
        output.status
    );
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn our_client_with_ucmatose() {
    let port = fresh_port();
    let server = Running::start(&format!("ucmatose -p {port} {UCMATOSE}"));
    await_cm_listener(port);
    let mut client = Side::new(resolved(SocketAddr::new(ipv4(), port)));
    post_receives(&mut client);
    client.id.connect(&client.qp, &ConnParam::new()).unwrap();
    client.id.wait_for(CmEventType::ConnectResponse, SOON).unwrap();
    client.id.establish(&mut client.qp).unwrap();
    take(&mut client);
    give(&mut client);
    client.id.wait_for(CmEventType::Disconnected, SOON).unwrap();
    client.id.disconnect(&mut client.qp).unwrap();
    assert_content(server);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn ucmatose_with_our_server() {
    let port = fresh_port();
    let listener = listener(SocketAddr::new(ipv4(), port));
    let ucmatose = Running::start(&format!("ucmatose -s {} -p {port} {UCMATOSE}", ipv4()));
    let mut server = Side::new(request(&listener));
    post_receives(&mut server);
    server.id.accept(&mut server.qp, &ConnParam::new()).unwrap();
    let established = event(&listener.channel(), CmEventType::Established);
    assert!(server.id.owns(&established));
    give(&mut server);
    take(&mut server);
    server.id.disconnect(&mut server.qp).unwrap();
    let told = event(&listener.channel(), CmEventType::Disconnected);
    assert!(server.id.owns(&told));
    assert_content(ucmatose);
}

/// A datagram id's queue pair with room for udaddy's two messages of 100 bytes, each behind its header.
fn datagrams(id: &CmId) -> (Pd, Qp, Cq, Mr) {
    let ctx = id.context().unwrap();
    let pd = ctx.alloc_pd().unwrap();
    let cq = ctx.create_cq(CqInit::new(8).own_channel()).unwrap();
    let mr = pd.alloc_mr(512, Access::LOCAL_WRITE).unwrap();
    let mut qp = id.create_qp(&pd, QpInit::ud(&cq, &cq).max_recv_wr(2)).unwrap();
    for id in [1, 2] {
        qp.post_recv(RecvWr::new(id).sge(mr.slice(..140))).unwrap();
    }
    (pd, qp, cq, mr)
}

fn send_datagrams(qp: &mut Qp, cq: &mut Cq, mr: &Mr, ah: &Ah, qp_num: Qpn, qkey: Qkey) {
    let imm = qp.qp_num().get();
    for id in [3, 4] {
        let wr = SendWr::send_with_imm(id, imm).sge(mr.slice(200..300)).ud_addr(ah, qp_num, qkey).signaled();
        qp.post_send(wr).unwrap();
        assert!(completion(cq).is_success());
    }
}

fn take_datagrams(cq: &mut Cq) -> Wc {
    let wcs = [1, 2].map(|id| {
        let wc = completion(cq);
        assert_eq!((wc.wr_id, wc.is_success(), wc.byte_len), (id, true, 140), "{wc:?}");
        wc
    });
    wcs[1]
}

/// udaddy's port; no option changes it.
const UDADDY_PORT: u16 = 7174;

/// rdmacm-utils' udaddy: the client sends so many datagrams with its number, the server answers with as many.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn our_client_with_udaddy() {
    let server = Running::start(&format!("udaddy {UCMATOSE}"));
    await_cm_listener(UDADDY_PORT);
    let client = EventChannel::open().unwrap().create_id(PortSpace::Udp).unwrap();
    resolve(&client, SocketAddr::new(ipv4(), UDADDY_PORT));
    let (pd, mut qp, mut cq, mr) = datagrams(&client);
    client.connect(&qp, &ConnParam::new()).unwrap();
    let found = client.wait_for(CmEventType::Established, SOON).unwrap();
    let peer = found.datagram_peer().unwrap();
    let ah = pd.create_ah(&peer.av).unwrap();
    send_datagrams(&mut qp, &mut cq, &mr, &ah, peer.qp_num, peer.qkey);
    let wc = take_datagrams(&mut cq);
    assert_eq!(wc.imm(), Some(peer.qp_num.get()));
    assert_content(server);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn udaddy_with_our_server() {
    let listener = EventChannel::open().unwrap().create_id(PortSpace::Udp).unwrap();
    listener.bind(SocketAddr::new(ipv4(), UDADDY_PORT)).unwrap();
    listener.listen(8).unwrap();
    let udaddy = Running::start(&format!("udaddy -s {} {UCMATOSE}", ipv4()));
    let id = event(&listener.channel(), CmEventType::ConnectRequest).request.unwrap();
    let (pd, mut qp, mut cq, mr) = datagrams(&id);
    id.accept(&mut qp, &ConnParam::new()).unwrap();
    let asked = take_datagrams(&mut cq);
    let gid = id.context().unwrap().query_gid(PortNum::ONE, gid_index()).unwrap();
    let av = AddressVector {
        dgid: Some(gid),
        sgid_index: gid_index() as u8,
        hop_limit: 64,
        ..AddressVector::local(PortNum::ONE, lid())
    };
    let qkey = qp.query().unwrap().qkey.unwrap();
    let peer = Qpn::truncate(asked.imm().unwrap());
    let ah = pd.create_ah(&av).unwrap();
    send_datagrams(&mut qp, &mut cq, &mr, &ah, peer, qkey);
    assert_content(udaddy);
}
