//! Layouts of the commands' mailboxes, and what the firmware refuses.

use std::time::Duration;

use super::Command;
use crate::{
    be::{get16, get32, get64, put16, put32, put64},
    hca::Hca,
    identity::{Identity, Model},
    status::Status,
    trace::Trace,
};

const MEMORY: u64 = 64 << 20;
/// Mailboxes.
const IN: u64 = 0x1000;
const OUT: u64 = 0x2000;
const GUID: u64 = 0x10d2_c910_0000_6bd0;

fn card(model: Model) -> Hca {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MEMORY).unwrap();
    let mut hca = Hca::new("test", Identity::new(model, GUID), 1, 1, Trace::default());
    hca.card.memory.map(0, MEMORY, file, 0).unwrap();
    hca
}

fn command(opcode: &str) -> Command {
    Command {
        opcode: super::table::opcode(opcode).unwrap(),
        op_modifier: 0,
        modifier: 0,
        in_param: IN,
        out_param: OUT,
        token: 0,
        event: false,
    }
}

impl Hca {
    fn command(&mut self, command: &Command) -> Result<u64, Status> {
        super::execute(self, Duration::ZERO, command).unwrap()
    }

    /// Runs a command on a mailbox and gives the one that it wrote.
    fn ask(&mut self, opcode: &str, modifier: u32, input: &[u8]) -> Result<Vec<u8>, Status> {
        self.card.memory.write(IN, input).unwrap();
        self.card.memory.write(OUT, &[0; 4096]).unwrap();
        self.command(&Command { modifier, ..command(opcode) })?;
        let mut out = vec![0; 4096];
        self.card.memory.read(OUT, &mut out).unwrap();
        Ok(out)
    }

    /// A list of one chunk.
    fn map(&mut self, opcode: &str, virt: u64, dma: u64, log: u64) -> Result<Vec<u8>, Status> {
        let mut list = [0; 16];
        put64(&mut list, 0, virt);
        put64(&mut list, 8, dma | log);
        self.ask(opcode, 1, &list)
    }

    fn start_firmware(&mut self) {
        self.map("MAP_FA", 0, 0x10_0000, 6).unwrap();
        self.command(&command("RUN_FW")).unwrap();
    }

    /// Brings the card up, with its tables in one mapping of 16 MiB at ICM address 0.
    fn start(&mut self) {
        self.start_firmware();
        self.command(&Command { in_param: 16 << 20, ..command("SET_ICM_SIZE") }).unwrap();
        self.map("MAP_ICM_AUX", 0, 0x20_0000, 2).unwrap();
        self.map("MAP_ICM", 0, 16 << 20, 12).unwrap();
        let init = init_hca(true);
        self.ask("INIT_HCA", 0, &init).unwrap();
        assert_eq!(self.card.violations.count(), 0);
    }
}

/// The mailbox as fw.c's `mlx4_INIT_HCA` fills it.
fn init_hca(wide: bool) -> Vec<u8> {
    let mut init = vec![0; 0x200];
    init[0] = 2;
    init[0x0e] = 2 << 5 | 1 << 4;
    put32(&mut init, 0x14, 1);
    for (base, log_at, start, log) in [
        (0x30, 0x37, 0x00_0000, 12),
        (0x48, 0x4f, 0x10_0000, 10),
        (0x50, 0x57, 0x20_0000, 10),
        (0x80, 0x87, 0x30_0000, 7),
        (0xf0, 0xfb, 0x40_0000, 14),
    ] {
        put64(&mut init, base, start);
        init[log_at] = log;
    }
    if wide {
        init[0x58] = 0x60;
    }
    put64(&mut init, 0xc0, 0x60_0000);
    init[0xd3] = 10;
    init[0xd7] = 9;
    init[0xdb] = 10;
    init[0xf8] = 0x80;
    put64(&mut init, 0x100, 0x80_0000);
    init[0x12a] = 10;
    init
}

