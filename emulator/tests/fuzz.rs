//! A driver with random behaviour: commands, mailboxes, doorbells and tables of random bytes, from a seed.
//!
//! Nothing may panic, hang, or touch memory outside the guest's. `CONNECTX_FUZZ_SECONDS` is the time to spend (default
//! 2), `CONNECTX_FUZZ_SEED` the first seed.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

use connectx::{
    device::Device,
    fabric::packet::Packet,
    mlx4::{
        commands,
        hca::Hca,
        identity::{Identity, Model},
    },
    trace::Trace,
};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The guest's memory: the middle of a file, whose rest must not change.
const BEFORE: u64 = 1 << 20;
const MEMORY: u64 = 16 << 20;
const AFTER: u64 = 1 << 20;
/// Its DMA address.
const BASE: u64 = 0;
/// The end of the tables in it; the rest is for mailboxes and queues.
const TABLES: u64 = 8 << 20;
const MAILBOXES: u64 = 12 << 20;
const CANARY: u8 = 0xa5;
/// No single access may take longer, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Steps with one card.
const STEPS: u32 = 4000;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A number that is likely to be meaningful: small, a power of two, a limit, or anything.
    fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(4),
            1 => self.below(64),
            2 => 1 << self.below(64),
            3 => (1_u64 << self.below(64)).wrapping_sub(1),
            4 => self.below(MEMORY),
            _ => self.next(),
        }
    }

    /// An address that is likely to be in memory.
    fn address(&mut self) -> u64 {
        match self.below(8) {
            0 => self.number(),
            1 => BASE + MEMORY - self.below(0x2000),
            _ => (BASE + self.below(MEMORY)) & !0xfff,
        }
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for word in bytes.chunks_mut(8) {
            // Most of a valid structure is zeros.
            if self.one_in(3) {
                let value = self.number().to_be_bytes();
                let length = word.len();
                word.copy_from_slice(&value[8 - length..]);
            }
        }
        bytes
    }
}

