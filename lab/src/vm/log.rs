//! A guest's kernel log: the lines that fail a run.

use std::path::{Path, PathBuf};

use crate::Result;

/// Parts of the kernel's messages about its own faults.
const SIGNS: [&str; 12] = [
    "WARNING:",
    "BUG:",
    "BUG ",
    "Oops",
    "Kernel panic",
    "Call Trace:",
    "general protection fault",
    "INFO: task ",
    "INFO: rcu",
    "KASAN",
    "UBSAN",
    "refcount_t:",
];

/// Parts of the mlx4 drivers' messages. The console shows only their warnings and errors.
const MLX4_SIGNS: [&str; 3] = ["mlx4_core 0000:", "mlx4_ib", "<mlx4"];

/// A guest's log, and which messages fail the run.
#[derive(Debug)]
pub struct Log {
    /// The file.
    pub path: PathBuf,
    /// Whether messages of the mlx4 drivers fail the run.
    pub mlx4: bool,
}

/// Returns the first line that fails the run and a few lines that follow; empty if there is none.
pub fn trouble(log: &Log) -> Result<Vec<String>> {
    let path = &log.path;
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mlx4 = if log.mlx4 { MLX4_SIGNS.as_slice() } else { &[] };
    let first = lines.iter().position(|line| SIGNS.iter().chain(mlx4).any(|sign| line.contains(sign)));
    Ok(first.map_or(Vec::new(), |at| lines[at..].iter().take(12).map(|line| (*line).to_owned()).collect()))
}

/// Returns the last lines of a log, for a guest that stopped without a message.
pub fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    crate::process::last_lines(&bytes, 5)
}

#[cfg(test)]
mod tests {
    use super::{Log, trouble};

    #[test]
    fn a_warning_is_found_and_a_plain_log_is_not() -> Result<(), String> {
        let path = std::env::temp_dir().join(format!("bareverbs-log-test-{}", std::process::id()));
        let log = |mlx4| Log { path: path.clone(), mlx4 };
        let write = |text: &str| std::fs::write(&path, text).map_err(|error| error.to_string());
        write("[ 0.1] Linux version 6.1\r\n[ 0.2] all fine\r\n")?;
        assert!(trouble(&log(true))?.is_empty());
        write("[ 0.1] fine\r\n[ 1.0] WARNING: CPU: 0 PID: 1 at rxe.c\r\n[ 1.0] Call Trace:\r\n")?;
        assert_eq!(trouble(&log(false))?.len(), 2);
        write("[ 0.1] mlx4_core 0000:00:02.0: command 0x30 failed: fw status = 0x2\r\n")?;
        assert_eq!((trouble(&log(false))?.len(), trouble(&log(true))?.len()), (0, 1));
        std::fs::remove_file(&path).map_err(|error| error.to_string())
    }
}
