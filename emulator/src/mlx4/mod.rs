//! ConnectX-2 and ConnectX-3, as the mlx4 drivers see them.

pub mod card;
mod clock;
pub mod commands;
pub mod data;
pub mod diagnostics;
pub mod eq;
pub mod event;
pub mod hca;
pub mod icm;
pub mod identity;
pub mod mtt;
pub mod rss;
pub mod status;
