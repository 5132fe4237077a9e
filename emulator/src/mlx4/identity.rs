//! The identity of a card: the numbers by which drivers and tools know it.

use crate::{bus::pci::Function, fabric::port::LinkLayer};

/// The vendor: Mellanox.
const VENDOR: u16 = 0x15b3;

/// A model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// MT26428, PCI 15b3:673c: 32-byte completions, no memory windows.
    ConnectX2,
    /// MT27500, PCI 15b3:1003.
    ConnectX3,
}

/// What a card reports about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its model.
    pub model: Model,
    /// The link layer of its port.
    pub link_layer: LinkLayer,
    /// GUID of the node. The port's GUID is one more, that of the system image three more, as the vendor assigns them.
    pub node_guid: u64,
    /// Version of the firmware: major, minor, sub-minor.
    pub firmware: (u16, u16, u16),
    /// The board ID, at most 16 ASCII characters.
    pub board: String,
}

impl Identity {
    /// The identity of a card as the vendor ships it.
    pub fn new(model: Model, node_guid: u64) -> Self {
        let (firmware, board) = match model {
            Model::ConnectX2 => ((2, 9, 1000), "MT_0D90110009"),
            Model::ConnectX3 => ((2, 42, 5000), "MT_1100120019"),
        };
        Self { model, link_layer: LinkLayer::default(), node_guid, firmware, board: board.to_owned() }
    }

    /// GUID of the port.
    pub fn port_guid(&self) -> u64 {
        self.node_guid.wrapping_add(1)
    }

    /// The MAC address, derived from the port's GUID as the vendor does; never a multicast address.
    pub fn mac(&self) -> [u8; 6] {
        let [a, b, c, _, _, d, e, f] = self.port_guid().to_be_bytes();
        [a & !1, b, c, d, e, f]
    }

    /// GUID of the system image.
    pub fn system_guid(&self) -> u64 {
        self.node_guid.wrapping_add(3)
    }

    /// PCI device ID, also the device ID in NodeInfo.
    pub fn device(&self) -> u16 {
        match self.model {
            Model::ConnectX2 => 0x673c,
            Model::ConnectX3 => 0x1003,
        }
    }

    /// Hardware revision.
    pub fn revision(&self) -> u8 {
        match self.model {
            Model::ConnectX2 => 0xb0,
            Model::ConnectX3 => 0x01,
        }
    }

    /// The description of the card for configuration space.
    pub(crate) fn pci_function(&self, bars: [u64; 6]) -> Function {
        // ConnectX-2 reports an InfiniBand controller, ConnectX-3 a network controller.
        let (class, revision, speed) = match self.model {
            Model::ConnectX2 => (0x0c_0600, self.revision(), 2),
            Model::ConnectX3 => (0x02_0000, 0, 3),
        };
        Function {
            vendor: VENDOR,
            device: self.device(),
            subsystem: 0x0017,
            class,
            revision,
            bars,
            prefetchable: [false, false, true, false, false, false],
            msix_table: 0x7c000,
            msix_pending: 0x7d000,
            speed,
        }
    }
}
