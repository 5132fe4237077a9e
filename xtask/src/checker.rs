//! Building the verbs checker (`emulator/checker`), the C program that judges a device through libibverbs.

use std::path::PathBuf;
use std::process::Command;

use crate::{Result, cache, packages, process};

/// The program's name.
pub(crate) const NAME: &str = "verbscheck";

/// The checker, linked to the libraries of the C tools' image: a guest that runs it has the C tools.
///
/// The host gives the compiler alone. Headers and C library are the image's own, whatever the host's are.
pub(crate) fn build() -> Result<PathBuf> {
    let root = packages::c_development()?;
    let checkout = process::checkout();
    let folder = checkout.join("target/checker");
    cache::create(&folder)?;
    let sources = checkout.join("emulator/checker");
    let listed = std::fs::read_dir(&sources).map_err(|error| format!("{}: {error}", sources.display()))?;
    let mut sources: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    let program = folder.join(NAME);
    let mut compiler = Command::new("cc");
    compiler.env("LC_ALL", "C").arg(format!("--sysroot={}", root.display()));
    compiler
        .args(["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program);
    compiler.args(&sources).args(["-libverbs", "-pthread"]);
    let out = process::run(&mut compiler).map_err(|error| format!("{error}; the checker is written in C"))?;
    if out.status.success() {
        Ok(program)
    } else {
        Err(format!("cc {}: {}", program.display(), process::last_lines(&out.stderr, 20)))
    }
}
