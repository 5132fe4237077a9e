//! Where this package's own programs and the logs of its guests are.
//!
//! Guests need two programs of this package: the init, which runs inside each, and the emulator of their cards. An installed
//! `rdma-lab` finds both beside itself. A program that builds them itself says so with [`set`].

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::{Result, cache, process};

/// The program that runs in a guest as process 1.
pub const GUEST: &str = "rdma-lab-guest";

/// The emulator of ConnectX cards.
pub const EMULATOR: &str = "rdma-lab-emulator";

/// Finds the programs and the folder for logs. Each function is called when its answer is needed, and may be slow.
#[derive(Debug, Clone, Copy)]
pub struct Installation {
    /// Returns the path of [`GUEST`].
    pub guest: fn() -> Result<PathBuf>,
    /// Returns the path of [`EMULATOR`].
    pub emulator: fn() -> Result<PathBuf>,
    /// Returns the folder for the logs of guests and emulators; it is created if it does not exist.
    pub logs: fn() -> Result<PathBuf>,
}

impl Default for Installation {
    /// Programs beside the running one or in PATH, logs in the cache.
    fn default() -> Self {
        Self {
            guest: || installed(GUEST),
            emulator: || installed(EMULATOR),
            logs: || Ok(cache::root()?.join("logs")),
        }
    }
}

static CURRENT: OnceLock<Installation> = OnceLock::new();

/// Replaces the default installation of this process.
///
/// # Errors
///
/// The installation was set or used before.
pub fn set(installation: Installation) -> Result<()> {
    CURRENT.set(installation).map_err(|_| "the installation is in use already".to_owned())
}

/// Returns the installation of this process.
pub fn current() -> &'static Installation {
    CURRENT.get_or_init(Installation::default)
}

fn installed(name: &str) -> Result<PathBuf> {
    let running = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let beside = running.with_file_name(name);
    if beside.is_file() {
        return Ok(beside);
    }
    process::find(name).ok_or_else(|| {
        format!("{name}: neither beside {} nor in PATH; `cargo install` puts both there", running.display())
    })
}
