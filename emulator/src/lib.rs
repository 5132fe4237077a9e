//! ConnectX cards in user space.
//!
//! | module | what it holds |
//! |---|---|
//! | [`bus`] | what a guest attaches: the vfio-user server, PCI configuration space, MSI-X, guest memory |
//! | [`fabric`] | packets, ports, the switch and its faults, Ethernet frames, subnet administration |
//! | [`transport`] | InfiniBand transport, without the formats of any card |
//! | [`mlx4`] | ConnectX-2 and ConnectX-3 as the mlx4 drivers see them |
//! | [`device`] | a card of any model, as the bus, the fabric and the control socket use it |
//! | [`control`] | the control socket |
//! | [`trace`], [`violation`] | what a card prints |

pub mod be;
pub mod bus;
pub mod cli;
pub mod control;
pub mod device;
pub mod fabric;
pub mod mlx4;
pub mod trace;
pub mod transport;
pub mod violation;
