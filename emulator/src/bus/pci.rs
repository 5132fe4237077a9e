//! PCI configuration space: who the device is, its BARs, its capabilities.

use crate::{
    bus::msix::VECTORS,
    mlx4::identity::{Identity, Model},
};

/// Bytes of the configuration space.
pub const CONFIG_SIZE: usize = 4096;
/// Bytes of BAR 0: the firmware's registers.
pub const BAR0_SIZE: u64 = 1 << 20;
/// Bytes of BAR 2: UAR pages, then BlueFlame pages.
pub const BAR2_SIZE: u64 = 8 << 20;
/// Where in BAR 0 the MSI-X table is.
pub const MSIX_TABLE: u64 = 0x7c000;
/// Where in BAR 0 the array of pending interrupts is.
pub const MSIX_PENDING: u64 = 0x7d000;

/// The vendor: Mellanox.
const VENDOR: u16 = 0x15b3;
/// Capabilities' places; dwords 22 and 23 (0x58 to 0x5f) must stay free, because the driver leaves them out when it
/// restores the space after a reset (drivers/net/ethernet/mellanox/mlx4/reset.c).
const POWER: usize = 0x40;
const EXPRESS: usize = 0x60;
const MSIX: usize = 0x9c;

/// The configuration space.
pub struct Config {
    bytes: Vec<u8>,
    writable: Vec<u8>,
}

impl Config {
    /// The space of a card that is so identified.
    pub fn new(identity: &Identity) -> Self {
        let mut config = Self { bytes: vec![0; CONFIG_SIZE], writable: vec![0; CONFIG_SIZE] };
        config.put16(0x00, VENDOR);
        config.put16(0x02, identity.device());
        // Status: there is a list of capabilities.
        config.put16(0x06, 0x0010);
        // An InfiniBand card of the older generation, a network card of the newer.
        let class = match identity.model {
            Model::ConnectX2 => 0x0c_0600,
            Model::ConnectX3 => 0x02_0000,
        };
        let revision = if identity.model == Model::ConnectX2 { identity.revision() } else { 0 };
        config.put32(0x08, class << 8 | u32::from(revision));
        // BAR 0: memory, 64 bits. BAR 2: the same, prefetchable.
        config.put32(0x10, 0x4);
        config.put32(0x18, 0xc);
        config.put16(0x2c, VENDOR);
        config.put16(0x2e, 0x0017);
        config.bytes[0x34] = POWER as u8;
        // Memory and bus mastering may be turned on, interrupts by pin off.
        config.allow16(0x04, 0x0546);
        config.allow32(0x10, !(BAR0_SIZE as u32 - 1));
        config.allow32(0x14, u32::MAX);
        config.allow32(0x18, !(BAR2_SIZE as u32 - 1));
        config.allow32(0x1c, u32::MAX);
        config.writable[0x0c] = 0xff;
        config.writable[0x3c] = 0xff;

        config.capability(POWER, 0x01, EXPRESS);
        config.put16(POWER + 2, 0x0003);
        config.allow16(POWER + 4, 0x0003);

        config.capability(EXPRESS, 0x10, MSIX);
        // Version 2, an endpoint.
        config.put16(EXPRESS + 2, 0x0002);
        // Payloads of 256 bytes, extended tags, function-level reset.
        config.put32(EXPRESS + 4, 0x1000_8021);
        config.allow16(EXPRESS + 8, 0x70ff);
        // 8 lanes, 8 GT/s (5 GT/s).
        let speed = if identity.model == Model::ConnectX2 { 2 } else { 3 };
        config.put32(EXPRESS + 0xc, 0x80 | speed);
        config.put16(EXPRESS + 0x12, 0x80 | speed as u16);
        config.allow16(EXPRESS + 0x10, 0x00f3);
        config.put16(EXPRESS + 0x30, speed as u16);

        config.capability(MSIX, 0x11, 0);
        config.put16(MSIX + 2, VECTORS - 1);
        config.allow16(MSIX + 2, 0xc000);
        config.put32(MSIX + 4, MSIX_TABLE as u32);
        config.put32(MSIX + 8, MSIX_PENDING as u32);
        config
    }

    /// Reads at `offset`; what is outside reads as ones.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = place(offset, at).map_or(0xff, |at| self.bytes[at]);
        }
    }

    /// Writes at `offset` what may be written.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            let Some(at) = place(offset, at) else { continue };
            let mask = self.writable[at];
            self.bytes[at] = self.bytes[at] & !mask | byte & mask;
        }
    }

    fn capability(&mut self, at: usize, id: u8, next: usize) {
        self.bytes[at] = id;
        self.bytes[at + 1] = next as u8;
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow16(&mut self, at: usize, mask: u16) {
        self.writable[at..at + 2].copy_from_slice(&mask.to_le_bytes());
    }

    fn allow32(&mut self, at: usize, mask: u32) {
        self.writable[at..at + 4].copy_from_slice(&mask.to_le_bytes());
    }
}

/// Byte `at` of an access at `offset`, if it is inside.
fn place(offset: u64, at: usize) -> Option<usize> {
    usize::try_from(offset).ok()?.checked_add(at).filter(|at| *at < CONFIG_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(config: &Config, at: u64) -> u32 {
        let mut bytes = [0; 4];
        config.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn bars_tell_their_size() {
        let mut config = Config::new(&Identity::new(Model::ConnectX3, 0));
        assert_eq!(word(&config, 0), 0x1003_15b3);
        for (bar, size, kind) in [(0x10, BAR0_SIZE, 0x4), (0x18, BAR2_SIZE, 0xc)] {
            config.write(bar, &[0xff; 8]);
            let value = u64::from(word(&config, bar)) | u64::from(word(&config, bar + 4)) << 32;
            assert_eq!(!(value & !0xf) + 1, size);
            assert_eq!(value & 0xf, kind);
        }
    }

    #[test]
    fn the_list_of_capabilities_ends() {
        let config = Config::new(&Identity::new(Model::ConnectX2, 0));
        assert_eq!(word(&config, 0), 0x673c_15b3);
        assert_eq!(word(&config, 8) & 0xff, 0xb0);
        let mut seen = Vec::new();
        let mut at = word(&config, 0x34) & 0xff;
        while at != 0 {
            let head = word(&config, u64::from(at));
            seen.push(head & 0xff);
            at = head >> 8 & 0xff;
            assert!(seen.len() < 9);
        }
        assert_eq!(seen, [0x01, 0x10, 0x11]);
    }

    #[test]
    fn nothing_outside_is_written() {
        let mut config = Config::new(&Identity::new(Model::ConnectX3, 0));
        config.write(0, &[0; 4]);
        assert_eq!(word(&config, 0), 0x1003_15b3);
        config.write(u64::MAX, &[1, 2]);
        config.write(4094, &[1, 2, 3, 4]);
        let mut bytes = [0; 4];
        config.read(4094, &mut bytes);
        assert_eq!(bytes, [0, 0, 0xff, 0xff]);
    }
}
