//! rdmacm-utils' ucmatose and udaddy as peers, both ways.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::*;

/// rdmacm-utils' ucmatose: the server sends so many messages, the client answers with as many, the server ends it.
const UCMATOSE: &str = "-C 2 -S 100";

fn post_receives(side: &mut Side) {
    for id in [1, 2] {
        side.qp.post_recv(RecvWr::new(id).sge(side.mr.slice(..100))).unwrap();
    }
}

/// Receives that completed while a send's completion was awaited: the peer may answer before its acknowledgement is seen to.
type Early = VecDeque<Wc>;

/// Waits for the completion of a send.
fn sent(cq: &mut Cq, id: u64, early: &mut Early) {
    loop {
        let wc = completion(cq);
        assert!(wc.is_success(), "{wc:?}");
        if wc.wr_id == id {
            return;
        }
        early.push_back(wc);
    }
}

fn came(cq: &mut Cq, early: &mut Early) -> Wc {
    early.pop_front().unwrap_or_else(|| completion(cq))
}

fn take(side: &mut Side, mut early: Early) {
    for id in [1, 2] {
        let wc = came(&mut side.cq, &mut early);
        assert_eq!((wc.wr_id, wc.is_success(), wc.byte_len), (id, true, 100), "{wc:?}");
    }
}

fn give(side: &mut Side) -> Early {
    let mut early = Early::new();
    for id in [3, 4] {
        side.qp.post_send(SendWr::send(id).sge(side.mr.slice(100..200)).signaled()).unwrap();
        sent(&mut side.cq, id, &mut early);
    }
    early
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
    client.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap();
    client.id.establish(&mut client.qp).unwrap();
    take(&mut client, Early::new());
    give(&mut client);
    client.id.wait_for(CmEventType::DISCONNECTED, SOON).unwrap();
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
    let established = event(&listener.channel(), CmEventType::ESTABLISHED);
    assert!(server.id.owns(&established));
    let early = give(&mut server);
    take(&mut server, early);
    server.id.disconnect(&mut server.qp).unwrap();
    let told = event(&listener.channel(), CmEventType::DISCONNECTED);
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

fn send_datagrams(qp: &mut Qp, cq: &mut Cq, mr: &Mr, ah: &Ah, qp_num: Qpn, qkey: Qkey) -> Early {
    let mut early = Early::new();
    let imm = qp.qp_num().get();
    for id in [3, 4] {
        let wr = SendWr::send_with_imm(id, imm).sge(mr.slice(200..300)).ud_addr(ah, qp_num, qkey).signaled();
        qp.post_send(wr).unwrap();
        sent(cq, id, &mut early);
    }
    early
}

fn take_datagrams(cq: &mut Cq, mut early: Early) -> Wc {
    let wcs = [1, 2].map(|id| {
        let wc = came(cq, &mut early);
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
    let client = crate::support::event_channel().create_id(PortSpace::Udp).unwrap();
    resolve(&client, SocketAddr::new(ipv4(), UDADDY_PORT));
    let (pd, mut qp, mut cq, mr) = datagrams(&client);
    client.connect(&qp, &ConnParam::new()).unwrap();
    let found = client.wait_for(CmEventType::ESTABLISHED, SOON).unwrap();
    let peer = found.datagram_peer().unwrap();
    let ah = pd.create_ah(&peer.av).unwrap();
    let early = send_datagrams(&mut qp, &mut cq, &mr, &ah, peer.qp_num, peer.qkey);
    let wc = take_datagrams(&mut cq, early);
    assert_eq!(wc.imm(), Some(peer.qp_num.get()));
    assert_content(server);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn udaddy_with_our_server() {
    let listener = crate::support::event_channel().create_id(PortSpace::Udp).unwrap();
    listener.bind(SocketAddr::new(ipv4(), UDADDY_PORT)).unwrap();
    listener.listen(8).unwrap();
    let udaddy = Running::start(&format!("udaddy -s {} {UCMATOSE}", ipv4()));
    let id = event(&listener.channel(), CmEventType::CONNECT_REQUEST).request.unwrap();
    let (pd, mut qp, mut cq, mr) = datagrams(&id);
    id.accept(&mut qp, &ConnParam::new()).unwrap();
    let asked = take_datagrams(&mut cq, Early::new());
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
