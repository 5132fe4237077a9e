//! The kernel's log of a guest: what in it fails a run.

use std::path::Path;

use crate::Result;

/// What the kernel writes when something is wrong with it.
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

/// The lines of a log that show trouble, with a few that follow the first.
pub(crate) fn trouble(path: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let first = lines.iter().position(|line| SIGNS.iter().any(|sign| line.contains(sign)));
    Ok(first.map_or(Vec::new(), |at| lines[at..].iter().take(12).map(|line| (*line).to_owned()).collect()))
}

/// The last lines of a log, for a guest that stopped without a word.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    crate::process::last_lines(&bytes, 5)
}

#[cfg(test)]
mod tests {
    use super::trouble;

    #[test]
    fn a_warning_is_found_and_a_plain_log_is_not() -> Result<(), String> {
        let path = std::env::temp_dir().join(format!("bareverbs-log-test-{}", std::process::id()));
        let write = |text: &str| std::fs::write(&path, text).map_err(|error| error.to_string());
        write("[ 0.1] Linux version 6.1\r\n[ 0.2] all fine\r\n")?;
        assert!(trouble(&path)?.is_empty());
        write("[ 0.1] fine\r\n[ 1.0] WARNING: CPU: 0 PID: 1 at rxe.c\r\n[ 1.0] Call Trace:\r\n")?;
        assert_eq!(trouble(&path)?.len(), 2);
        std::fs::remove_file(&path).map_err(|error| error.to_string())
    }
}
