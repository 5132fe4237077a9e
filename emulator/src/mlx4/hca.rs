//! An HCA: its registers, and what is behind them.
//!
//! BAR 0 has the firmware's registers: the HCR for commands, the reset, the buffer that reports a catastrophic error.
//! BAR 2 has doorbells: UAR pages in its first half, BlueFlame pages in its second.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    be::{get16, get32, get64, put32, put64},
    bus::{memory::GuestMemory, pci::Config},
    device::Device,
    fabric::{
        ethernet::{EthernetPort, Frame},
        packet::Packet,
        port::{LinkLayer, Port},
    },
    mlx4::{
        card::Card,
        clock,
        commands::{self, Command, Firmware, Stage},
        data_path::DataPath,
        identity::{Identity, Model},
    },
    trace::Trace,
    transport::Next,
};

/// The sizes of the BARs: in BAR 0 the firmware's registers, in BAR 2 UAR pages and then BlueFlame pages.
pub(crate) const BARS: [u64; 6] = [1 << 20, 0, 8 << 20, 0, 0, 0];
/// The offset of the command register (mlx4/cmd.c, `MLX4_HCR_BASE`), and its size in bytes.
const HCR: u64 = 0x80680;
const HCR_SIZE: usize = 0x1c;
/// The last of its words, which starts a command: status, go, event, toggle, op modifier, opcode (`HCR_*`).
const HCR_STATUS: usize = 0x18;
const GO: u32 = 1 << 23;
const EVENT: u32 = 1 << 22;
const TOGGLE: u32 = 1 << 21;
/// The semaphore of the driver that owns the card (mlx4/main.c, `MLX4_OWNER_BASE`).
const OWNER: u64 = 0x8069c;
/// The reset register, and its semaphore (mlx4/reset.c).
const RESET: u64 = 0xf0010;
const SEMAPHORE: u64 = 0xf03fc;
/// Clears an interrupt by pin: two words.
pub(crate) const CLEAR_INTERRUPT: u64 = 0xf00d8;
/// The buffer that is not 0 after a catastrophic error, and its size in words.
pub(crate) const CATASTROPHE: u64 = 0x1f020;
pub(crate) const CATASTROPHE_WORDS: u32 = 16;
/// Doorbells of event queues: four in each UAR page from here on (mlx4/eq.c, `mlx4_get_eq_uar`).
const EQ_DOORBELLS: std::ops::Range<u64> = 0x800..0x820;
const UAR_PAGE: u64 = 4096;
/// UAR pages are in the first half of BAR 2.
const UARS: u64 = BARS[2] / 2;

/// An HCA.
pub struct Hca {
    /// The state that firmware and data path share.
    pub card: Card,
    /// The firmware.
    pub firmware: Firmware,
    /// The queues.
    pub(crate) data: DataPath,
    config: Config,
    hcr: [u8; HCR_SIZE],
    semaphores: BTreeSet<u64>,
    catastrophe: bool,
}

impl Hca {
    /// A card after power-on.
    pub fn new(name: &str, identity: Identity, lid: u16, sm_lid: u16, trace: Trace) -> Self {
        let mut port = Port::new(identity.port_guid(), lid, sm_lid);
        if identity.link_layer == LinkLayer::Ethernet {
            port.ethernet = Some(Box::new(EthernetPort::new(identity.mac())));
        }
        let config = Config::new(&identity.pci_function(BARS));
        let clock = identity.model == Model::ConnectX3;
        let mut hca = Self {
            card: Card { clock, ..Card::new(name, port, trace) },
            firmware: Firmware::new(identity),
            data: DataPath::default(),
            config,
            hcr: [0; HCR_SIZE],
            semaphores: BTreeSet::new(),
            catastrophe: false,
        };
        commands::mad::reset(&mut hca);
        hca
    }

    /// CLOSE_HCA: removes all queues and tables.
    pub(crate) fn close(&mut self) {
        self.data = DataPath::default();
        self.card.events.clear();
        self.card.frames.clear();
        self.card.special_qpn = None;
        self.firmware.stage = Stage::Running;
        self.firmware.eqs = crate::mlx4::eq::EventQueues::default();
        self.card.tables = crate::mlx4::card::Tables::default();
    }

    /// Writes pending events to the event queues.
    pub fn settle(&mut self) {
        if self.catastrophe {
            self.card.events.clear();
        }
        self.firmware.tell(&mut self.card);
    }

