//! What a guest attaches: a PCI device, served over vfio-user.

pub mod memory;
pub mod msix;
pub mod pci;
pub mod server;
