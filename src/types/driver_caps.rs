//! What only a device's driver says of it.

/// What a driver says of its device beside the kernel's own answer; zeros where it says nothing, or is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DriverCaps {
    /// The most bytes of one large segment (`tso_caps`).
    pub max_tso: u32,
    /// Types of queue pairs that send such (`tso_caps.supported_qpts`).
    pub tso_qpts: u32,
    /// Functions that spread what comes over queues (`rss_caps.rx_hash_function`).
    pub rx_hash_function: u8,
    /// Fields of headers that they take in (`rss_caps.rx_hash_fields_mask`).
    pub rx_hash_fields_mask: u64,
}
