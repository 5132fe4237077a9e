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

/// Builds for the guest with these arguments, and returns the names and paths of the executables.
pub(crate) fn build(arguments: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    require_target(MUSL)?;
    let (verb, rest) = arguments.split_first().ok_or("nothing to build")?;
    let mut command = cargo();
    // What runs in an emulated guest is optimised a little, with all its checks: tests compare every byte. Without debug information it
    // is smaller to build and to boot with.
    let optimised = ["--config", "profile.dev.opt-level=1", "--config", "profile.dev.debug=false"];
    command
        .args([verb, "--quiet", "--target", MUSL, "--message-format", "json-render-diagnostics"])
        .args(optimised)
        .args(rest);
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

/// Returns the guest's init, built once per run.
fn guest_init() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build_guest_init).clone()
}

fn build_guest_init() -> Result<PathBuf> {
    // A profile of its own: small enough for an initramfs, without the release profile's slow link.
    let profile =
        ["inherits=\"release\"", "lto=false", "codegen-units=16", "opt-level=1", "incremental=true"];
    let settings: Vec<String> = profile.iter().map(|setting| format!("profile.guest.{setting}")).collect();
    let mut arguments = vec![
        "build",
        "--package",
        "rdma-lab",
        "--no-default-features",
        "--bin",
        "rdma-lab-guest",
        "--profile",
        "guest",
    ];
    for setting in &settings {
        arguments.extend(["--config", setting]);
    }
    only(build(&arguments)?, "rdma-lab-guest")
}

/// Returns the emulator of cards, built once per run.
fn emulator() -> Result<PathBuf> {
    const ARGUMENTS: [&str; 7] =
        ["build", "--package", "connectx", "--bin", "connectx", "--profile", "emulator"];
    static BUILT: OnceLock<Result<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| only(build(&ARGUMENTS)?, "connectx")).clone()
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
