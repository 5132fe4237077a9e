//! Building the verbs checker (`emulator/checker`), the C program that judges a device through libibverbs.

use std::path::PathBuf;

use crate::{Result, cache, compiler, packages, process};

/// The name of the program.
pub(crate) const NAME: &str = "verbscheck";

/// Builds the checker if `name` is its name.
pub(crate) fn named(name: &str) -> Option<Result<PathBuf>> {
    (name == NAME).then(build)
}

/// Builds the checker.
pub(crate) fn build() -> Result<PathBuf> {
    let folder = process::checkout().join("emulator/checker");
    let listed = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut sources: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    // At -O2 its random scripts report differences that -O1 does not show.
    compile(NAME, &sources, "-O1")
}

/// Builds a program of libibverbs, linked to the libraries of the C tools' image, so that a guest that runs it must have the C tools.
///
/// Only the compiler may be the host's. Headers and C library are the image's own.
pub(crate) fn compile(name: &str, sources: &[PathBuf], level: &str) -> Result<PathBuf> {
    let root = packages::c_development()?;
    let folder = process::checkout().join("target/checker");
    cache::create(&folder)?;
    let program = folder.join(name);
    let mut compiler = compiler::command()?;
    compiler.arg(format!("--sysroot={}", root.display()));
    compiler
        .args([level, "-std=gnu11", "-D_GNU_SOURCE", "-g", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program);
    compiler.args(sources).args(["-libverbs", "-pthread"]);
    let out = process::run(&mut compiler)?;
    if out.status.success() {
        Ok(program)
    } else {
        Err(format!("cc {}: {}", program.display(), process::last_lines(&out.stderr, 20)))
    }
}
