//! Names that the C tool gives to the kernel's numbers; nothing for a number that has none.

use bareverbs::discover::Transport;
use bareverbs::{AtomicCap, PhysState, PortState};

pub(super) fn transport(transport: Transport) -> Option<&'static str> {
    if transport == Transport::UNKNOWN { None } else { transport.name() }
}

pub(super) fn port_state(state: PortState) -> Option<&'static str> {
    match state {
        PortState::DOWN => Some("PORT_DOWN"),
        PortState::INIT => Some("PORT_INIT"),
        PortState::ARMED => Some("PORT_ARMED"),
        PortState::ACTIVE => Some("PORT_ACTIVE"),
        _ => None,
    }
}

pub(super) fn phys_state(state: PhysState) -> Option<&'static str> {
    match state {
        PhysState::SLEEP => Some("SLEEP"),
        PhysState::POLLING => Some("POLLING"),
        PhysState::DISABLED => Some("DISABLED"),
        // Scripts look for the word as it is spelt there.
        PhysState::PORT_CONFIGURATION_TRAINING => Some("PORT_CONFIGURATION TRAINNING"),
        PhysState::LINK_UP => Some("LINK_UP"),
        PhysState::LINK_ERROR_RECOVERY => Some("LINK_ERROR_RECOVERY"),
        PhysState::PHY_TEST => Some("PHY TEST"),
        _ => None,
    }
}

pub(super) fn atomic_cap(cap: AtomicCap) -> Option<&'static str> {
    match cap {
        AtomicCap::NONE => Some("ATOMIC_NONE"),
        AtomicCap::HCA => Some("ATOMIC_HCA"),
        AtomicCap::GLOB => Some("ATOMIC_GLOB"),
        _ => None,
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
