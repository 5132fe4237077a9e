//! Programs of the host, and where the checkout is.

use std::path::Path;

pub(crate) use rdma_lab::process::*;

/// The checkout's top folder.
pub(crate) fn checkout() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}
