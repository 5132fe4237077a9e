//! A card, as the bus, the fabric and the control socket use it.

use std::{fs::File, time::Duration};

use crate::{
    bus::memory::GuestMemory,
    fabric::{ethernet::Frame, packet::Packet, port::Port},
    transport::Next,
};

/// A card of any model.
pub trait Device: Send {
    /// Its name in what is printed.
    fn name(&self) -> &str;
    /// GUID of the node.
    fn node_guid(&self) -> u64;
    /// The port.
    fn port(&self) -> &Port;
    /// How many violations its driver has committed.
    fn violations(&self) -> u64;
    /// How far the driver has brought it up, in a word.
    fn stage(&self) -> &'static str;
    /// Whether a driver has started to bring it up.
    fn is_started(&self) -> bool;

    /// The sizes of BARs 0 to 5 in bytes. BARs that do not exist, and the upper halves of 64-bit ones, have 0.
    fn bars(&self) -> [u64; 6];
    /// The guest's memory.
    fn memory(&mut self) -> &mut GuestMemory;
    /// Connects an interrupt vector with an eventfd, or disconnects it.
    fn connect(&mut self, vector: u32, event: Option<File>);
    /// Masks or unmasks an interrupt vector.
    fn mask(&mut self, vector: u32, masked: bool);
    /// Reads configuration space.
    fn config_read(&self, offset: u64, bytes: &mut [u8]);
    /// Writes configuration space.
    fn config_write(&mut self, offset: u64, bytes: &[u8]);
    /// Reads a BAR.
    fn read(&mut self, now: Duration, bar: u32, offset: u64, bytes: &mut [u8]);
    /// Writes a BAR.
    fn write(&mut self, now: Duration, bar: u32, offset: u64, bytes: &[u8]);
    /// Resets the card. Guest memory and interrupts stay connected.
    fn reset(&mut self);
    /// Resets the card and forgets the guest, which is gone.
    fn detach(&mut self);

    /// Does a bounded amount of work, adds the packets to send to `out`, and returns when there is more to do.
    fn run(&mut self, now: Duration, out: &mut Vec<Packet>) -> Next;
    /// Takes a packet from the fabric.
    fn receive(&mut self, now: Duration, packet: Packet, out: &mut Vec<Packet>);
    /// Takes an Ethernet frame from the fabric.
    fn receive_frame(&mut self, now: Duration, frame: &[u8]);
    /// Takes the Ethernet frames that the card has sent.
    fn take_frames(&mut self) -> Vec<Frame>;

    /// Connects or disconnects the cable.
    fn plug(&mut self, cable: bool);
    /// Fails with a catastrophic error: the card answers nothing until it is reset.
    fn break_down(&mut self);
    /// Whether it has failed with a catastrophic error.
    fn is_broken(&self) -> bool;
    /// Leaves a firmware command without an answer: the next one, or the next with this name.
    ///
    /// # Errors
    ///
    /// There is no command with this name.
    fn stall(&mut self, command: Option<&str>) -> Result<(), String>;
    /// Makes a completion queue overrun, and returns whether it exists.
    fn overrun(&mut self, cqn: u32) -> bool;
}
