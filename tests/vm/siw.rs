//! Queue pairs over iWARP, which the connection manager connects: each operation, with every byte compared. In a guest with siw.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use bareverbs::{
    Access, CmEventType, CmId, ConnParam, Cq, CqInit, ErrorKind, EventChannel, Mr, MrInit, Pd, PortSpace,
    PostErrorKind, Qp, QpInit, RecvWr, Remote, SendFlags, SendOp, SendWr, Sge, Srq, SrqInit, Wait, Wc,
    WcExtra, WcOpcode, WcStatus,
};

use crate::support::{Noise, Resources, assert_quiet, compare, completion, fill, fresh_port};

const SOON: Duration = Duration::from_secs(20);

/// Messages of no, few, one segment's, more than one segment's and many segments' bytes.
const SIZES: [usize; 8] = [0, 1, 7, 80, 1460, 4096, 8960, 100_000];
/// Regions are larger than messages, so that bytes beside them are compared too.
const ROOM: usize = 104_000;
/// Of each queue pair.
const SGES: u32 = 6;
const INLINE: u32 = 80;

struct Side {
    qp: Qp,
    cq: Cq,
    pd: Pd,
    id: CmId,
    srq: Option<Srq>,
}

impl Side {
    fn new(id: CmId, shared: bool) -> Self {
        let ctx = id.context().unwrap();
        let pd = ctx.alloc_pd().unwrap();
        let cq = ctx.create_cq(CqInit::new(64).own_channel()).unwrap();
        let srq = shared.then(|| pd.create_srq(SrqInit::new(8).max_sge(SGES)).unwrap());
        let mut init = QpInit::rc(&cq, &cq)
            .max_send_wr(32)
            .max_recv_wr(32)
            .max_send_sge(SGES)
            .max_recv_sge(SGES)
            .max_inline_data(INLINE);
        if let Some(srq) = &srq {
            init = init.srq(srq);
        }
        let qp = id.create_qp(&pd, init).unwrap();
        Self { qp, cq, pd, id, srq }
    }

    fn region(&self) -> Mr {
        self.pd.alloc_mr(ROOM, Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE).unwrap()
    }

    fn post_recv(&mut self, wr: RecvWr<'_>) {
        match &mut self.srq {
            Some(srq) => srq.post_recv(wr).unwrap(),
            None => self.qp.post_recv(wr).unwrap(),
        }
    }

    /// Posts a request and returns its completion.
    fn done(&mut self, wr: SendWr<'_>) -> Wc {
        self.qp.post_send(wr.signaled()).unwrap();
        completion(&mut self.cq)
    }

    fn succeeds(&mut self, wr: SendWr<'_>, opcode: WcOpcode) {
        let wc = self.done(wr);
        let found = (wc.status, wc.opcode, wc.qp_num);
        assert_eq!(found, (WcStatus::SUCCESS, opcode, self.qp.qp_num()), "{wc:?}");
    }
}

fn id() -> CmId {
    EventChannel::open().unwrap().create_id(PortSpace::Tcp).unwrap()
}

/// The client's side and the server's side of a connection, the latter with a shared receive queue if `shared`.
fn connected(shared: bool) -> (Side, Side) {
    let address: SocketAddr = format!("10.0.0.1:{}", fresh_port()).parse().unwrap();
    let listener = id();
    listener.bind(address).unwrap();
    listener.listen(4).unwrap();
    let asking = id();
    asking.resolve_addr(None, address, SOON).unwrap();
    asking.wait_for(CmEventType::ADDR_RESOLVED, SOON).unwrap();
    asking.resolve_route(SOON).unwrap();
    asking.wait_for(CmEventType::ROUTE_RESOLVED, SOON).unwrap();

    let mut client = Side::new(asking, false);
    client.id.connect(&client.qp, &ConnParam::new().private_data(b"from the client")).unwrap();
    let asked = listener.channel().wait(Some(SOON)).unwrap().ready().unwrap();
    assert_eq!(asked.event_type, CmEventType::CONNECT_REQUEST);
    assert_eq!(&asked.private_data()[..15], b"from the client");
    let mut server = Side::new(asked.request.unwrap(), shared);
    server.id.accept(&mut server.qp, &ConnParam::new().private_data(b"from the server")).unwrap();

    let answer = client.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap();
    assert_eq!(&answer.private_data()[..15], b"from the server");
    client.id.establish(&mut client.qp).unwrap();
    let established = server.id.channel().wait(Some(SOON)).unwrap().ready().unwrap();
    assert_eq!(established.event_type, CmEventType::ESTABLISHED);
    assert!(server.id.owns(&established));
    (client, server)
}

/// The elements of a message of `length` bytes in `pieces`, from `at` on with gaps between them.
fn pieces(mr: &Mr, at: usize, length: usize, pieces: usize) -> Vec<(usize, Sge)> {
    let step = length / pieces;
    (0..pieces)
        .map(|n| {
            let len = if n + 1 == pieces { length - step * n } else { step };
            let start = at + n * (step + 5);
            (start, mr.slice(start..start + len))
        })
        .collect()
}