#[test]
fn query_fw_has_the_version_the_wrong_way_round() {
    // fw.c: QUERY_FW_VER_OFFSET, and the swap of minor and sub-minor after it.
    let mut hca = card(Model::ConnectX2);
    let out = hca.ask("QUERY_FW", 0, &[]).unwrap();
    let version = get64(&out, 0);
    let version = version & 0xffff_0000_0000 | (version & 0xffff_0000) >> 16 | (version & 0xffff) << 16;
    assert_eq!((version >> 32, version >> 16 & 0xffff, version & 0xffff), (2, 9, 1000));
    assert_eq!(get16(&out, 0), super::adapter::FW_PAGES);
    assert_eq!(get16(&out, 0x0a), 3, "QUERY_FW_CMD_IF_REV_OFFSET");
    assert_eq!(out[0x0f], 4, "QUERY_FW_MAX_CMD_OFFSET");
    assert_eq!(get64(&out, 0x30), crate::hca::CATASTROPHE, "QUERY_FW_ERR_START_OFFSET");
    assert_eq!(get32(&out, 0x38), 16, "QUERY_FW_ERR_SIZE_OFFSET");
}

#[test]
fn query_adapter_swaps_the_board_s_words() {
    // fw.c: get_board_id.
    let mut hca = card(Model::ConnectX2);
    hca.start_firmware();
    let out = hca.ask("QUERY_ADAPTER", 0, &[]).unwrap();
    let board: Vec<u8> = out[0xf0..0x100].chunks(4).flat_map(|word| word.iter().rev()).copied().collect();
    assert_eq!(&board, b"MT_0D90110009\0\0\0");
}

#[test]
fn query_dev_cap_tells_what_a_model_can() {
    for (model, wide) in [(Model::ConnectX2, false), (Model::ConnectX3, true)] {
        let mut hca = card(model);
        hca.start_firmware();
        let out = hca.ask("QUERY_DEV_CAP", 0, &[]).unwrap();
        let flags = u64::from(get32(&out, 0x40)) << 32 | u64::from(get32(&out, 0x44));
        // MLX4_DEV_CAP_FLAG_64B_CQE, _64B_EQE, _MEM_WINDOW.
        assert_eq!(flags >> 61 & 3 == 3, wide);
        assert_eq!(flags >> 16 & 1 == 1, wide);
        assert_eq!(flags & 0xf, 0xf, "RC, UC, UD, XRC");
        assert_eq!(out[0x37] & 0xf, 1, "QUERY_DEV_CAP_VL_PORT_OFFSET: ports");
        // QUERY_DEV_CAP_UAR_SZ_OFFSET: half of BAR 2; the other half is BlueFlame's.
        assert_eq!(1_u64 << ((out[0x49] & 0x3f) + 20), crate::pci::BAR2_SIZE / 2);
        assert_eq!(1 << out[0x4d], 512, "QUERY_DEV_CAP_LOG_BF_REG_SZ_OFFSET");
        assert_eq!((get16(&out, 0x82), get16(&out, 0x90), get16(&out, 0x92)), (256, 8, 64));
    }
}

#[test]
fn commands_need_their_state() {
    let mut hca = card(Model::ConnectX3);
    assert_eq!(hca.ask("QUERY_DEV_CAP", 0, &[]), Err(Status::BadSysState));
    assert_eq!(hca.command(&command("RUN_FW")), Err(Status::BadSysState), "no memory yet");
    hca.start_firmware();
    assert_eq!(hca.ask("SW2HW_MPT", 20, &[0; 64]), Err(Status::BadSysState));
    assert_eq!(hca.card.violations.count(), 2);
    assert_eq!(hca.command(&Command { opcode: 0x123, ..command("NOP") }), Err(Status::BadOp));
}

#[test]
fn what_the_card_does_not_do_is_not_offered() {
    // fw.c: QUERY_DEV_CAP_*_OFFSET; device.h: MLX4_DEV_CAP_FLAG_APM.
    let mut hca = card(Model::ConnectX3);
    hca.start();
    let out = hca.ask("QUERY_DEV_CAP", 0, &[]).unwrap();
    assert_eq!(get32(&out, 0x44) >> 17 & 1, 0, "path migration");
    assert_eq!(out[0x2d] & 0x1f, 0, "MAX_GSO");
    assert_eq!(out[0x2e], 0, "RSS");
    assert_eq!(out[0x3e] >> 7, 0, "CQ_TS_SUPPORT");
    assert_eq!(get32(&out, 0x70) >> 16 & 1, 0, "EXT_2_FLAGS: UPDATE_QP");
    // include/linux/mlx4/cmd.h: MLX4_CMD_UPDATE_QP.
    assert_eq!(hca.command(&Command { opcode: 0x61, ..command("NOP") }), Err(Status::BadOp));
    assert_eq!(hca.card.violations.count(), 0);
}

