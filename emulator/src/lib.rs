//! A ConnectX-3 in user space.
//!
//! A [`card::Card`] is what every part of an HCA stands on: guest memory, the tables in ICM, the event queues, the
//! port, the ledger of violations. Firmware commands change it, the data path reads it.

pub mod be;
pub mod card;
mod clock;
pub mod control;
pub mod data;
pub mod diagnostics;
pub mod eq;
pub mod ethernet;
pub mod event;
pub mod fabric;
pub mod fw;
pub mod hca;
pub mod icm;
pub mod identity;
pub mod memory;
pub mod msix;
pub mod mtt;
pub mod packet;
pub mod pci;
pub mod port;
pub mod sa;
pub mod server;
pub mod status;
pub mod switch;
pub mod trace;
pub mod violation;
