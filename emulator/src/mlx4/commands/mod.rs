//! The firmware: what the card does for commands.
//!
//! A command is seven words in BAR 0, the HCR; its arguments are an address or a number, a modifier, perhaps a
//! mailbox of up to 4 KiB in the guest's memory. [`table`] lists the commands, each with the state that it needs, the
//! bytes of its mailboxes and its handler. There is a file for each family.

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
    /// What to do.
    pub opcode: u16,
    /// A variant of it.
    pub op_modifier: u8,
    /// What to do it to: a number.
    pub modifier: u32,
    /// The address of the mailbox that it reads, or a number.
    pub in_param: u64,
    /// The address of the mailbox that it writes.
    pub out_param: u64,
    /// What the event of its end carries.
    pub token: u16,
    /// Whether its end is told by an event.
    pub event: bool,
}

/// A command with the mailbox that it reads.
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

    /// The first `N` bytes of the mailbox; the table has it that they are there.
    pub(crate) fn array<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        let length = N.min(self.input.len());
        bytes[..length].copy_from_slice(&self.input[..length]);
        bytes
    }
}

/// What a handler gives back: the immediate result, or a status.
pub(crate) type Answer = Result<u64, Status>;

/// The firmware's own state.
pub struct Firmware {
    /// Which card this is.
    pub identity: Identity,
    /// How far it has been brought up.
    pub stage: Stage,
    /// The event queues.
    pub(crate) eqs: EventQueues,
    /// The interrupts.
    pub(crate) msix: Msix,
    /// Pages that the firmware got by MAP_FA.
    fa_pages: u64,
    /// Pages that it got by MAP_ICM_AUX, and those that it needs.
    aux_pages: u64,
    aux_needed: u64,
    /// The mailbox of INIT_HCA, for QUERY_HCA.
    init_hca: Vec<u8>,
    /// Memory protection entries that commands have given to the card, and whether it has them still.
    mpts: BTreeMap<u32, bool>,
    /// What SET_NODE put there, zeros before.
    node_description: [u8; 64],
    /// A command that shall not end, by opcode; the next one for none.
    pub(crate) stall: Option<Option<u16>>,
}

impl Firmware {
    /// The firmware of a card that has just got power.
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

    /// Forgets what a driver gave it; the interrupts' descriptors are not the driver's.
    pub fn reset(&mut self) {
        let msix = std::mem::take(&mut self.msix);
        *self = Self { msix, ..Self::new(self.identity.clone()) };
    }

    /// Tells events through the event queues.
    pub(crate) fn tell(&mut self, card: &mut crate::mlx4::card::Card) {
        while !card.events.is_empty() {
            for event in std::mem::take(&mut card.events) {
                self.eqs.push(card, &mut self.msix, &event);
            }
        }
    }
}

/// Carries a command out, if it is not one that shall stay without an answer, and gives its status and result.
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

/// A command in a line of the trace.
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
