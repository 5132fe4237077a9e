//! What every part of an HCA stands on.

use crate::{
    bus::memory::GuestMemory,
    fabric::{ethernet::Frame, port::Port},
    mlx4::{diagnostics::Diagnostics, event::Event, icm::Icm},
    trace::Trace,
    violation::{Violation, Violations},
};

/// The tables' places in ICM, as INIT_HCA gave them (drivers/net/ethernet/mellanox/mlx4/fw.c, `INIT_HCA_*_OFFSET`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Memory protection table: regions and windows.
    pub dmpt_base: u64,
    /// Base-2 logarithm of its entries.
    pub log_mpts: u8,
    /// Memory translation table.
    pub mtt_base: u64,
    /// Multicast table.
    pub mc_base: u64,
    /// Base-2 logarithm of the bytes of its entries.
    pub log_mc_entry: u8,
    /// Base-2 logarithm of its entries that are found by hash.
    pub log_mc_hash: u8,
    /// Base-2 logarithm of all its entries.
    pub log_mc_table: u8,
    /// Base-2 logarithm of the queue pairs.
    pub log_qps: u8,
    /// Base-2 logarithm of the completion queues.
    pub log_cqs: u8,
    /// Base-2 logarithm of the shared receive queues.
    pub log_srqs: u8,
    /// Whether completion queue entries have 64 bytes, not 32.
    pub cqe64: bool,
    /// Whether event queue entries have 64 bytes, not 32.
    pub eqe64: bool,
    /// Whether memory windows are enabled.
    pub windows: bool,
}

/// One HCA without its queues: what firmware commands and the data path share.
pub struct Card {
    /// Its name in lines that it prints.
    pub name: String,
    /// The guest's memory.
    pub memory: GuestMemory,
    /// The card's tables in it.
    pub icm: Icm,
    /// Where INIT_HCA put them.
    pub tables: Tables,
    /// The port.
    pub port: Port,
    /// What went wrong in queues.
    pub diagnostics: Diagnostics,
    /// What the driver did wrong.
    pub violations: Violations,
    /// What is to be told through the event queues; whoever runs the card empties it after each step.
    pub events: Vec<Event>,
    /// Ethernet frames that it has sent; whoever runs the card empties it as well.
    pub frames: Vec<Frame>,
    /// The number of the first of the special queue pairs.
    pub special_qpn: Option<u32>,
    /// Whether it has a clock, and completions can have the time.
    pub clock: bool,
    /// Whether and where the card explains what it does.
    pub trace: Trace,
}

impl Card {
    /// A card of this name that no driver has touched.
    pub fn new(name: &str, port: Port, trace: Trace) -> Self {
        Self {
            name: name.to_owned(),
            memory: GuestMemory::default(),
            icm: Icm::default(),
            tables: Tables::default(),
            port,
            diagnostics: Diagnostics::default(),
            violations: Violations::new(name),
            events: Vec::new(),
            frames: Vec::new(),
            special_qpn: None,
            clock: false,
            trace,
        }
    }

    /// Counts and prints something that no correct driver does.
    pub fn violation(
        &mut self,
        queue: impl Into<String>,
        index: Option<u64>,
        what: impl Into<String>,
        bytes: &[u8],
    ) {
        let violation = Violation { queue: queue.into(), index, what: what.into(), bytes: bytes.to_vec() };
        self.violations.report(violation);
    }

    /// Forgets what a driver gave it. Memory stays, as does the count of violations.
    pub fn reset(&mut self) {
        self.icm.clear();
        self.tables = Tables::default();
        self.port.reset();
        self.diagnostics = Diagnostics::default();
        self.events.clear();
        self.frames.clear();
        self.special_qpn = None;
    }
}