/// Copies what a transfer between these elements moves.
fn moved(from: &[u8], from_at: &[(usize, Sge)], to: &mut [u8], to_at: &[(usize, Sge)]) {
    let range = |(start, sge): &(usize, Sge)| *start..*start + sge.length as usize;
    let message: Vec<u8> = from_at.iter().flat_map(|at| from[range(at)].iter().copied()).collect();
    let mut rest = message.as_slice();
    for at in to_at {
        let place = &mut to[range(at)];
        let (now, later) = rest.split_at(place.len());
        place.copy_from_slice(now);
        rest = later;
    }
}

fn sges(list: &[(usize, Sge)]) -> Vec<Sge> {
    list.iter().map(|(_, sge)| *sge).collect()
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn every_byte_of_sends_writes_and_reads() {
    let before = Resources::now();
    for shared in [false, true] {
        let (mut client, mut server) = connected(shared);
        let mut noise = Noise::new(5);
        let (mut left, mut right) = (client.region(), server.region());
        for size in SIZES {
            for count in [1, SGES as usize] {
                for op in 0..3 {
                    // Everything that a transfer may not touch is compared too.
                    let (mut at_left, mut at_right) =
                        (fill(&mut left, &mut noise), fill(&mut right, &mut noise));
                    let start = noise.below(1000);
                    let there = pieces(&right, start, size, if op == 0 { count } else { 1 });
                    // A read fills one piece.
                    let here = pieces(&left, noise.below(1000), size, if op == 2 { 1 } else { count });
                    let (here_sges, there_sges) = (sges(&here), sges(&there));
                    let remote = right.remote(start);
                    match op {
                        0 => {
                            server.post_recv(RecvWr::new(77).sges(&there_sges));
                            client.succeeds(SendWr::send(1).sges(&here_sges), WcOpcode::SEND);
                            let wc = completion(&mut server.cq);
                            let found = (wc.status, wc.wr_id, wc.opcode, wc.byte_len as usize, wc.extra);
                            assert_eq!(found, (WcStatus::SUCCESS, 77, WcOpcode::RECV, size, WcExtra::None));
                            moved(&at_left, &here, &mut at_right, &there);
                        }
                        1 => {
                            client.succeeds(
                                SendWr::rdma_write(1, remote).sges(&here_sges),
                                WcOpcode::RDMA_WRITE,
                            );
                            // A write has arrived once a later read has been answered.
                            client.succeeds(SendWr::rdma_read(2, remote), WcOpcode::RDMA_READ);
                            moved(&at_left, &here, &mut at_right, &there);
                        }
                        _ => {
                            client
                                .succeeds(SendWr::rdma_read(1, remote).sges(&here_sges), WcOpcode::RDMA_READ);
                            moved(&at_right, &there, &mut at_left, &here);
                        }
                    }
                    let place = format!("operation {op}, {size} bytes in {count}, shared: {shared}");
                    compare(&left, &at_left).unwrap_or_else(|e| panic!("client, {place}: {e}"));
                    compare(&right, &at_right).unwrap_or_else(|e| panic!("server, {place}: {e}"));
                }
            }
        }
    }
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn inline_data_and_several_requests_per_doorbell() {
    let (mut client, mut server) = connected(false);
    let mut noise = Noise::new(6);
    let (left, mut right) = (client.region(), server.region());
    let mut expected = fill(&mut right, &mut noise);
    for len in [0, 1, 16, 79, INLINE as usize] {
        let (first, second) = (noise.bytes(len), noise.bytes(len));
        server.post_recv(RecvWr::new(1).sge(right.slice(500..500 + len)));
        // Neither copy is reported, the empty read is: the driver executes requests in order.
        let wrs = [
            SendWr::send(2).inline(&first),
            SendWr::rdma_write(3, right.remote(1000)).inline(&second),
            SendWr::rdma_read(4, right.remote(0)).sge(left.slice(..0)).signaled(),
        ];
        client.qp.post_sends(&wrs).unwrap();
        assert_eq!((completion(&mut client.cq).wr_id, completion(&mut server.cq).byte_len), (4, len as u32));
        expected[500..500 + len].copy_from_slice(&first);
        expected[1000..1000 + len].copy_from_slice(&second);
        compare(&right, &expected).unwrap();
    }
    assert_quiet(&mut client.cq);
}

/// A key is good until it is invalidated: by this side or by the peer's send.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn invalidated_keys() {
    let (mut client, mut server) = connected(false);
    let (left, right) = (client.region(), server.region());
    client.succeeds(SendWr::rdma_read(1, right.remote(0)).sge(left.slice(..64)), WcOpcode::RDMA_READ);
    server.post_recv(RecvWr::new(2).sge(server.region().slice(..0)));
    client.succeeds(SendWr::send_with_inv(3, right.rkey()), WcOpcode::SEND);
    assert!(completion(&mut server.cq).is_success());
    let refused = client.done(SendWr::rdma_read(4, right.remote(0)).sge(left.slice(..64)));
    assert!(!refused.is_success(), "{refused:?}");

    let (mut client, mut server) = connected(false);
    let left = client.region();
    let mut into = server.region();
    let expected = fill(&mut into, &mut Noise::new(8));
    client.succeeds(SendWr::local_inv(1, left.rkey()), WcOpcode::LOCAL_INV);
    server.post_recv(RecvWr::new(2).sge(into.slice(..64)));
    let refused = client.done(SendWr::send(3).sge(left.slice(..64)));
    assert!(!refused.is_success(), "{refused:?}");
    compare(&into, &expected).unwrap();
}

/// Arming is a store, and the event wakes a sleeper. Nothing else is reported until the queue is armed again.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn an_armed_queue_wakes_who_sleeps() {
    let (mut client, mut server) = connected(false);
    let right = server.region();
    for n in 0..20 {
        server.post_recv(RecvWr::new(n).sge(right.slice(..8)));
    }
    let (started, start) = mpsc::channel();
    std::thread::scope(|threads| {
        let sleeper = threads.spawn(move || {
            let mut wcs = [Wc::default(); 1];
            for n in 0..20 {
                started.send(()).unwrap();
                let wcs = server.cq.wait(&mut wcs, Wait::Events, Some(SOON)).unwrap();
                assert_eq!(wcs.completions().iter().map(|wc| wc.wr_id).collect::<Vec<_>>(), [n]);
            }
            server
        });
        for n in 0..20 {
            start.recv().unwrap();
            // Some sends come before the sleep and some after.
            std::thread::sleep(Duration::from_millis(n % 4));
            client.succeeds(SendWr::send(n).inline(b"12345678"), WcOpcode::SEND);
        }
        drop(sleeper.join().unwrap());
    });
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn what_iwarp_lacks_is_refused_by_name() {
    let (mut client, server) = connected(false);
    let (left, right) = (client.region(), server.region());
    let remote = right.remote(0);
    let word = left.slice(..8);
    let long = [0; INLINE as usize + 1];
    let two = [word; 2];
    for (wr, kind) in [
        (SendWr::send_with_imm(0, 1), PostErrorKind::Unsupported),
        (SendWr::rdma_write_with_imm(0, remote, 1).sge(word), PostErrorKind::Unsupported),
        (SendWr::fetch_add(0, remote, 1).sge(word), PostErrorKind::Unsupported),
        (SendWr::new(0, SendOp::Read(remote)).flags(SendFlags::FENCE).sge(word), PostErrorKind::Unsupported),
        (SendWr::rdma_read(0, remote).sges(&two), PostErrorKind::TooManySges { max: 1 }),
        (SendWr::rdma_read(0, Remote::default()).inline(b"1"), PostErrorKind::InlineNotAllowed),
        (SendWr::send(0).inline(&long), PostErrorKind::InlineTooLong { max: INLINE }),
        (SendWr::send_with_inv(0, right.rkey()).inline(b"1"), PostErrorKind::InlineNotAllowed),
        (SendWr::local_inv(0, left.rkey()).sge(word), PostErrorKind::DataNotAllowed),
    ] {
        assert_eq!(client.qp.post_send(wr).unwrap_err().kind, kind, "{wr:?}");
    }
    let unsupported = |error: bareverbs::Error| {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    };
    unsupported(client.pd.create_qp(QpInit::ud(&client.cq, &client.cq)).unwrap_err());
    unsupported(client.pd.reg_mr(MrInit::new(4096).iova(0)).unwrap_err());
    unsupported(client.cq.resize(128).unwrap_err());
    // The connection has not suffered.
    client.succeeds(SendWr::rdma_read(1, remote).sge(word), WcOpcode::RDMA_READ);
}

/// Receives are flushed and the server gets DISCONNECTED, whether the client disconnects or drops its objects.
#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn a_peer_that_leaves() {
    let before = Resources::now();
    for orderly in [true, false] {
        let (mut client, mut server) = connected(false);
        let right = server.region();
        for n in 0..3 {
            server.post_recv(RecvWr::new(n).sge(right.slice(..8)));
        }
        if orderly {
            client.id.disconnect(&mut client.qp).unwrap();
        } else {
            drop(client);
        }
        for n in 0..3 {
            let wc = completion(&mut server.cq);
            assert_eq!((wc.wr_id, wc.status), (n, WcStatus::WR_FLUSH_ERR));
        }
        server.id.wait_for(CmEventType::DISCONNECTED, SOON).unwrap();
        let _ = server.id.disconnect(&mut server.qp);
    }
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn nobody_listens() {
    let address: SocketAddr = format!("10.0.0.1:{}", fresh_port()).parse().unwrap();
    let asking = id();
    asking.resolve_addr(None, address, SOON).unwrap();
    asking.wait_for(CmEventType::ADDR_RESOLVED, SOON).unwrap();
    asking.resolve_route(SOON).unwrap();
    asking.wait_for(CmEventType::ROUTE_RESOLVED, SOON).unwrap();
    let client = Side::new(asking, false);
    // siw connects within the system call; other drivers report an event.
    let error = match client.id.connect(&client.qp, &ConnParam::new()) {
        Ok(()) => client.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap_err(),
        Err(error) => error,
    };
    let error = error.to_string();
    assert!(error.contains("is the server running"), "{error}");
}