#[test]
fn mailboxes_outside_memory_are_refused() {
    let mut hca = card(Model::ConnectX3);
    for wrong in [MEMORY, MEMORY - 8, u64::MAX - 15] {
        assert_eq!(hca.command(&Command { out_param: wrong, ..command("QUERY_FW") }), Err(Status::BadParam));
        assert_eq!(
            hca.command(&Command { in_param: wrong, modifier: 1, ..command("MAP_FA") }),
            Err(Status::BadParam)
        );
    }
    assert_eq!(hca.card.violations.count(), 6);
    assert_eq!(hca.map("MAP_FA", 0, MEMORY - 4096, 1), Err(Status::BadParam), "not aligned to its size");
    assert_eq!(hca.map("MAP_FA", 0, MEMORY, 0), Err(Status::BadParam), "not in memory");
    assert_eq!(hca.map("MAP_FA", 0, 0, 60), Err(Status::BadParam));
}

#[test]
fn init_hca_sets_the_tables() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    let tables = hca.card.tables;
    assert_eq!((tables.dmpt_base, tables.mtt_base, tables.mc_base), (0x40_0000, 0x80_0000, 0x60_0000));
    assert_eq!((tables.log_qps, tables.log_srqs, tables.log_cqs, tables.log_mpts), (12, 10, 10, 14));
    assert_eq!((tables.log_mc_entry, tables.log_mc_hash, tables.log_mc_table), (10, 9, 10));
    assert!(tables.cqe64 && tables.eqe64 && tables.windows);
    let out = hca.ask("QUERY_HCA", 0, &[]).unwrap();
    assert_eq!(get64(&out, 0xf0), 0x40_0000);
    assert_eq!(hca.ask("INIT_HCA", 0, &init_hca(true)), Err(Status::BadSysState), "once only");
    hca.command(&command("CLOSE_HCA")).unwrap();
    let mut wrong = init_hca(false);
    put64(&mut wrong, 0x100, 1 << 30);
    assert_eq!(hca.ask("INIT_HCA", 0, &wrong), Err(Status::IcmError), "no MTT table");
    hca.ask("INIT_HCA", 0, &init_hca(false)).unwrap();
    assert!(!hca.card.tables.cqe64 && !hca.card.tables.eqe64);
}

/// An entry as mr.c's `mlx4_mr_enable` fills it.
fn mpt(index: u32) -> [u8; 64] {
    let mut entry = [0; 64];
    put32(&mut entry, 0x00, 0xf << 28 | 1 << 17 | 1 << 8 | 1 << 10);
    put32(&mut entry, 0x08, 0x5500_0000 | index);
    put32(&mut entry, 0x0c, 7 | 3 << 24);
    put64(&mut entry, 0x10, 0x7fff_0000);
    put64(&mut entry, 0x18, 0x3000);
    put64(&mut entry, 0x2c, 0x80);
    put32(&mut entry, 0x38, 12);
    entry
}