    fn write_register(&mut self, now: Duration, offset: u64, bytes: &[u8]) {
        let hcr = offset.checked_sub(HCR).and_then(|at| usize::try_from(at).ok()).filter(|at| *at < HCR_SIZE);
        match (hcr, offset, bytes.len()) {
            (Some(at), _, 4) if at % 4 == 0 => self.write_hcr(now, at, bytes),
            (Some(_), ..) => {
                self.card.violation("HCR", None, "a write that is not one aligned word", bytes);
            }
            (None, RESET, 4) if get32(bytes, 0) == 1 => self.reset(),
            // Any write releases a semaphore.
            (None, SEMAPHORE | OWNER, _) => drop(self.semaphores.remove(&offset)),
            // Interrupts are messages; there is nothing to clear.
            (None, CLEAR_INTERRUPT.., 4) if offset < CLEAR_INTERRUPT + 8 => {}
            _ => self.card.violation("BAR 0", Some(offset), "a write where there is no register", bytes),
        }
    }

    fn write_hcr(&mut self, now: Duration, at: usize, bytes: &[u8]) {
        let status = get32(&self.hcr, HCR_STATUS);
        if status & GO != 0 {
            self.card.violation("HCR", None, "a write while a command runs", bytes);
            return;
        }
        if at < HCR_STATUS {
            self.hcr[at..at + 4].copy_from_slice(bytes);
            return;
        }
        let word = get32(bytes, 0);
        if word & GO == 0 {
            self.card.violation("HCR", None, "a command without its go bit", bytes);
            return;
        }
        if word & TOGGLE == status & TOGGLE {
            self.card.violation("HCR", None, "a command whose toggle bit is that of the one before", bytes);
        }
        if word >> 24 != 0 {
            self.card.violation("HCR", None, "a command with a status", bytes);
        }
        let command = Command {
            opcode: (word & 0xfff) as u16,
            op_modifier: (word >> 12 & 0xf) as u8,
            modifier: get32(&self.hcr, 0x08),
            in_param: get64(&self.hcr, 0x00),
            out_param: get64(&self.hcr, 0x0c),
            token: get16(&self.hcr, 0x14),
            event: word & EVENT != 0,
        };
        put32(&mut self.hcr, HCR_STATUS, word);
        if self.catastrophe {
            return;
        }
        let Some(answer) = commands::execute(self, now, &command) else { return };
        let (status, out) = match answer {
            Ok(out) => (0, out),
            Err(status) => (u32::from(status as u8), 0),
        };
        if !command.event {
            put64(&mut self.hcr, 0x0c, out);
        }
        put32(&mut self.hcr, HCR_STATUS, word & !GO & 0xff_ffff | status << 24);
    }

    fn write_doorbell(&mut self, offset: u64, bytes: &[u8]) {
        if self.firmware.stage != Stage::Initialised {
            // The kernel's driver and programs still ring doorbells while a card is being reset. They have no effect.
            self.card.trace.line(format_args!("doorbell at {offset:#x}: there are no queues"));
            return;
        }
        if offset < UARS && EQ_DOORBELLS.contains(&(offset % UAR_PAGE)) {
            self.write_eq_doorbell(offset, bytes);
        } else {
            self.data.uar_write(&mut self.card, offset, bytes);
        }
    }

    fn write_eq_doorbell(&mut self, offset: u64, bytes: &[u8]) {
        let within = offset % UAR_PAGE - EQ_DOORBELLS.start;
        if bytes.len() != 4 || !within.is_multiple_of(8) {
            let what = "an event queue's doorbell that is not one word";
            self.card.violation("UAR", Some(offset), what, bytes);
            return;
        }
        let eqn = u32::try_from(offset / UAR_PAGE * 4 + within / 8).unwrap_or(u32::MAX);
        self.firmware.eqs.doorbell(&mut self.card, &mut self.firmware.msix, eqn, get32(bytes, 0));
    }
}

impl Device for Hca {
    fn name(&self) -> &str {
        &self.card.name
    }

    fn node_guid(&self) -> u64 {
        self.firmware.identity.node_guid
    }

    fn port(&self) -> &Port {
        &self.card.port
    }

    fn violations(&self) -> u64 {
        self.card.violations.count()
    }

