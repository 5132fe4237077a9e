//! Unreliable connections and datagrams, with every byte of source and target compared; multicast.

use std::net::UdpSocket;

use bareverbs::{
    Access, AddressVector, Ah, ConnectAttr, Context, Cq, CqInit, Endpoint, Pd, PortNum, PostErrorKind, Qkey,
    Qp, QpInit, QpState, Qpn, RecvWr, SendWr, ServiceLevel, WcOpcode, WcStatus,
};

use crate::support::{
    Noise, assert_quiet, compare, completion, connect, fill, gid_index, group, infiniband, is_rxe,
};

/// Bytes before the message in a receive of a datagram.
const GRH: usize = Qp::GRH_LEN;

/// Two queue pairs of this process that are not connected to anybody.
struct Datagrams {
    left: Qp,
    right: Qp,
    left_cq: Cq,
    right_cq: Cq,
    at_left: Endpoint,
    at_right: Endpoint,
    pd: Pd,
    ctx: Context,
}

impl Datagrams {
    fn new() -> Self {
        let ctx = crate::support::open();
        let pd = ctx.alloc_pd().unwrap();
        let left_cq = ctx.create_cq(CqInit::new(64).own_channel()).unwrap();
        let right_cq = ctx.create_cq(CqInit::new(64).own_channel()).unwrap();
        let qp = |cq| {
            let mut qp = pd
                .create_qp(
                    QpInit::ud(cq, cq).max_send_wr(8).max_recv_wr(8).max_send_sge(2).max_inline_data(64),
                )
                .unwrap();
            let endpoint = qp.init_endpoint(PortNum::ONE, Some(gid_index())).unwrap();
            qp.start().unwrap();
            (qp, endpoint)
        };
        let ((left, at_left), (right, at_right)) = (qp(&left_cq), qp(&right_cq));
        Self { left, right, left_cq, right_cq, at_left, at_right, pd, ctx }
    }

