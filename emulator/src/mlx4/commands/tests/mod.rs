//! Layouts of the commands' mailboxes, and what the firmware refuses.

mod eq;
mod ethernet;
mod memory;
mod port;
mod queues;
mod register;

use std::time::Duration;

use super::Command;
use crate::{
    be::{get16, get32, get64, put16, put32, put64},
    device::Device,
    mlx4::{
        hca::Hca,
        identity::{Identity, Model},
        status::Status,
    },
    trace::Trace,
};

const MEMORY: u64 = 64 << 20;
/// Mailboxes.
const IN: u64 = 0x1000;
const OUT: u64 = 0x2000;
const GUID: u64 = 0x10d2_c910_0000_6bd0;

fn card(model: Model) -> Hca {
    let file = crate::bus::memory::tests::file(MEMORY);
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

    /// Runs a command on a mailbox and returns its output mailbox.
    fn ask(&mut self, opcode: &str, modifier: u32, input: &[u8]) -> Result<Vec<u8>, Status> {
        self.card.memory.write(IN, input).unwrap();
        self.card.memory.write(OUT, &[0; 4096]).unwrap();
        self.command(&Command { modifier, ..command(opcode) })?;
        let mut out = vec![0; 4096];
        self.card.memory.read(OUT, &mut out).unwrap();
        Ok(out)
    }

    /// Checks that an action is reported once, in these words.
    fn reports(&mut self, words: &str, done: impl FnOnce(&mut Self)) {
        let before = self.card.violations.count();
        done(self);
        let last = self.card.violations.last();
        assert!(
            last.is_some_and(|last| last.to_string().contains(words)),
            "{words:?}, and the last is {last:?}"
        );
        assert_eq!(self.card.violations.count(), before + 1, "{words}");
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
fn query_fw_swaps_minor_and_subminor() {
    // fw.c: QUERY_FW_VER_OFFSET, and the swap of minor and sub-minor after it.
    let mut hca = card(Model::ConnectX2);
    let out = hca.ask("QUERY_FW", 0, &[]).unwrap();
    let version = get64(&out, 0);
    let version = version & 0xffff_0000_0000 | (version & 0xffff_0000) >> 16 | (version & 0xffff) << 16;
    assert_eq!((version >> 32, version >> 16 & 0xffff, version & 0xffff), (2, 9, 1000));
    assert_eq!(get16(&out, 0), super::adapter::FW_PAGES);
    assert_eq!(get16(&out, 0x0a), 3, "QUERY_FW_CMD_IF_REV_OFFSET");
    assert_eq!(out[0x0f], 4, "QUERY_FW_MAX_CMD_OFFSET");
    assert_eq!(get64(&out, 0x30), crate::mlx4::hca::CATASTROPHE, "QUERY_FW_ERR_START_OFFSET");
    assert_eq!(get32(&out, 0x38), 16, "QUERY_FW_ERR_SIZE_OFFSET");
    assert_eq!((get64(&out, 0x50), out[0x58]), (0, 0), "QUERY_FW_CLOCK_OFFSET, _BAR");
}

#[test]
fn query_adapter_swaps_the_bytes_of_the_board() {
    // fw.c: get_board_id.
    let mut hca = card(Model::ConnectX2);
    hca.start_firmware();
    let out = hca.ask("QUERY_ADAPTER", 0, &[]).unwrap();
    let board: Vec<u8> = out[0xf0..0x100].chunks(4).flat_map(|word| word.iter().rev()).copied().collect();
    assert_eq!(&board, b"MT_0D90110009\0\0\0");
}

#[test]
fn query_dev_cap_depends_on_the_model() {
    for (model, wide) in [(Model::ConnectX2, false), (Model::ConnectX3, true)] {
        let mut hca = card(model);
        hca.start_firmware();
        let out = hca.ask("QUERY_DEV_CAP", 0, &[]).unwrap();
        let flags = u64::from(get32(&out, 0x40)) << 32 | u64::from(get32(&out, 0x44));
        // MLX4_DEV_CAP_FLAG_64B_CQE, _64B_EQE, _MEM_WINDOW.
        assert_eq!(flags >> 61 & 3 == 3, wide);
        assert_eq!(flags >> 16 & 1 == 1, wide);
        assert_eq!(out[0x3e] >> 7 == 1, wide, "CQ_TS_SUPPORT");
        assert_eq!(flags & 0xf, 0xf, "RC, UC, UD, XRC");
        assert_eq!(out[0x37] & 0xf, 1, "QUERY_DEV_CAP_VL_PORT_OFFSET: ports");
        // QUERY_DEV_CAP_UAR_SZ_OFFSET: half of BAR 2; the other half is BlueFlame's.
        assert_eq!(1_u64 << ((out[0x49] & 0x3f) + 20), crate::mlx4::hca::BARS[2] / 2);
        assert_eq!(1 << out[0x4d], 512, "QUERY_DEV_CAP_LOG_BF_REG_SZ_OFFSET");
        assert_eq!((get16(&out, 0x82), get16(&out, 0x90), get16(&out, 0x92)), (256, 8, 64));
    }
}

#[test]
fn commands_require_their_state() {
    let mut hca = card(Model::ConnectX3);
    assert_eq!(hca.ask("QUERY_DEV_CAP", 0, &[]), Err(Status::BadSysState));
    assert_eq!(hca.command(&command("RUN_FW")), Err(Status::BadSysState), "no memory yet");
    hca.start_firmware();
    assert_eq!(hca.ask("SW2HW_MPT", 20, &[0; 64]), Err(Status::BadSysState));
    assert_eq!(hca.card.violations.count(), 2);
    assert_eq!(hca.command(&Command { opcode: 0x123, ..command("NOP") }), Err(Status::BadOp));
}

#[test]
fn missing_features_are_not_offered() {
    // fw.c: QUERY_DEV_CAP_*_OFFSET; device.h: MLX4_DEV_CAP_FLAG_APM.
    let mut hca = card(Model::ConnectX3);
    hca.start();
    let out = hca.ask("QUERY_DEV_CAP", 0, &[]).unwrap();
    assert_eq!(get32(&out, 0x44) >> 17 & 1, 0, "path migration");
    assert_eq!(out[0x2d] & 0x1f, 0, "MAX_GSO");
    assert_eq!(out[0x2e], 0, "RSS");
    assert_eq!(get32(&out, 0x70) >> 16 & 1, 0, "EXT_2_FLAGS: UPDATE_QP");
    // include/linux/mlx4/cmd.h: MLX4_CMD_UPDATE_QP.
    assert_eq!(hca.command(&Command { opcode: 0x61, ..command("NOP") }), Err(Status::BadOp));
    assert_eq!(hca.card.violations.count(), 0);
}
