//! The port: management datagrams, counters, settings.

use super::*;

/// A subnet management datagram as the kernel makes it (include/rdma/ib_smi.h, `struct ib_smp`).
fn smp(attribute: u16, modifier: u32) -> [u8; 256] {
    let mut mad = [0; 256];
    mad[..4].copy_from_slice(&[1, 1, 1, 1]);
    put16(&mut mad, 16, attribute);
    put32(&mut mad, 20, modifier);
    mad
}

#[test]
fn mad_ifc_reports_the_identity() {
    // infiniband/hw/mlx4/main.c: mlx4_ib_query_device, ib_link_query_port, __mlx4_ib_query_gid, __mlx4_ib_query_pkey.
    let mut hca = card(Model::ConnectX2);
    hca.start();
    let mut ask = |attribute, modifier| hca.ask("MAD_IFC", 1, &smp(attribute, modifier)).unwrap();
    let node = ask(0x11, 0);
    assert_eq!((node[3], get16(&node, 4)), (0x81, 0));
    let data = &node[64..];
    assert_eq!(get64(data, 4), GUID + 3, "system image");
    assert_eq!(get64(data, 12), GUID, "node");
    assert_eq!(get32(data, 32), 0xb0, "hw_ver");
    assert_eq!(get32(data, 36) & 0xff_ffff, 0x02c9, "vendor");
    let down = ask(0x15, 1);
    let data = &down[64..];
    assert_eq!((get16(data, 16), get16(data, 18)), (1, 1), "LIDs");
    assert_eq!(data[32] & 0xf, 1, "DOWN");
    let gids = ask(0x14, 0);
    assert_eq!(get64(&gids, 64), GUID + 1);
    assert_eq!(get16(&ask(0x16, 0), 64), 0xffff);
    assert_eq!(get16(&ask(0x16, 4), 4), 0x1c, "a block that is not there");
    assert_eq!(get16(&ask(0x99, 0), 4), 0x0c, "an attribute that is not there");
    hca.ask("INIT_PORT", 1, &[]).unwrap();
    let up = hca.ask("MAD_IFC", 1, &smp(0x15, 1)).unwrap();
    let data = &up[64..];
    assert_eq!((data[32] & 0xf, data[33] >> 4), (4, 5), "ACTIVE, LinkUp");
    assert_eq!((data[36] >> 4, data[41] & 0xf), (5, 5), "MTUs");
    assert_eq!(data[31], 2, "four lanes");
    hca.ask("CLOSE_PORT", 1, &[]).unwrap();
    assert_eq!(hca.ask("MAD_IFC", 1, &smp(0x15, 1)).unwrap()[64 + 32] & 0xf, 1, "DOWN again");
    assert_eq!(hca.ask("CLOSE_PORT", 2, &[]), Err(Status::BadIndex));
    assert_eq!(hca.ask("MAD_IFC", 1, &[0; 256]), Err(Status::BadPkt));
    assert_eq!(hca.card.violations.count(), 0);
}

#[test]
fn a_subnet_manager_may_set_lids() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    let mut mad = hca.ask("MAD_IFC", 1, &smp(0x15, 1)).unwrap();
    mad.truncate(256);
    mad[3] = 2;
    put16(&mut mad, 64 + 16, 17);
    hca.ask("MAD_IFC", 1, &mad).unwrap();
    assert_eq!(hca.card.port.lid, 17);
    put16(&mut mad, 64 + 16, 0);
    let out = hca.ask("MAD_IFC", 1, &mad).unwrap();
    assert_eq!((get16(&out, 4), hca.card.port.lid), (0x1c, 17));
}

#[test]
fn counters_saturate() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    hca.card.port.counters.sent_bytes = 1 << 40;
    hca.card.port.counters.received_packets = 7;
    let mut mad = smp(0x12, 0);
    mad[1] = 4;
    let out = hca.ask("MAD_IFC", 1, &mad).unwrap();
    assert_eq!((get32(&out, 64 + 24), get32(&out, 64 + 36)), (u32::MAX, 7));
    put16(&mut mad, 16, 0x1d);
    let out = hca.ask("MAD_IFC", 1, &mad).unwrap();
    assert_eq!(get64(&out, 64 + 8), 1 << 38);
}

#[test]
fn diagnostics_have_the_kernels_layout() {
    // infiniband/hw/mlx4/main.c: diag_basic, sq_num_rae and rq_num_rnr.
    let mut hca = card(Model::ConnectX3);
    hca.start();
    hca.card.diagnostics.completed(0x13, true);
    hca.card.diagnostics.refused(&crate::fabric::packet::Syndrome::RnrNak(1));
    hca.card.memory.write(OUT, &[0xff; 4096]).unwrap();
    hca.command(&Command { op_modifier: 2, ..command("DIAG_RPRT") }).unwrap();
    let out: [u8; 0x200] = hca.card.memory.array(OUT).unwrap();
    assert_eq!((get32(&out, 0x4c), get32(&out, 0x68), get32(&out, 0x50)), (1, 1, 0));
    assert_eq!(hca.command(&command("DIAG_RPRT")), Err(Status::BadOp));
}

#[test]
fn set_port_accepts_what_drivers_send() {
    // port.c: mlx4_SET_PORT.
    let mut hca = card(Model::ConnectX3);
    hca.start();
    let mut input = [0; 256];
    put32(&mut input, 0, 1 << 22 | 1 << 21 | 4 << 12 | 8 << 4);
    put32(&mut input, 4, 0x0251_4868);
    hca.ask("SET_PORT", 1, &input).unwrap();
    assert_eq!((hca.card.port.max_mtu, hca.card.port.capabilities), (4, 0x0251_4868));
    assert_eq!(hca.ask("SET_PORT", 2, &input), Err(Status::BadIndex));
    put32(&mut input, 0, 1 << 22 | 9 << 12);
    assert_eq!(hca.ask("SET_PORT", 1, &input), Err(Status::BadParam));
    let out = hca.ask("QUERY_PORT", 1, &[]).unwrap();
    assert_eq!((out[0], out[1], out[7]), (1, 4, 0x77), "InfiniBand, down; MTU; GIDs and P_Keys");
}

#[test]
fn set_node_sets_the_description() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    hca.ask("SET_NODE", 1, &[b'x'; 64]).unwrap();
    assert_eq!(hca.ask("MAD_IFC", 1, &smp(0x10, 0)).unwrap()[64..128], [b'x'; 64]);
}