struct Fuzz {
    random: Random,
    hca: Hca,
    file: File,
    now: Duration,
    toggle: bool,
    out: Vec<Packet>,
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        // Not on a disk: a full disk would look like a bug.
        let file = File::from(memfd_create("guest", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        let fill = vec![CANARY; 1 << 20];
        file.write_all_at(&fill, 0).unwrap();
        file.set_len(BEFORE + MEMORY).unwrap();
        file.write_all_at(&fill, BEFORE + MEMORY).unwrap();
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let model = if random.one_in(4) { Model::ConnectX2 } else { Model::ConnectX3 };
        let mut hca = Hca::new("fuzz", Identity::new(model, random.next()), 1, 1, Trace::default());
        hca.card.memory.map(BASE, MEMORY, file.try_clone().unwrap(), BEFORE).unwrap();
        Self { random, hca, file, now: Duration::ZERO, toggle: false, out: Vec::new() }
    }

    fn write(&mut self, bar: u32, offset: u64, bytes: &[u8]) {
        let start = Instant::now();
        self.hca.write(self.now, bar, offset, bytes);
        assert!(start.elapsed() < PATIENCE, "BAR {bar} {offset:#x} {bytes:x?} took {:?}", start.elapsed());
    }

    fn command(&mut self, opcode: u16, op_modifier: u8, modifier: u32, input: u64, output: u64, event: bool) {
        const HCR: u64 = 0x80680;
        let words =
            [(input >> 32) as u32, input as u32, modifier, (output >> 32) as u32, output as u32, 0x10 << 16];
        for (at, word) in (0..).step_by(4).zip(words) {
            self.write(0, HCR + at, &word.to_be_bytes());
        }
        self.toggle = !self.toggle;
        let word = 1 << 23
            | u32::from(event) << 22
            | u32::from(self.toggle) << 21
            | u32::from(op_modifier) << 12
            | u32::from(opcode);
        self.write(0, HCR + 24, &word.to_be_bytes());
    }

    fn named(&mut self, name: &str, modifier: u32, input: &[u8]) {
        self.hca.card.memory.write(MAILBOXES, input).unwrap();
        self.command(commands::opcode(name).unwrap(), 0, modifier, MAILBOXES, MAILBOXES + 0x1000, false);
    }

    /// Brings the card up like a driver.
    fn bring_up(&mut self) {
        let list = |virt: u64, dma: u64, log: u64| [virt.to_be_bytes(), (dma | log).to_be_bytes()].concat();
        self.write(0, 0xf0010, &1_u32.to_be_bytes());
        self.named("MAP_FA", 1, &list(0, TABLES, 6));
        self.command(commands::opcode("RUN_FW").unwrap(), 0, 0, 0, 0, false);
        self.command(commands::opcode("SET_ICM_SIZE").unwrap(), 0, 0, 8 << 20, 0, false);
        self.named("MAP_ICM_AUX", 1, &list(0, TABLES, 6));
        self.named("MAP_ICM", 1, &list(0, 0, 11));
        let mut init = vec![0; 0x200];
        init[0] = 2;
        for (base, log_at, start, log) in [
            (0x30, 0x37, 0x00_0000_u64, 10),
            (0x48, 0x4f, 0x10_0000, 8),
            (0x50, 0x57, 0x20_0000, 8),
            (0x80, 0x87, 0x30_0000, 7),
            (0xf0, 0xfb, 0x40_0000, 10),
            (0xc0, 0xdb, 0x60_0000, 8),
            (0x100, 0x1ff, 0x70_0000, 0),
        ] {
            init[base..base + 8].copy_from_slice(&start.to_be_bytes());
            init[log_at] = log;
        }
        init[0xd3] = 9;
        init[0xd7] = 7;
        init[0x58] = (self.random.below(4) as u8) << 5;
        self.named("INIT_HCA", 0, &init);
        assert_eq!(self.hca.firmware.stage, commands::Stage::Initialised);
        // A translation table whose pages are in memory.
        for entry in 0..512_u64 {
            let page = (TABLES + entry % 1024 * 4096) | 1;
            self.hca.card.memory.write(0x70_0000 + entry * 8, &page.to_be_bytes()).unwrap();
        }
        self.named("INIT_PORT", 1, &[]);
    }

    /// Any command, with a mailbox of random bytes.
    fn any_command(&mut self) {
        let random = &mut self.random;
        let names = [
            "SW2HW_EQ",
            "SW2HW_CQ",
            "SW2HW_SRQ",
            "RST2INIT_QP",
            "INIT2RTR_QP",
            "RTR2RTS_QP",
            "SW2HW_MPT",
            "MAP_EQ",
            "MODIFY_CQ",
            "2ERR_QP",
            "2RST_QP",
            "MAD_IFC",
            "WRITE_MTT",
            "QUERY_QP",
            "CONF_SPECIAL_QP",
            "ARM_SRQ",
        ];
        let opcode = match random.below(4) {
            0 => random.below(0x1000) as u16,
            1 => [0xff6, 0xff9, 0xffa, 0xffb, 0xffc, 0xffd, 0xffe, 0xfff][random.below(8) as usize],
            _ => commands::opcode(names[random.below(names.len() as u64) as usize]).unwrap(),
        };
        if matches!(opcode, 0x08 | 0xffe) && !random.one_in(50) {
            return;
        }
        let length = [64, 256, 512, 4096][random.below(4) as usize];
        let mailbox = random.bytes(length);
        let at = random.address();
        // A mailbox outside memory stays empty.
        let _ = self.hca.card.memory.write(at, &mailbox);
        let random = &mut self.random;
        let op_modifier = if random.one_in(3) { random.below(16) as u8 } else { 0 };
        let modifier = random.number() as u32;
        let output = random.address();
        let event = random.one_in(2);
        self.command(opcode, op_modifier, modifier, at, output, event);
    }

    fn any_access(&mut self) {
        let random = &mut self.random;
        let length = [1, 2, 4, 8, 16, 64][random.below(6) as usize];
        let bytes = random.bytes(length);
        match random.below(8) {
            0 => {
                let offset = random.number();
                let bar = random.below(9) as u32;
                self.write(bar, offset, &bytes);
                let mut read = vec![0; length];
                self.hca.read(self.now, bar, offset, &mut read);
                self.hca.config_read(offset, &mut read);
                self.hca.config_write(offset, &bytes);
            }
            // Event queues' doorbells.
            1 => {
                let offset = random.below(64) * 4096 + 0x800 + random.below(8) * 4;
                self.write(2, offset, &bytes);
            }
            // Send doorbells and arming.
            2 | 3 => {
                let offset = random.below(1024) * 4096 + [0x14, 0x20, 0x24][random.below(3) as usize];
                let number = (random.below(1024) << if random.one_in(2) { 8 } else { 0 }) as u32;
                self.write(2, offset, &number.to_be_bytes());
            }
            // BlueFlame.
            4 => {
                let offset = (4 << 20) + random.below(1024) * 4096 + random.below(2) * 256;
                for at in (0..64).step_by(8) {
                    let bytes = self.random.bytes(8);
                    self.write(2, offset + at, &bytes);
                }
            }
            // Tables, queues and doorbell records, which are in memory.
            _ => {
                let at = random.address() + random.below(64) * 64;
                let _ = self.hca.card.memory.write(at, &bytes);
            }
        }
    }

    fn run(&mut self) {
        self.now += Duration::from_micros(self.random.below(100_000));
        for _ in 0..20 {
            let start = Instant::now();
            let next = self.hca.run(self.now, &mut self.out);
            // Packets are looped back: there is no other card.
            for packet in std::mem::take(&mut self.out).into_iter().take(64) {
                self.hca.receive(self.now, packet, &mut self.out);
            }
            assert!(start.elapsed() < PATIENCE, "the data path took {:?}", start.elapsed());
            if next == connectx::transport::Next::Idle && self.out.is_empty() {
                return;
            }
        }
        self.out.clear();
    }

    fn check_canaries(&self) {
        for at in [0, BEFORE + MEMORY] {
            let mut bytes = vec![0; usize::try_from(AFTER).unwrap()];
            self.file.read_exact_at(&mut bytes, at).unwrap();
            assert!(bytes.iter().all(|byte| *byte == CANARY), "memory that is not the guest's was written");
        }
    }
}

fn one(seed: u64) {
    let mut fuzz = Fuzz::new(seed);
    // One card in eight is not brought up.
    if !fuzz.random.one_in(8) {
        fuzz.bring_up();
    }
    for _ in 0..STEPS {
        match fuzz.random.below(100) {
            0..40 => fuzz.any_command(),
            40..90 => fuzz.any_access(),
            _ => fuzz.run(),
        }
        if fuzz.hca.firmware.stage != commands::Stage::Initialised && fuzz.random.one_in(20) {
            fuzz.bring_up();
        }
    }
    fuzz.check_canaries();
}

#[test]
fn random_input_is_survived() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(variable("CONNECTX_FUZZ_SECONDS").unwrap_or(2));
    let first = variable("CONNECTX_FUZZ_SEED").unwrap_or(1);
    let start = Instant::now();
    let mut seed = first;
    while seed == first || start.elapsed() < time {
        // The last line names the seed of a failure.
        println!("seed {seed}");
        one(seed);
        seed += 1;
    }
}
