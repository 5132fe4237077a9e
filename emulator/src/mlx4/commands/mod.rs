//! The firmware: commands.
//!
//! A command is seven words in BAR 0, the HCR. Its arguments are an address or a number, a modifier, and perhaps a
//! mailbox of up to 4 KiB in guest memory. `table` lists the commands, each with the state that it requires, the
//! sizes of its mailboxes and its handler. There is a file for each family.

mod adapter;
mod eq;
mod ethernet;
mod icm;
mod init;
pub mod mad;
pub mod mcg;
mod misc;
mod mpt;
mod port;
mod queues;
mod reserved;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use crate::{
    bus::msix::Msix,
    mlx4::{eq::EventQueues, event::Event, hca::Hca, identity::Identity, status::Status},
};

pub use table::{name, opcode};

/// How far the driver has brought the card up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The firmware has no memory yet.
    Reset,
    /// RUN_FW is done.
    Running,
    /// INIT_HCA is done: there are tables and queues.
    Initialised,
}

/// A firmware command as the driver posted it (mlx4/cmd.c, `mlx4_cmd_post`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Opcode.
    pub opcode: u16,
    /// Opcode modifier.
    pub op_modifier: u8,
    /// Input modifier.
    pub modifier: u32,
    /// The address of the input mailbox, or an immediate value.
    pub in_param: u64,
    /// The address of the output mailbox.
    pub out_param: u64,
    /// The token in the completion event.
    pub token: u16,
    /// Whether its completion is reported by an event.
    pub event: bool,
}

/// A command with its input mailbox and the time.
pub(crate) struct Call<'a> {
    pub(crate) now: Duration,
    pub(crate) command: &'a Command,
    pub(crate) input: &'a [u8],
}

impl Call<'_> {
    pub(crate) fn modifier(&self) -> u32 {
        self.command.modifier
    }

    pub(crate) fn op_modifier(&self) -> u8 {
        self.command.op_modifier
    }

    /// The first `N` bytes of the input mailbox, which the command table says it has.
    pub(crate) fn array<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        let length = N.min(self.input.len());
        bytes[..length].copy_from_slice(&self.input[..length]);
        bytes
    }
}

/// The result of a handler: the immediate output, or a status.
pub(crate) type Answer = Result<u64, Status>;

/// The state of the firmware.
pub struct Firmware {
    /// The identity of the card.
    pub identity: Identity,
    /// How far the driver has brought it up.
    pub stage: Stage,
    /// The event queues.
    pub(crate) eqs: EventQueues,
    /// The interrupts.
    pub(crate) msix: Msix,
    /// The number of pages from MAP_FA.
    fa_pages: u64,
    /// The number of pages from MAP_ICM_AUX, and the number that it needs.
    aux_pages: u64,
    aux_needed: u64,
    /// The mailbox of INIT_HCA, for QUERY_HCA.
    init_hca: Vec<u8>,
    /// Memory protection entries that SW2HW_MPT has passed to the card, and whether it still owns them.
    mpts: BTreeMap<u32, bool>,
    /// The node description from SET_NODE.
    node_description: [u8; 64],
    /// A command that gets no answer: the next one, or the next with an opcode.
    pub(crate) stall: Option<Option<u16>>,
}

impl Firmware {
    /// The firmware of a card after power-on.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            stage: Stage::Reset,
            eqs: EventQueues::default(),
            msix: Msix::default(),
            fa_pages: 0,
            aux_pages: 0,
            aux_needed: 0,
            init_hca: Vec::new(),
            mpts: BTreeMap::new(),
            node_description: [0; 64],
            stall: None,
        }
    }

    /// Resets what drivers set up. Interrupts stay connected.
    pub fn reset(&mut self) {
        let msix = std::mem::take(&mut self.msix);
        *self = Self { msix, ..Self::new(self.identity.clone()) };
    }

    /// Writes pending events to the event queues.
    pub(crate) fn tell(&mut self, card: &mut crate::mlx4::card::Card) {
        while !card.events.is_empty() {
            for event in std::mem::take(&mut card.events) {
                self.eqs.push(card, &mut self.msix, &event);
            }
        }
    }
}

/// Executes a command, and returns its result; `None` if it is to get no answer.
pub(crate) fn execute(hca: &mut Hca, now: Duration, command: &Command) -> Option<Answer> {
    let stalled =
        hca.firmware.stall.is_some_and(|opcode| opcode.is_none_or(|opcode| opcode == command.opcode));
    if stalled {
        hca.firmware.stall = None;
        hca.card.trace.line(format_args!("{}: no answer, as ordered", describe(command)));
        return None;
    }
    let answer = table::run(hca, now, command);
    if hca.card.trace.on() {
        let text = describe(command);
        match answer {
            Ok(0) => hca.card.trace.line(format_args!("{text}: OK")),
            Ok(out) => hca.card.trace.line(format_args!("{text}: OK, {out:#x}")),
            Err(status) => hca.card.trace.line(format_args!("{text}: {status}")),
        }
    }
    if command.event {
        let (status, out) = match answer {
            Ok(out) => (0, out),
            Err(status) => (status as u8, 0),
        };
        hca.card.events.push(Event::Command { token: command.token, status, out });
    }
    Some(answer)
}

/// Describes a command for the trace.
fn describe(command: &Command) -> String {
    let mut text = match name(command.opcode) {
        Some(name) => name.to_owned(),
        None => format!("command {:#x}", command.opcode),
    };
    if command.modifier != 0 {
        text += &format!(" {} {:#x}", table::unit(command.opcode), command.modifier);
    }
    if command.op_modifier != 0 {
        text += &format!(" variant {}", command.op_modifier);
    }
    for (label, value) in [("in", command.in_param), ("out", command.out_param)] {
        if value != 0 {
            text += &format!(" {label} {value:#x}");
        }
    }
    text
}
