//! A guest in a file, with a driver that posts as libmlx4 does.

mod cq;
mod qp;
mod srq;
mod world;
mod wqe;

use std::time::Duration;

pub(crate) use self::{
    cq::{Cq, outcome},
    qp::{Qp, QpInit},
    srq::Srq,
    world::World,
    wqe::Wqe,
};
use super::super::{data_path::DataPath, mpt::Rights};
use crate::{
    be::{put24, put32, put64},
    fabric::port::Port,
    mlx4::card::{Card, Tables},
    trace::Trace,
};

pub(crate) const PD: u32 = 5;
pub(crate) const UAR: u32 = 3;
/// The XRC bit of queue pair numbers.
pub(crate) const XRC: u32 = 1 << 23;
const PAGE: u64 = 4096;
const MEMORY: u64 = 32 << 20;
const MPT_BASE: u64 = 0;
const MTT_BASE: u64 = 0x10_0000;
const MC_BASE: u64 = 0x20_0000;
const ALL: u32 = 0xfc00;

/// One guest with its card.
pub(crate) struct Guest {
    pub(crate) card: Card,
    pub(crate) data: DataPath,
    /// The time of the world that the guest is in.
    pub(crate) now: Duration,
    free: u64,
    next_mtt: u64,
    next_number: u32,
}

/// Memory that is contiguous for the guest's program, but not for the card.
#[derive(Clone)]
pub(crate) struct Buffer {
    pages: Vec<u64>,
    mtt: u64,
}

pub(crate) struct Mr {
    pub(crate) key: u32,
    pub(crate) address: u64,
    buffer: Buffer,
}

impl Guest {
    fn new(lid: u16) -> Self {
        let mut port = Port::new(0x0002_c903_0000_0000 | u64::from(lid), lid, 1);
        port.enabled = true;
        let mut card = Card::new(&format!("hca{lid}"), port, Trace::default());
        let file = crate::bus::memory::tests::file(MEMORY);
        card.memory.map(0x1000_0000, MEMORY, file, 0).unwrap();
        card.tables = Tables {
            dmpt_base: MPT_BASE,
            log_mpts: 10,
            mtt_base: MTT_BASE,
            mc_base: MC_BASE,
            log_mc_entry: 9,
            log_mc_hash: 4,
            log_mc_table: 5,
            log_qps: 10,
            log_cqs: 10,
            log_srqs: 10,
            windows: true,
            ..Tables::default()
        };
        let mut guest = Self {
            card,
            data: DataPath::default(),
            now: Duration::ZERO,
            free: 0x1000_0000,
            next_mtt: 0,
            next_number: 0x40,
        };
        for (base, bytes) in [(MPT_BASE, 0x1_0000), (MTT_BASE, 0x2_0000), (MC_BASE, 0x4000)] {
            for page in 0..bytes / PAGE {
                let dma = guest.page();
                guest.card.icm.map(base + page * PAGE, dma);
            }
        }
        // The driver owns all entries at first.
        for index in 0..1 << 10 {
            let place = MPT_BASE + index * 64;
            guest.card.icm.write(&guest.card.memory, place, &[0xf0, 0, 0, 0]).unwrap();
        }
        guest
    }

    fn page(&mut self) -> u64 {
        self.free += PAGE;
        self.free - PAGE
    }

    fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    pub(crate) fn buffer(&mut self, bytes: u64) -> Buffer {
        let mut pages: Vec<u64> = (0..bytes.div_ceil(PAGE).max(1)).map(|_| self.page()).collect();
        pages.reverse();
        let mtt = self.next_mtt;
        for page in &pages {
            let place = MTT_BASE + self.next_mtt;
            self.card.icm.write(&self.card.memory, place, &(page | 1).to_be_bytes()).unwrap();
            self.next_mtt += 8;
        }
        Buffer { pages, mtt }
    }