#[test]
fn memory_protection_entries_change_hands() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    hca.ask("SW2HW_MPT", 0x20, &mpt(0x20)).unwrap();
    // In ICM, the card's: 16 MiB is where ICM address 0 is.
    let at = (16 << 20) + 0x40_0000 + 0x20 * 64;
    assert_eq!(hca.card.memory.array::<64>(at).unwrap()[0], 0);
    assert_eq!(hca.card.memory.array::<64>(at).unwrap()[1..], mpt(0x20)[1..]);
    assert_eq!(hca.ask("SW2HW_MPT", 0x20, &mpt(0x20)), Err(Status::BadResState));
    assert_eq!(hca.ask("SW2HW_MPT", 0x21, &mpt(0x20)), Err(Status::BadParam), "another's key");
    assert_eq!(hca.ask("SW2HW_MPT", 1 << 14, &mpt(1 << 14)), Err(Status::BadIndex));
    assert_eq!(hca.ask("SW2HW_MPT", 3, &mpt(3)), Err(Status::BadResource), "reserved");
    // In-place change, as for rereg_mr.
    let out = hca.ask("HW2SW_MPT", 0x20, &[]).unwrap();
    assert_eq!(out[0] & 0xf0, 0xf0);
    assert_eq!(hca.ask("HW2SW_MPT", 0x20, &[]), Err(Status::BadResState));
    hca.card.memory.write(at, &[0]).unwrap();
    hca.command(&command("SYNC_TPT")).unwrap();
    // A bound window keeps the region.
    hca.card.memory.write(at + 0x24, &[0, 0, 0, 1]).unwrap();
    assert_eq!(hca.ask("HW2SW_MPT", 0x20, &[]), Err(Status::RegBound));
    hca.card.memory.write(at + 0x24, &[0; 4]).unwrap();
    hca.ask("HW2SW_MPT", 0x20, &[]).unwrap();
    assert_eq!(hca.ask("HW2SW_MPT", 0x30, &[]), Err(Status::BadResState), "never given");
}

#[test]
fn write_mtt_writes_icm() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    let mut list = [0; 32];
    put64(&mut list, 0, 5);
    put64(&mut list, 16, 0x1234_5001);
    put64(&mut list, 24, 0x1234_6001);
    hca.ask("WRITE_MTT", 2, &list).unwrap();
    let at = (16 << 20) + 0x80_0000 + 5 * 8;
    assert_eq!(hca.card.memory.array::<16>(at).unwrap(), list[16..32]);
    assert_eq!(hca.ask("WRITE_MTT", 1000, &list), Err(Status::BadParam));
    put64(&mut list, 0, 1 << 40);
    assert_eq!(hca.ask("WRITE_MTT", 2, &list), Err(Status::IcmError));
}

#[test]
fn multicast_entries_are_in_icm() {
    let mut hca = card(Model::ConnectX3);
    // The driver's memory need not be clean.
    hca.card.memory.write((16 << 20) + 0x60_0000, &[0xff; 0x1_0000]).unwrap();
    hca.start();
    let mut entry = vec![0; 1024];
    assert_eq!(hca.ask("READ_MCG", 3, &[]).unwrap()[..1024], entry);
    entry[0x10..0x20].fill(0xff);
    hca.ask("WRITE_MCG", 3, &entry).unwrap();
    assert_eq!(hca.ask("READ_MCG", 3, &[]).unwrap()[..1024], entry);
    assert_eq!(hca.ask("READ_MCG", 1 << 10, &[]), Err(Status::BadIndex));
    hca.card.memory.write(IN, &[0xff; 16]).unwrap();
    let hash = hca.command(&command("MGID_HASH")).unwrap();
    assert_eq!(hash, u64::from(super::mcg::hash(&[0xff; 16], 9)));
    assert!(hash < 1 << 9);
}

/// A subnet management datagram as the kernel makes it (include/rdma/ib_smi.h, `struct ib_smp`).
fn smp(attribute: u16, modifier: u32) -> [u8; 256] {
    let mut mad = [0; 256];
    mad[..4].copy_from_slice(&[1, 1, 1, 1]);
    put16(&mut mad, 16, attribute);
    put32(&mut mad, 20, modifier);
    mad
}

