//! What a check comes to, and how it is shown.

use std::fmt::Write;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warning,
    Fail,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fail => "fail",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    /// What was checked; empty where there is only one.
    pub(super) object: String,
    pub(super) level: Level,
    pub(super) reason: String,
    /// The command that fixes it, or what to do.
    pub(super) fix: Option<String>,
    /// The index for `-g`, of a port that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gid_index: Option<u32>,
}

impl Finding {
    fn new(check: &'static str, object: impl Into<String>, level: Level, reason: impl Into<String>) -> Self {
        Self { check, object: object.into(), level, reason: reason.into(), fix: None, gid_index: None }
    }

    pub(super) fn ok(check: &'static str, object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, object, Level::Ok, reason)
    }

    pub(super) fn warning(check: &'static str, object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, object, Level::Warning, reason)
    }

    pub(super) fn fail(check: &'static str, object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(check, object, Level::Fail, reason)
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Turns a failure into a warning.
    pub(super) fn softened(mut self) -> Self {
        self.level = self.level.min(Level::Warning);
        self
    }

    pub(super) fn gid_index(mut self, index: u32) -> Self {
        self.gid_index = Some(index);
        self
    }
}

/// The exit code: 0, 1 where something is not well, 2 where something does not work.
pub(super) fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.level).max() {
        None | Some(Level::Ok) => 0,
        Some(Level::Warning) => 1,
        Some(Level::Fail) => 2,
    }
}

/// A line for each finding, one more for a fix, and a sum.
pub(super) fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let Finding { check, object, level, reason, fix, .. } = finding;
        let blank = if object.is_empty() { "" } else { " " };
        let _ = writeln!(out, "{:<8} {check}{blank}{object}: {reason}", level.word());
        if let Some(fix) = fix {
            let _ = writeln!(out, "         fix: {fix}");
        }
    }
    let (warnings, failures) = (count(findings, Level::Warning), count(findings, Level::Fail));
    let _ = match (failures, warnings) {
        (0, 0) => writeln!(out, "{} checks: all well", findings.len()),
        _ => writeln!(
            out,
            "{} checks: {failures} {}, {warnings} {}",
            findings.len(),
            if failures == 1 { "failure" } else { "failures" },
            if warnings == 1 { "warning" } else { "warnings" }
        ),
    };
    out
}

/// The report as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    failures: usize,
    warnings: usize,
    findings: &'a [Finding],
}

impl<'a> Report<'a> {
    pub(super) fn new(findings: &'a [Finding]) -> Self {
        Self { failures: count(findings, Level::Fail), warnings: count(findings, Level::Warning), findings }
    }
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_exit_code() {
        let ok = || Finding::ok("module", "ib_uverbs", "loaded");
        let warning = || Finding::warning("memlock", "", "small").fix("ulimit -l unlimited");
        let fail = || Finding::fail("device", "", "there is none");
        assert_eq!(exit_code(&[]), 0);
        assert_eq!(exit_code(&[ok()]), 0);
        assert_eq!(exit_code(&[ok(), warning(), ok()]), 1);
        assert_eq!(exit_code(&[fail(), warning()]), 2);
        assert_eq!(
            text(&[ok(), warning(), fail()]),
            "ok       module ib_uverbs: loaded\n\
             warning  memlock: small\n         fix: ulimit -l unlimited\n\
             fail     device: there is none\n\
             3 checks: 1 failure, 1 warning\n"
        );
        assert!(text(&[ok()]).ends_with("1 checks: all well\n"));
        let value = serde_json::to_value(Report::new(&[fail(), warning()])).unwrap();
        assert_eq!(value["failures"], 1);
        assert_eq!(value["findings"][0]["level"], "fail");
        assert_eq!(value["findings"][1]["fix"], "ulimit -l unlimited");
        assert!(value["findings"][0]["fix"].is_null() && value["findings"][0].get("gid_index").is_none());
    }
}