    fn stage(&self) -> &'static str {
        match self.firmware.stage {
            Stage::Reset => "Reset",
            Stage::Running => "Running",
            Stage::Initialised => "Initialised",
        }
    }

    fn is_started(&self) -> bool {
        self.firmware.stage != Stage::Reset
    }

    fn bars(&self) -> [u64; 6] {
        BARS
    }

    fn memory(&mut self) -> &mut GuestMemory {
        &mut self.card.memory
    }

    fn take_frames(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.card.frames)
    }

    fn reset(&mut self) {
        self.card.trace.line(format_args!("reset"));
        self.card.reset();
        self.firmware.reset();
        self.data = DataPath::default();
        self.hcr = [0; HCR_SIZE];
        self.semaphores.clear();
        self.catastrophe = false;
        commands::mad::reset(self);
    }

    fn detach(&mut self) {
        self.reset();
        self.card.memory.clear();
        self.firmware.msix.clear();
        self.config = Config::new(&self.firmware.identity.pci_function(BARS));
    }

    fn connect(&mut self, number: u32, event: Option<std::fs::File>) {
        self.firmware.msix.connect(number, event);
    }

    fn mask(&mut self, number: u32, masked: bool) {
        self.firmware.msix.mask(number, masked);
    }

    fn config_read(&self, offset: u64, bytes: &mut [u8]) {
        self.config.read(offset, bytes);
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.config.write(offset, bytes);
    }

    fn read(&mut self, now: Duration, bar: u32, offset: u64, bytes: &mut [u8]) {
        bytes.fill(0);
        if bar != 0 || offset.checked_add(bytes.len() as u64).is_none_or(|end| end > BARS[0]) {
            // Doorbells read as zeros.
            return;
        }
        if matches!(offset, SEMAPHORE | OWNER) && bytes.len() == 4 {
            // A reader that gets 0 has acquired it.
            put32(bytes, 0, u32::from(!self.semaphores.insert(offset)));
        }
        let catastrophe: &[u8] = if self.catastrophe { &[0, 0, 0, 1] } else { &[] };
        let ticks = if self.card.clock { clock::ticks(now).to_be_bytes() } else { [0; 8] };
        for (base, register) in
            [(HCR, self.hcr.as_slice()), (CATASTROPHE, catastrophe), (clock::REGISTER, &ticks)]
        {
            for (at, byte) in bytes.iter_mut().enumerate() {
                let within =
                    (offset + at as u64).checked_sub(base).and_then(|within| usize::try_from(within).ok());
                if let Some(value) = within.and_then(|within| register.get(within)) {
                    *byte = *value;
                }
            }
        }
    }

    fn write(&mut self, now: Duration, bar: u32, offset: u64, bytes: &[u8]) {
        match bar {
            0 => self.write_register(now, offset, bytes),
            2 if self.catastrophe => {}
            2 => self.write_doorbell(offset, bytes),
            _ => {}
        }
        self.settle();
    }

    fn run(&mut self, now: Duration, out: &mut Vec<Packet>) -> Next {
        if self.catastrophe || self.firmware.stage != Stage::Initialised {
            return Next::Idle;
        }
        let next = self.data.run(&mut self.card, now, out);
        self.settle();
        next
    }

    fn receive(&mut self, now: Duration, packet: Packet, out: &mut Vec<Packet>) {
        if self.catastrophe || self.firmware.stage != Stage::Initialised {
            return;
        }
        self.data.receive(&mut self.card, now, packet, out);
        self.settle();
    }

    fn receive_frame(&mut self, now: Duration, frame: &[u8]) {
        if self.catastrophe || self.firmware.stage != Stage::Initialised {
            return;
        }
        self.data.receive_frame(&mut self.card, now, frame);
        self.settle();
    }

    fn break_down(&mut self) {
        self.card.trace.line(format_args!("catastrophic error, as ordered"));
        self.catastrophe = true;
    }

    fn stall(&mut self, command: Option<&str>) -> Result<(), String> {
        let opcode =
            |name: &str| commands::opcode(name).ok_or_else(|| format!("{name}: no such firmware command"));
        self.firmware.stall = Some(command.map(opcode).transpose()?);
        Ok(())
    }

    fn is_broken(&self) -> bool {
        self.catastrophe
    }

    fn overrun(&mut self, cqn: u32) -> bool {
        let found = self.data.cqs.overrun(&mut self.card, cqn);
        self.settle();
        found
    }

    fn plug(&mut self, cable: bool) {
        let before = self.card.port.is_active();
        self.card.port.cable = cable;
        let active = self.card.port.is_active();
        if before != active {
            self.card.events.push(crate::mlx4::event::Event::Port { active });
            self.settle();
        }
    }
}