#[test]
fn mad_ifc_tells_who_the_card_is() {
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
fn diagnostics_are_where_the_kernel_reads_them() {
    // infiniband/hw/mlx4/main.c: diag_basic, sq_num_rae and rq_num_rnr.
    let mut hca = card(Model::ConnectX3);
    hca.start();
    hca.card.diagnostics.completed(0x13, true);
    hca.card.diagnostics.refused(&crate::packet::Syndrome::RnrNak(1));
    hca.card.memory.write(OUT, &[0xff; 4096]).unwrap();
    hca.command(&Command { op_modifier: 2, ..command("DIAG_RPRT") }).unwrap();
    let out: [u8; 0x200] = hca.card.memory.array(OUT).unwrap();
    assert_eq!((get32(&out, 0x4c), get32(&out, 0x68), get32(&out, 0x50)), (1, 1, 0));
    assert_eq!(hca.command(&command("DIAG_RPRT")), Err(Status::BadOp));
}

#[test]
fn set_port_takes_what_drivers_send() {
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
fn set_node_describes() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    hca.ask("SET_NODE", 1, &[b'x'; 64]).unwrap();
    assert_eq!(hca.ask("MAD_IFC", 1, &smp(0x10, 0)).unwrap()[64..128], [b'x'; 64]);
}

/// A context as eq.c's `mlx4_create_eq` fills it: 16 entries in one page, whose translation is entry 0.
fn eq_context() -> [u8; 64] {
    let mut context = [0; 64];
    put32(&mut context, 0, 9 << 8);
    context[0x0c] = 4;
    context[0x17] = 2;
    context
}

const EQ_PAGE: u64 = 0x5000;

fn with_eq(hca: &mut Hca) {
    hca.start();
    let mut list = [0; 24];
    put64(&mut list, 16, EQ_PAGE | 1);
    hca.ask("WRITE_MTT", 1, &list).unwrap();
    hca.ask("SW2HW_EQ", 5, &eq_context()).unwrap();
    hca.command(&Command { in_param: 1 << 0x0a | 1 << 0x09, modifier: 5, ..command("MAP_EQ") }).unwrap();
}

#[test]
fn command_events_are_as_the_driver_reads_them() {
    // device.h: struct mlx4_eqe; in entries of 64 bytes it is the upper half.
    let mut hca = card(Model::ConnectX3);
    with_eq(&mut hca);
    assert_eq!(hca.card.memory.array::<1>(EQ_PAGE + 63).unwrap(), [0x80], "the card's at first");
    hca.command(&Command { token: 0xbeef, event: true, ..command("NOP") }).unwrap();
    hca.settle();
    let entry: [u8; 32] = hca.card.memory.array(EQ_PAGE + 32).unwrap();
    assert_eq!((entry[1], get16(&entry, 6), entry[0x0f], entry[0x1f]), (0x0a, 0xbeef, 0, 0));
    hca.command(&Command { token: 1, event: true, opcode: 0x123, ..command("NOP") }).unwrap_err();
    hca.settle();
    let entry: [u8; 32] = hca.card.memory.array(EQ_PAGE + 96).unwrap();
    assert_eq!(entry[0x0f], Status::BadOp as u8);
    assert_eq!(hca.card.violations.count(), 0);
    hca.command(&command("INIT_PORT")).unwrap_err();
    hca.command(&Command { modifier: 1, ..command("INIT_PORT") }).unwrap();
    hca.settle();
    let entry: [u8; 32] = hca.card.memory.array(EQ_PAGE + 160).unwrap();
    assert_eq!((entry[1], entry[3], get32(&entry, 0x0c)), (0x09, 4, 1 << 28));
}

#[test]
fn an_event_queue_wraps_and_overflows() {
    let mut hca = card(Model::ConnectX3);
    with_eq(&mut hca);
    let nop = Command { event: true, ..command("NOP") };
    let doorbell = |hca: &mut Hca, index: u32| {
        hca.write(Duration::ZERO, 2, 4096 + 0x808, &(index | 1 << 31).to_be_bytes());
    };
    for _ in 0..16 {
        hca.command(&nop).unwrap();
    }
    hca.settle();
    doorbell(&mut hca, 16);
    hca.command(&nop).unwrap();
    hca.settle();
    assert_eq!(hca.card.memory.array::<1>(EQ_PAGE + 63).unwrap(), [0x80], "the second time round");
    let context = hca.ask("QUERY_EQ", 5, &[]).unwrap();
    assert_eq!((get32(&context, 0x28), get32(&context, 0x2c)), (16, 17));
    assert_eq!(get32(&context, 0) >> 8 & 0xf, 10, "fired");
    doorbell(&mut hca, 18);
    assert_eq!(hca.card.violations.count(), 1, "more than there is");
    for _ in 0..16 {
        hca.command(&nop).unwrap();
    }
    hca.settle();
    assert_eq!(hca.card.violations.count(), 2, "overflow");
    hca.command(&Command { op_modifier: 1, modifier: 5, ..command("HW2SW_EQ") }).unwrap();
    doorbell(&mut hca, 18);
    assert_eq!(hca.card.violations.count(), 3, "no such queue");
}

#[test]
fn reserved_fields_are_violations() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    let mut context = eq_context();
    context[0x20] = 1;
    let mut list = [0; 24];
    put64(&mut list, 16, EQ_PAGE | 1);
    hca.ask("WRITE_MTT", 1, &list).unwrap();
    hca.ask("SW2HW_EQ", 5, &context).unwrap();
    assert_eq!(hca.card.violations.count(), 1);
    assert_eq!(hca.ask("SW2HW_EQ", 5, &context), Err(Status::BadResState));
    assert_eq!(hca.ask("SW2HW_EQ", 512, &context), Err(Status::BadIndex));
    let before = hca.card.violations.count();
    hca.map("MAP_ICM_AUX", 0x1000, 0x20_0000, 2).unwrap();
    assert_eq!(hca.card.violations.count(), before + 1, "an ICM address where there is none");
    let mut config = [0; 0x100];
    config[4] = 1;
    hca.card.memory.write(IN, &config).unwrap();
    hca.command(&command("MOD_STAT_CFG")).unwrap();
    assert_eq!(hca.card.violations.count(), before + 2);
}

