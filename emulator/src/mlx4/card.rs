//! The state that firmware commands and the data path share.

use crate::{
    bus::memory::GuestMemory,
    fabric::{ethernet::Frame, port::Port},
    mlx4::{diagnostics::Diagnostics, event::Event, icm::Icm},
    trace::Trace,
    violation::{Violation, Violations},
};

/// The tables in ICM, as INIT_HCA set them up (drivers/net/ethernet/mellanox/mlx4/fw.c, `INIT_HCA_*_OFFSET`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Memory protection table: regions and windows.
    pub dmpt_base: u64,
    /// Base-2 logarithm of its number of entries.
    pub log_mpts: u8,
    /// Memory translation table.
    pub mtt_base: u64,
    /// Multicast table.
    pub mc_base: u64,
    /// Base-2 logarithm of the size of its entries in bytes.
    pub log_mc_entry: u8,
    /// Base-2 logarithm of the number of entries that are found by hash.
    pub log_mc_hash: u8,
    /// Base-2 logarithm of the number of all its entries.
    pub log_mc_table: u8,
    /// Base-2 logarithm of the number of queue pairs.
    pub log_qps: u8,
    /// Base-2 logarithm of the number of completion queues.
    pub log_cqs: u8,
    /// Base-2 logarithm of the number of shared receive queues.
    pub log_srqs: u8,
    /// Whether completion queue entries have 64 bytes instead of 32.
    pub cqe64: bool,
    /// Whether event queue entries have 64 bytes instead of 32.
    pub eqe64: bool,
    /// Whether memory windows are enabled.
    pub windows: bool,
}

/// A card without its queues.
pub struct Card {
    /// Its name in what is printed.
    pub name: String,
    /// The guest's memory.
    pub memory: GuestMemory,
    /// The card's tables in it.
    pub icm: Icm,
    /// Where those tables are.
    pub tables: Tables,
    /// The port.
    pub port: Port,
    /// Error counters.
    pub diagnostics: Diagnostics,
    /// Violations by the driver.
    pub violations: Violations,
    /// Events to be written to event queues. [`Hca`](crate::mlx4::hca::Hca) drains them after each access.
    pub events: Vec<Event>,
    /// Ethernet frames that it has sent. The fabric drains them.
    pub frames: Vec<Frame>,
    /// The number of the first special queue pair.
    pub special_qpn: Option<u32>,
    /// Whether it has a clock and can time-stamp completions.
    pub clock: bool,
    /// The trace.
    pub trace: Trace,
}

impl Card {
    /// A card with this name that no driver has touched.
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

    /// Reports a violation.
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

    /// Resets what drivers set up. Guest memory and the count of violations stay.
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