    /// The way to the right.
    fn ah(&self) -> Ah {
        self.pd.create_ah(&self.left.address(&self.at_right).unwrap()).unwrap()
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn datagrams_of_every_size() {
    let mut noise = Noise::new(23);
    let mut both = Datagrams::new();
    let ah = both.ah();
    let (mut left, mut right) = (
        both.pd.alloc_mr(5000, Access::LOCAL_WRITE).unwrap(),
        both.pd.alloc_mr(6000, Access::LOCAL_WRITE).unwrap(),
    );
    let to = both.right.qp_num();
    for size in [0usize, 1, 7, 64, 1023, 1024, 1025, 4095, 4096] {
        for imm in [None, Some(0x0102_0304)] {
            let message = fill(&mut left, &mut noise);
            let mut expected = fill(&mut right, &mut noise);
            let room = right.slice(100..100 + GRH + size);
            both.right.post_recv(RecvWr::new(1).sge(room)).unwrap();
            // Two pieces, where there are two bytes.
            let sges = [left.slice(10..10 + size / 2), left.slice(2000..2000 + size - size / 2)];
            let wr = imm.map_or(SendWr::send(2), |imm| SendWr::send_with_imm(2, imm));
            both.left.post_send(wr.sges(&sges).ud_addr(&ah, to, Qp::DEFAULT_QKEY).signaled()).unwrap();
            let wc = completion(&mut both.right_cq);
            assert_eq!((wc.status, wc.wr_id, wc.opcode), (WcStatus::SUCCESS, 1, WcOpcode::RECV), "{size}");
            assert_eq!((wc.byte_len as usize, wc.imm(), wc.grh), (GRH + size, imm, true), "{size}");
            assert_eq!((wc.src_qp, wc.qp_num), (both.left.qp_num(), to), "{size}");
            let wc = completion(&mut both.left_cq);
            assert_eq!((wc.status, wc.wr_id, wc.opcode), (WcStatus::SUCCESS, 2, WcOpcode::SEND), "{size}");
            let mut header = [0; GRH];
            right.read(100, &mut header);
            if !infiniband() {
                // The last 20 bytes are those of IPv4; what is before them means nothing.
                assert_eq!((header[20], &header[32..36]), (0x45, &both.at_left.gid.0[12..]));
            } else {
                assert_eq!((header[0] >> 4, &header[8..24]), (6, &both.at_left.gid.0[..]));
            }
            expected[100..100 + GRH].copy_from_slice(&header);
            let at = 100 + GRH;
            expected[at..at + size / 2].copy_from_slice(&message[10..10 + size / 2]);
            expected[at + size / 2..at + size].copy_from_slice(&message[2000..2000 + size - size / 2]);
            compare(&right, &expected).unwrap_or_else(|e| panic!("{size}: {e}"));
        }
    }
    ah.destroy().unwrap();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn answers_find_their_way_back() {
    let mut both = Datagrams::new();
    let mut region = both.pd.alloc_mr(200, Access::LOCAL_WRITE).unwrap();
    let to_right = both.left.address(&both.at_right).unwrap();
    // On InfiniBand without a routing header too, and on a level of its own.
    let mut ways = vec![AddressVector { traffic_class: 0x24, ..to_right }];
    if infiniband() {
        ways.push(AddressVector {
            sl: ServiceLevel(3),
            ..AddressVector::local(PortNum::ONE, both.at_right.lid)
        });
    }
    for way in ways {
        region.write(0, &[0x66; 200]);
        let ah = both.pd.create_ah(&way).unwrap();
        both.right.post_recv(RecvWr::new(1).sge(region.slice(..100))).unwrap();
        both.left.post_recv(RecvWr::new(2).sge(region.slice(100..))).unwrap();
        let ping = SendWr::send(3).inline(b"ping").ud_addr(&ah, both.right.qp_num(), Qp::DEFAULT_QKEY);
        both.left.post_send(ping).unwrap();
        let wc = completion(&mut both.right_cq);
        let came_from = both.at_left;
        assert_eq!((wc.src_qp, wc.grh), (came_from.qp_num, way.dgid.is_some()), "{wc:?}");
        assert_eq!((wc.slid, wc.sl, wc.dlid_path_bits), (came_from.lid, way.sl, 0), "{wc:?}");
        let mut header = [0; GRH];
        region.read(0, &mut header);
        let back = both.right.reply_address(&wc, &header).unwrap();
        assert_eq!(back.dgid, way.dgid.map(|_| came_from.gid));
        assert_eq!((back.dlid, back.sl, back.traffic_class), (came_from.lid, way.sl, way.traffic_class));
        let back = both.pd.create_ah(&back).unwrap();
        let pong = SendWr::send(4).inline(b"pong").ud_addr(&back, wc.src_qp, Qp::DEFAULT_QKEY);
        both.right.post_send(pong).unwrap();
        let wc = completion(&mut both.left_cq);
        assert_eq!((wc.wr_id, wc.status, wc.byte_len as usize), (2, WcStatus::SUCCESS, GRH + 4));
        let mut pong = [0; 4];
        region.read(100 + GRH, &mut pong);
        assert_eq!(&pong, b"pong");
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn datagrams_that_cannot_go_or_come() {
    let mut both = Datagrams::new();
    let ah = both.ah();
    let region = both.pd.alloc_mr(9000, Access::LOCAL_WRITE).unwrap();
    let to = both.right.qp_num();
    let mtu = both.ctx.query_port(PortNum::ONE).unwrap().active_mtu.bytes().unwrap();
    let send = |length: u32| SendWr::send(1).sge(region.slice(..length as usize)).signaled();

    let addressed = |length| send(length).ud_addr(&ah, to, Qp::DEFAULT_QKEY);
    let kind = both.left.post_send(addressed(mtu + 1)).unwrap_err().kind;
    assert_eq!(kind, PostErrorKind::DatagramTooLong { max: mtu });
    assert_eq!(kind.to_string(), "a datagram of more than 4096 bytes, the port's MTU");
    assert_eq!(both.left.post_send(send(1)).unwrap_err().kind, PostErrorKind::AddressMissing);

    // A wrong key, and then nobody who receives: sent, and dropped there.
    both.right.post_recv(RecvWr::new(3).sge(region.slice(4000..8000))).unwrap();
    both.left.post_send(send(8).ud_addr(&ah, to, Qkey(0x2222_2222))).unwrap();
    assert_eq!(completion(&mut both.left_cq).status, WcStatus::SUCCESS);
    both.left.post_send(send(8).ud_addr(&ah, Qpn::truncate(0x00fe_dcba), Qp::DEFAULT_QKEY)).unwrap();
    assert_eq!(completion(&mut both.left_cq).status, WcStatus::SUCCESS);
    assert_quiet(&mut both.right_cq);
    both.left.post_send(addressed(8)).unwrap();
    assert_eq!(completion(&mut both.right_cq).wr_id, 3);

    let mut connected = both.pd.create_qp(QpInit::rc(&both.left_cq, &both.left_cq)).unwrap();
    assert_eq!(connected.post_send(addressed(8)).unwrap_err().kind, PostErrorKind::AddressNotAllowed);
    let early = both.left.address(&both.at_right).and_then(|mut av| {
        av.sgid_index = 200;
        both.pd.create_ah(&av)
    });
    assert!(early.unwrap_err().to_string().contains("create_ah on "));
    let unready = both.pd.create_qp(QpInit::ud(&both.left_cq, &both.left_cq)).unwrap().start().unwrap_err();
    assert!(unready.to_string().contains("call init_endpoint() first"), "{unready}");
    assert_eq!(both.left.state().unwrap(), QpState::RTS);
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn unreliable_connections_send_and_write() {
    let mut noise = Noise::new(29);
    let ctx = crate::support::open();
    let pd = ctx.alloc_pd().unwrap();
    let mut left_cq = ctx.create_cq(CqInit::new(16).own_channel()).unwrap();
    let mut right_cq = ctx.create_cq(CqInit::new(16).own_channel()).unwrap();
    let qp = |cq| pd.create_qp(QpInit::uc(cq, cq).max_send_wr(8).max_recv_wr(8)).unwrap();
    let (mut sender, mut receiver) = (qp(&left_cq), qp(&right_cq));
    connect(&mut sender, &mut receiver, ConnectAttr::new());
    let rights = Access::LOCAL_WRITE | Access::REMOTE_WRITE;
    let mut left = pd.alloc_mr(30_000, rights).unwrap();
    let mut right = pd.alloc_mr(30_000, rights).unwrap();
    for size in [0usize, 1, 1023, 1024, 1025, 20_000] {
        for which in 0..4 {
            let message = fill(&mut left, &mut noise);
            let mut expected = fill(&mut right, &mut noise);
            let (source, target) = (left.slice(5..5 + size), right.slice(77..77 + size));
            receiver.post_recv(RecvWr::new(1).sge(target)).unwrap();
            let wr = match which {
                0 => SendWr::send(2),
                1 => SendWr::send_with_imm(2, 7),
                2 => SendWr::rdma_write_with_imm(2, right.remote(77), 7),
                // The peer learns nothing of it; a send behind it says that it has come.
                _ => SendWr::rdma_write(2, right.remote(77)),
            };
            sender.post_send(wr.sge(source).signaled()).unwrap();
            assert_eq!(completion(&mut left_cq).status, WcStatus::SUCCESS, "{size} {which}");
            if which == 3 {
                sender.post_send(SendWr::send(3)).unwrap();
            }
            let wc = completion(&mut right_cq);
            assert_eq!((wc.status, wc.wr_id), (WcStatus::SUCCESS, 1), "{size} {which}");
            assert_eq!(wc.byte_len as usize, if which == 3 { 0 } else { size }, "{size} {which}");
            assert_eq!(wc.imm(), (which == 1 || which == 2).then_some(7));
            expected[77..77 + size].copy_from_slice(&message[5..5 + size]);
            compare(&right, &expected).unwrap_or_else(|e| panic!("{size} {which}: {e}"));
        }
    }
    // Reads and atomics are not for such connections: the device says so, and nothing moves. The emulated card calls it a
    // violation besides.
    if is_rxe() {
        sender.post_send(SendWr::rdma_read(9, right.remote(0)).sge(left.slice(..8)).signaled()).unwrap();
        let status = completion(&mut left_cq).status;
        // 7.3's rxe lets the queue pair fail before it says why.
        assert!([WcStatus::LOC_QP_OP_ERR, WcStatus::WR_FLUSH_ERR].contains(&status), "{status}");
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn multicast_reaches_every_member() {
    let (gid, lid) = group(7);
    let mut both = Datagrams::new();
    // Over Ethernet nothing comes in unless the network device is a member too.
    let member = UdpSocket::bind("0.0.0.0:0").unwrap();
    if let (Some(group), Some(own)) = (gid.ipv4(), both.at_left.gid.ipv4()) {
        member.join_multicast_v4(&group, &own).unwrap();
    }

    let wrong = both.left.attach_mcast(both.at_left.gid, lid).unwrap_err().to_string();
    assert!(wrong.contains("attach_mcast") && wrong.contains("a multicast GID?"), "{wrong}");
    let absent = both.left.detach_mcast(gid, lid).unwrap_err().to_string();
    assert!(absent.contains("detach_mcast"), "{absent}");

    both.left.attach_mcast(gid, lid).unwrap();
    both.right.attach_mcast(gid, lid).unwrap();
    let region = both.pd.alloc_mr(4096, Access::LOCAL_WRITE).unwrap();
    let all = Endpoint { gid, lid, ..Endpoint::default() };
    let ah = both.pd.create_ah(&both.left.address(&all).unwrap()).unwrap();
    let everybody = Qpn::truncate(0xff_ffff);
    both.left.post_recv(RecvWr::new(1).sge(region.slice(..200))).unwrap();
    both.right.post_recv(RecvWr::new(2).sge(region.slice(1000..1200))).unwrap();
    both.left.post_send(SendWr::send(3).inline(b"all").ud_addr(&ah, everybody, Qp::DEFAULT_QKEY)).unwrap();
    for (cq, wr_id) in [(&mut both.left_cq, 1), (&mut both.right_cq, 2)] {
        let wc = completion(cq);
        assert_eq!((wc.status, wc.wr_id, wc.byte_len as usize), (WcStatus::SUCCESS, wr_id, GRH + 3));
    }
    let mut got = [0; 3];
    region.read(1000 + GRH, &mut got);
    assert_eq!(&got, b"all");

    // Who has left gets nothing.
    both.right.detach_mcast(gid, lid).unwrap();
    both.left.post_recv(RecvWr::new(4).sge(region.slice(..200))).unwrap();
    both.right.post_recv(RecvWr::new(5).sge(region.slice(1000..1200))).unwrap();
    both.left.post_send(SendWr::send(6).inline(b"all").ud_addr(&ah, everybody, Qp::DEFAULT_QKEY)).unwrap();
    assert_eq!(completion(&mut both.left_cq).wr_id, 4);
    assert_quiet(&mut both.right_cq);
    // A member leaves the group before it is destroyed: the kernel refuses to destroy it otherwise.
    both.left.destroy().unwrap();
    both.left_cq.destroy().unwrap();
}