/// Writes a command as mlx4/cmd.c's `mlx4_cmd_post` does.
fn post(hca: &mut Hca, opcode: u32, toggle: bool) -> u32 {
    const HCR: u64 = 0x80680;
    for (at, word) in [(0, 0), (4, IN as u32), (8, 0), (12, 0), (16, OUT as u32), (20, 0)] {
        hca.write(Duration::ZERO, 0, HCR + at, &word.to_be_bytes());
    }
    let word = 1 << 23 | u32::from(toggle) << 21 | opcode;
    hca.write(Duration::ZERO, 0, HCR + 24, &word.to_be_bytes());
    let mut status = [0; 4];
    hca.read(0, HCR + 24, &mut status);
    u32::from_be_bytes(status)
}

#[test]
fn the_command_register_is_as_the_driver_polls_it() {
    let mut hca = card(Model::ConnectX3);
    // Go is off, the toggle is that of the command, the status is 0.
    assert_eq!(post(&mut hca, 0x004, true) & !0xfff, 1 << 21);
    assert_eq!(post(&mut hca, 0x123, false) >> 21, u32::from(Status::BadOp as u8) << 3);
    assert_eq!(hca.card.violations.count(), 0);
    post(&mut hca, 0x004, false);
    assert_eq!(hca.card.violations.count(), 1, "the same toggle");
    hca.firmware.stall = Some(None);
    assert_eq!(post(&mut hca, 0x004, true) >> 23 & 1, 1, "no answer");
    post(&mut hca, 0x004, false);
    assert_eq!(hca.card.violations.count(), 8, "every word is one too many");
    hca.write(Duration::ZERO, 0, 0xf0010, &1_u32.to_be_bytes());
    assert_eq!(post(&mut hca, 0x004, true) >> 24, 0);
}

#[test]
fn a_catastrophe_lasts_until_the_reset() {
    let mut hca = card(Model::ConnectX3);
    let read = |hca: &mut Hca, at| {
        let mut word = [0; 4];
        hca.read(0, at, &mut word);
        u32::from_be_bytes(word)
    };
    assert_eq!(read(&mut hca, crate::hca::CATASTROPHE), 0);
    hca.break_down();
    assert_ne!(read(&mut hca, crate::hca::CATASTROPHE), 0);
    assert_eq!(post(&mut hca, 0x004, true) >> 23 & 1, 1, "no answer");
    assert_eq!((read(&mut hca, 0xf03fc), read(&mut hca, 0xf03fc)), (0, 1), "the semaphore");
    hca.write(Duration::ZERO, 0, 0xf0010, &1_u32.to_be_bytes());
    assert_eq!((read(&mut hca, crate::hca::CATASTROPHE), read(&mut hca, 0xf03fc)), (0, 0));
    assert_eq!(post(&mut hca, 0x004, true) >> 23 & 1, 0);
}
