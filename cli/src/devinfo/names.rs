//! Names that the C tool gives to the kernel's numbers; nothing for a number that has none.

use bareverbs::{AtomicCap, LinkLayer, PhysState, PortState};

pub(super) fn port_state(state: PortState) -> Option<&'static str> {
    match state {
        PortState::Down => Some("PORT_DOWN"),
        PortState::Init => Some("PORT_INIT"),
        PortState::Armed => Some("PORT_ARMED"),
        PortState::Active => Some("PORT_ACTIVE"),
        _ => None,
    }
}

pub(super) fn phys_state(state: PhysState) -> Option<&'static str> {
    match state {
        PhysState::Sleep => Some("SLEEP"),
        PhysState::Polling => Some("POLLING"),
        PhysState::Disabled => Some("DISABLED"),
        // Scripts look for the word as it is spelt there.
        PhysState::Training => Some("PORT_CONFIGURATION TRAINNING"),
        PhysState::LinkUp => Some("LINK_UP"),
        PhysState::Recovery => Some("LINK_ERROR_RECOVERY"),
        PhysState::Test => Some("PHY TEST"),
        PhysState::Other(_) => None,
    }
}

pub(super) fn atomic_cap(cap: AtomicCap) -> Option<&'static str> {
    match cap {
        AtomicCap::None => Some("ATOMIC_NONE"),
        AtomicCap::Hca => Some("ATOMIC_HCA"),
        AtomicCap::Global => Some("ATOMIC_GLOB"),
        _ => None,
    }
}

pub(super) fn link_layer(layer: LinkLayer) -> Option<&'static str> {
    match layer {
        LinkLayer::Unspecified => Some("Unspecified"),
        LinkLayer::InfiniBand => Some("InfiniBand"),
        LinkLayer::Ethernet => Some("Ethernet"),
        LinkLayer::Other(_) => None,
    }
}

/// Lanes of a link.
pub(super) fn lanes(width: u8) -> Option<u8> {
    match width {
        1 => Some(1),
        2 => Some(4),
        4 => Some(8),
        8 => Some(12),
        16 => Some(2),
        _ => None,
    }
}

/// Gbit/s of a lane.
pub(super) fn gbps(speed: u8) -> Option<f64> {
    match speed {
        1 => Some(2.5),
        2 => Some(5.0),
        4 | 8 => Some(10.0),
        16 => Some(14.0),
        32 => Some(25.0),
        64 => Some(50.0),
        128 => Some(100.0),
        _ => None,
    }
}

/// Virtual lanes.
pub(super) fn virtual_lanes(number: u8) -> Option<u8> {
    match number {
        1 => Some(1),
        2 => Some(2),
        3 => Some(4),
        4 => Some(8),
        5 => Some(15),
        _ => None,
    }
}