    pub(crate) fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min((PAGE - at % PAGE) as usize));
            let dma = buffer.pages[(at / PAGE) as usize] + at % PAGE;
            self.card.memory.write(dma, part).unwrap();
            at += part.len() as u64;
            rest = after;
        }
    }

    pub(crate) fn read(&self, buffer: &Buffer, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let (mut at, mut rest) = (offset, &mut bytes[..]);
        while !rest.is_empty() {
            let (part, after) = rest.split_at_mut(rest.len().min((PAGE - at % PAGE) as usize));
            let dma = buffer.pages[(at / PAGE) as usize] + at % PAGE;
            self.card.memory.read(dma, part).unwrap();
            at += part.len() as u64;
            rest = after;
        }
        bytes
    }

    /// Removes the translation of a buffer's first page.
    fn lose(&self, buffer: &Buffer) {
        self.card.icm.write(&self.card.memory, MTT_BASE + buffer.mtt, &[0; 8]).unwrap();
    }

    /// Removes pages of a region while its key still covers them.
    pub(crate) fn lose_pages(&self, mr: &Mr) {
        self.lose(&mr.buffer);
    }

    pub(crate) fn mr(&mut self, bytes: u64) -> Mr {
        self.mr_with(bytes, ALL, PD)
    }

    pub(crate) fn mr_with(&mut self, bytes: u64, rights: u32, pd: u32) -> Mr {
        let buffer = self.buffer(bytes);
        let index = self.number();
        let address = 0x7f00_0000_0000 + u64::from(index) * 0x100_0000;
        let mut entry = [0; 64];
        put32(&mut entry, 0x00, 1 << 17 | 1 << 8 | rights);
        put32(&mut entry, 0x08, index);
        put32(&mut entry, 0x0c, pd | 3 << 24);
        put64(&mut entry, 0x10, address);
        put64(&mut entry, 0x18, bytes);
        put64(&mut entry, 0x2c, buffer.mtt);
        put32(&mut entry, 0x38, 12);
        self.set_mpt(index, &entry);
        Mr { key: index << 8, address, buffer }
    }

    pub(crate) fn set_mpt(&self, index: u32, entry: &[u8; 64]) {
        self.card.icm.write(&self.card.memory, MPT_BASE + u64::from(index) * 64, entry).unwrap();
    }

    pub(crate) fn mpt(&self, key: u32) -> [u8; 64] {
        let mut entry = [0; 64];
        let place = MPT_BASE + u64::from(key >> 8) * 64;
        self.card.icm.read(&self.card.memory, place, &mut entry).unwrap();
        entry
    }

    /// An unbound window of type 1 or 2.
    pub(crate) fn window(&mut self, type_2: bool) -> u32 {
        let index = self.number();
        let mut entry = [0; 64];
        put32(&mut entry, 0x08, index);
        put32(&mut entry, 0x0c, PD);
        if type_2 {
            put32(&mut entry, 0x00, 3 << 28);
            put32(&mut entry, 0x04, 1 << 7);
            put32(&mut entry, 0x0c, PD | 3 << 24);
        }
        self.set_mpt(index, &entry);
        index << 8
    }

    pub(crate) fn fill(&self, mr: &Mr, offset: u64, bytes: &[u8]) {
        self.write(&mr.buffer, offset, bytes);
    }

    pub(crate) fn bytes(&self, mr: &Mr, offset: u64, length: usize) -> Vec<u8> {
        self.read(&mr.buffer, offset, length)
    }

    pub(crate) fn uar(&mut self, offset: u64, bytes: &[u8]) {
        self.data.uar_write(&mut self.card, offset, bytes);
    }

    /// The pages of a region.
    pub(crate) fn translation(&self, mr: &Mr) -> Vec<u64> {
        mr.buffer.pages.clone()
    }

    pub(crate) fn write_mcg(&self, index: u64, mgid: &[u8; 16], qpns: &[u32]) {
        let mut entry = [0; 512];
        put24(&mut entry, 4, qpns.len() as u32);
        entry[16..32].copy_from_slice(mgid);
        for (at, qpn) in qpns.iter().enumerate() {
            put32(&mut entry, 32 + 4 * at, *qpn);
        }
        self.card.icm.write(&self.card.memory, MC_BASE + index * 512, &entry).unwrap();
    }
}

/// Rights of regions.
pub(crate) fn rights(rights: &[Rights]) -> u32 {
    rights.iter().fold(0, |all, right| all | right.0)
}
