//! Programs of the host, with errors that name the program and quote its output.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::Result;

/// Runs a program and returns its standard output. If it fails, the error quotes what it said last.
pub fn output(command: &mut Command) -> Result<String> {
    let out = run(command)?;
    if !out.status.success() {
        return Err(format!("{}: {}\n{}", name(command), out.status, last_lines(&out.stderr, 8)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs a program and captures its output, whatever its exit status.
pub fn run(command: &mut Command) -> Result<Output> {
    command.output().map_err(|error| cannot_start(command, &error))
}

fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{} is not installed (or not in PATH)", name(command)),
        _ => format!("{}: {error}", name(command)),
    }
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// Returns the last lines of a program's output, for messages.
pub fn last_lines(bytes: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Finds a program in PATH.
pub fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join(program.as_ref())).find(|path| path.is_file())
}
