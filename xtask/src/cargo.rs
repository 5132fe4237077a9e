//! Builds with cargo: static programs for guests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rdma_lab::installation::Installation;
use serde_json::Value;

use crate::{Result, process};

/// The target of programs that run in a guest.
pub(crate) const MUSL: &str = "x86_64-unknown-linux-musl";

/// Returns cargo, run in the checkout.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(process::checkout());
    command
}

/// Adds a target with rustup, unless it is installed.
pub(crate) fn require_target(target: &str) -> Result<()> {
    let listed = match process::output(Command::new("rustup").args(["target", "list", "--installed"])) {
        Ok(listed) => listed,
        // Without rustup, the build reports a missing target.
        Err(_) => return Ok(()),
    };
    if listed.lines().any(|line| line == target) {
        return Ok(());
    }
    process::output(Command::new("rustup").args(["target", "add", target]).current_dir(process::checkout()))
        .map(drop)
}

/// The packages of which programs run in guests or beside them, with the features that all their tests need. Commands with the same
/// selection share what they build.
pub(crate) const GUEST_PACKAGES: [&str; 11] = [
    "--package",
    "bareverbs",
    "--package",
    "bareverbs-cli",
    "--package",
    "connectx",
    "--package",
    "rdma-lab",
    "--no-default-features",
    "--features",
    "bareverbs/serde",
];

/// The guest's init and the emulator, by the names of their targets.
pub(crate) const GUEST_INIT: &str = "rdma-lab-guest";
pub(crate) const EMULATOR: &str = "connectx";

/// Returns cargo with a command that builds for guests.
pub(crate) fn for_guests(arguments: &[&str]) -> Command {
    let mut command = cargo();
    // What runs in an emulated guest is optimised a little, with all its checks: tests compare every byte. Without debug information it
    // is smaller to build and to boot with.
    let optimised = ["--config", "profile.dev.opt-level=1", "--config", "profile.dev.debug=false"];
    command.args(arguments).args(["--target", MUSL]).args(optimised);
    command
}

/// Builds for the guest with these arguments, and returns the names and paths of the executables.
pub(crate) fn build(arguments: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    require_target(MUSL)?;
    let mut command = for_guests(arguments);
    command.args(["--quiet", "--message-format", "json-render-diagnostics"]);
    let out = process::run(&mut command)?;
    if !out.status.success() {
        // Warnings are shown by clippy; here only errors matter.
        eprintln!("{}", String::from_utf8_lossy(&out.stderr));
        return Err(format!("cargo {} failed, see above", arguments.join(" ")));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, PathBuf::from(message["executable"].as_str()?)))
        })
        .collect())
}

/// The programs that guests need, built in the checkout, and the folder for their logs.
pub(crate) const INSTALLATION: Installation =
    Installation { guest: guest_init, emulator, logs: || Ok(process::checkout().join("target/guest-logs")) };

type Built = OnceLock<Result<PathBuf>>;

static BUILT_INIT: Built = OnceLock::new();
static BUILT_EMULATOR: Built = OnceLock::new();

/// Takes the init and the emulator from programs that were built together with others, which is quicker than one by one.
pub(crate) fn adopt(programs: &[(String, PathBuf)]) {
    for (name, path) in programs {
        let built = match name.as_str() {
            GUEST_INIT => &BUILT_INIT,
            EMULATOR => &BUILT_EMULATOR,
            _ => continue,
        };
        // One that is built already is as good.
        let _ = built.set(Ok(path.clone()));
    }
}

/// Returns the guest's init, built once per run.
fn guest_init() -> Result<PathBuf> {
    let arguments = || [&["build"], &GUEST_PACKAGES[..], &["--bin", GUEST_INIT]].concat();
    BUILT_INIT.get_or_init(|| only(build(&arguments())?, GUEST_INIT)).clone()
}

/// Returns the emulator of cards, built once per run. Measurements use one with all optimisations, tests that of [`adopt`].
fn emulator() -> Result<PathBuf> {
    let arguments = ["build", "--package", EMULATOR, "--bin", EMULATOR, "--profile", "emulator"];
    BUILT_EMULATOR.get_or_init(|| only(build(&arguments)?, EMULATOR)).clone()
}

/// Builds the static release binary `bareverbs`.
pub(crate) fn release_binary() -> Result<PathBuf> {
    only(build(&["build", "--release", "--package", "bareverbs-cli", "--bin", "bareverbs"])?, "bareverbs")
}

/// Builds a static release binary of an example.
pub(crate) fn release_example(name: &str) -> Result<PathBuf> {
    only(build(&["build", "--release", "--package", "bareverbs", "--example", name])?, name)
}

/// Returns the executable of this name.
pub(crate) fn only(built: Vec<(String, PathBuf)>, name: &str) -> Result<PathBuf> {
    let found = built.into_iter().find(|(built, _)| built == name).map(|(_, path)| path);
    found.filter(|path| Path::new(path).is_file()).ok_or_else(|| format!("cargo built no {name}"))
}
