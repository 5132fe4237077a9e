//! What this machine must have. What rustup and Debian's archive can give is installed or fetched; the rest is named at the start.

use std::process::Command;

use super::{Arguments, Part, host, siw};
use crate::{Result, cargo, compiler, packages, process};

/// Returns a line for each thing that is missing, with the command that installs it.
pub(super) fn missing(arguments: &Arguments) -> Vec<String> {
    let wants = |parts: &[Part]| parts.iter().any(|part| arguments.wants_part(*part));
    let guests = wants(&[Part::Vm, Part::Siw, Part::Nodes, Part::Cards, Part::Mlx4, Part::Driver]);
    let c = wants(&[Part::Abi, Part::Mlx4, Part::Driver]);
    let mut missing = Vec::new();
    let mut need = |wanted: bool, have: fn() -> Result<()>| {
        if wanted {
            missing.extend(have().err());
        }
    };
    need(wants(&[Part::Host]), components);
    need(wants(&[Part::Host]), || cargo::require_target(host::OTHER_TARGET));
    need(wants(&[Part::Miri]), miri);
    need(guests || wants(&[Part::Host]), || cargo::require_target(cargo::MUSL));
    need(guests || c, packages::obtainable);
    need(c, || compiler::command().map(drop));
    if wants(&[Part::Siw]) {
        let kernels: Vec<String> = siw::kernels(arguments).iter().map(ToString::to_string).collect();
        missing.extend(packages::module::obtainable(kernels.iter().map(String::as_str)).err());
    }
    missing
}

/// rustfmt and clippy of the toolchain in use.
fn components() -> Result<()> {
    let works = |name: &str| process::output(cargo::cargo().args([name, "--version"])).is_ok();
    if works("fmt") && works("clippy") {
        return Ok(());
    }
    let add = ["component", "add", "rustfmt", "clippy"];
    process::output(Command::new("rustup").args(add).current_dir(process::checkout()))
        .map(drop)
        .map_err(|error| format!("rustfmt and clippy are needed: rustup {} ({error})", add.join(" ")))
}

/// A nightly toolchain with Miri and the sources of the standard library.
fn miri() -> Result<()> {
    const INSTALL: [&str; 7] =
        ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "miri,rust-src"];
    let listed = ["component", "list", "--installed", "--toolchain", "nightly"];
    let installed = process::output(Command::new("rustup").args(listed)).unwrap_or_default();
    if ["miri", "rust-src"].iter().all(|name| installed.lines().any(|line| line.starts_with(name))) {
        return Ok(());
    }
    println!("installing a nightly toolchain with Miri");
    process::output(Command::new("rustup").args(INSTALL)).map(drop).map_err(|error| {
        format!("Miri of a nightly toolchain is needed: rustup {} ({error})", INSTALL.join(" "))
    })
}
