//! A C compiler: the host's, or Debian's from the package root.

use std::process::Command;

use crate::{Result, packages, process};

/// The host's `cc` if there is one, else gcc in the cache.
pub(crate) fn command() -> Result<Command> {
    let mut compiler = match process::find("cc") {
        Some(path) => Command::new(path),
        None => fetched().map_err(|error| {
            format!("a C compiler is needed, for example by: apt-get install gcc ({error})")
        })?,
    };
    compiler.env("LC_ALL", "C");
    Ok(compiler)
}

/// gcc from the archive. It finds its own parts beside itself, and its libraries and binutils by the environment.
fn fetched() -> Result<Command> {
    let root = packages::compiler()?;
    let programs = root.join("usr/bin");
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::join_paths(std::iter::once(programs.clone()).chain(std::env::split_paths(&paths)));
    let command = || {
        let mut command = Command::new(programs.join("gcc"));
        command.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"));
        command.envs(paths.as_ref().ok().map(|paths| ("PATH", paths)));
        command
    };
    process::output(command().arg("--version"))?;
    Ok(command())
}
