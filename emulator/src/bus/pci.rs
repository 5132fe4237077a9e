//! PCI configuration space: who the device is, its BARs, its capabilities.

use super::msix::VECTORS;

/// Bytes of the configuration space.
pub const CONFIG_SIZE: usize = 4096;

/// Offsets of the capabilities. Dwords 22 and 23 (0x58 to 0x5f) must stay free: the mlx4 driver does not restore them
/// after a reset (drivers/net/ethernet/mellanox/mlx4/reset.c).
const POWER: usize = 0x40;
const EXPRESS: usize = 0x60;
const MSIX: usize = 0x9c;

/// What a device is, for its configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Vendor ID, also that of the subsystem.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Subsystem ID.
    pub subsystem: u16,
    /// Class code, 24 bits.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// The sizes of the BARs in bytes. Each is 64 bits wide, so the one after it has size 0.
    pub bars: [u64; 6],
    /// Whether a BAR is prefetchable.
    pub prefetchable: [bool; 6],
    /// The offset in BAR 0 of the MSI-X table.
    pub msix_table: u32,
    /// The offset in BAR 0 of the MSI-X pending bits.
    pub msix_pending: u32,
    /// PCI Express link speed: 2 is 5 GT/s, 3 is 8 GT/s.
    pub speed: u8,
}

/// The configuration space.
pub struct Config {
    bytes: Vec<u8>,
    writable: Vec<u8>,
}

impl Config {
    /// The configuration space of this device.
    pub fn new(function: &Function) -> Self {
        let mut config = Self { bytes: vec![0; CONFIG_SIZE], writable: vec![0; CONFIG_SIZE] };
        config.put16(0x00, function.vendor);
        config.put16(0x02, function.device);
        // Status: there is a list of capabilities.
        config.put16(0x06, 0x0010);
        config.put32(0x08, function.class << 8 | u32::from(function.revision));
        for (number, size) in function.bars.into_iter().enumerate().filter(|(_, size)| *size != 0) {
            let at = 0x10 + 4 * number;
            // Memory, 64 bits wide.
            config.put32(at, 0x4 | if function.prefetchable[number] { 0x8 } else { 0 });
            let mask = !(size - 1);
            config.allow32(at, mask as u32 & !0xf);
            config.allow32(at + 4, (mask >> 32) as u32);
        }
        config.put16(0x2c, function.vendor);
        config.put16(0x2e, function.subsystem);
        config.bytes[0x34] = POWER as u8;
        // The driver may enable memory and bus mastering, and disable interrupts by pin.
        config.allow16(0x04, 0x0546);
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
        // 8 lanes.
        let speed = function.speed;
        config.put32(EXPRESS + 0xc, 0x80 | u32::from(speed));
        config.put16(EXPRESS + 0x12, 0x80 | u16::from(speed));
        config.allow16(EXPRESS + 0x10, 0x00f3);
        config.put16(EXPRESS + 0x30, speed.into());

        config.capability(MSIX, 0x11, 0);
        config.put16(MSIX + 2, VECTORS - 1);
        config.allow16(MSIX + 2, 0xc000);
        config.put32(MSIX + 4, function.msix_table);
        config.put32(MSIX + 8, function.msix_pending);
        config
    }

    /// Reads at `offset`. Bytes outside the space read as ones.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = place(offset, at).map_or(0xff, |at| self.bytes[at]);
        }
    }

    /// Writes the writable bits at `offset`.
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

/// The offset of byte `at` of an access at `offset`, if it is inside the space.
fn place(offset: u64, at: usize) -> Option<usize> {
    usize::try_from(offset).ok()?.checked_add(at).filter(|at| *at < CONFIG_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: Function = Function {
        vendor: 0x15b3,
        device: 0x1003,
        subsystem: 0x17,
        class: 0x02_0000,
        revision: 0xb0,
        bars: [1 << 20, 0, 8 << 20, 0, 0, 0],
        prefetchable: [false, false, true, false, false, false],
        msix_table: 0x7c000,
        msix_pending: 0x7d000,
        speed: 3,
    };

    fn word(config: &Config, at: u64) -> u32 {
        let mut bytes = [0; 4];
        config.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn bars_report_their_size() {
        let mut config = Config::new(&FUNCTION);
        assert_eq!(word(&config, 0), 0x1003_15b3);
        for (bar, size, kind) in [(0x10, FUNCTION.bars[0], 0x4), (0x18, FUNCTION.bars[2], 0xc)] {
            config.write(bar, &[0xff; 8]);
            let value = u64::from(word(&config, bar)) | u64::from(word(&config, bar + 4)) << 32;
            assert_eq!(!(value & !0xf) + 1, size);
            assert_eq!(value & 0xf, kind);
        }
    }

    #[test]
    fn the_list_of_capabilities_ends() {
        let config = Config::new(&FUNCTION);
        assert_eq!(word(&config, 0), 0x1003_15b3);
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
    fn accesses_outside_the_space_do_nothing() {
        let mut config = Config::new(&FUNCTION);
        config.write(0, &[0; 4]);
        assert_eq!(word(&config, 0), 0x1003_15b3);
        config.write(u64::MAX, &[1, 2]);
        config.write(4094, &[1, 2, 3, 4]);
        let mut bytes = [0; 4];
        config.read(4094, &mut bytes);
        assert_eq!(bytes, [0, 0, 0xff, 0xff]);
    }
}
