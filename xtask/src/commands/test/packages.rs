//! What a user of crates.io gets: the files of each package, its metadata, a build from it, its documentation.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::tally::Tally;
use crate::{Result, cache, cargo, process};

/// The packages that can be published.
const PUBLISHED: [&str; 4] = ["bareverbs", "bareverbs-cli", "connectx", "rdma-lab"];

/// The files that cargo adds to each.
const ADDED: [&str; 4] = [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml", "Cargo.toml.orig"];

/// The files that each must have.
const NEEDED: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"];

/// Checks every package that can be published.
pub(super) fn checks() -> Tally {
    let mut tally = Tally::default();
    for package in PUBLISHED {
        tally.check(&format!("package {package}: files"), files(package));
    }
    tally.check("packages: metadata", metadata());
    tally.check("packages: build", build());
    let mut doc = cargo::cargo();
    doc.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--quiet", "--no-deps"]);
    tally.check("documentation", succeeds(selected(&mut doc)));
    tally
}

/// Selects the packages.
fn selected(command: &mut Command) -> &mut Command {
    PUBLISHED.iter().fold(command, |command, package| command.args(["--package", package]))
}

/// Checks that a package has sources, licences and a README, and nothing else.
fn files(package: &str) -> Result<()> {
    let mut list = cargo::cargo();
    let listed = process::output(list.args(["package", "--list", "--allow-dirty", "--package", package]))?;
    let files: Vec<&str> = listed.lines().collect();
    match NEEDED.iter().find(|needed| !files.contains(needed)) {
        None => {}
        Some(missing) => return Err(format!("{missing} is missing")),
    }
    let unwanted: Vec<&str> = files.into_iter().filter(|file| !wanted(package, file)).collect();
    if unwanted.is_empty() { Ok(()) } else { Err(format!("of no use there: {}", unwanted.join(", "))) }
}

/// Whether a file belongs into a package.
fn wanted(package: &str, file: &str) -> bool {
    let source = file.ends_with(".rs")
        && (file.starts_with("src/") || (package == "bareverbs" && file.starts_with("examples/")));
    source
        || ADDED.contains(&file)
        || NEEDED.contains(&file)
        || (package == "bareverbs" && file == "CHANGELOG.md")
}

/// Checks that each package says what crates.io and docs.rs ask for, and that its path dependencies have a version.
fn metadata() -> Result<()> {
    let text = process::output(cargo::cargo().args([
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ]))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = value["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    for name in PUBLISHED {
        let package = packages.iter().find(|package| package["name"] == name);
        let package = package.ok_or_else(|| format!("no package {name}"))?;
        let wants = |good: bool, what: &str| if good { Ok(()) } else { Err(format!("{name}: {what}")) };
        wants(package["publish"].is_null(), "it is not to be published")?;
        for field in ["description", "license", "readme", "rust_version"] {
            wants(package[field].is_string(), &format!("no {field}"))?;
        }
        for field in ["keywords", "categories"] {
            let count = package[field].as_array().map_or(0, Vec::len);
            wants((1..=5).contains(&count), &format!("{count} {field}, not 1 to 5"))?;
        }
        let targets = &package["metadata"]["docs"]["rs"]["targets"];
        wants(targets.is_array(), "no targets for docs.rs, which has other architectures too")?;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let versioned =
                dependency["path"].is_null() || dependency["req"] != "*" || dependency["kind"] == "dev";
            wants(versioned, &format!("{} has a path and no version", dependency["name"]))?;
        }
    }
    Ok(())
}

/// Checks the unpacked packages, each with the others in place of those of the registry.
fn build() -> Result<()> {
    // cargo resolves a package for all targets, and a build has only fetched what its own target needs.
    process::output(cargo::cargo().args(["fetch", "--quiet"]))?;
    let target = process::checkout().join("target");
    // A folder of its own, so that no older package is found in it.
    let folder = target.join("packaged");
    let _ = fs::remove_dir_all(&folder);
    cache::create(&folder)?;
    let mut package = cargo::cargo();
    package.args(["package", "--quiet", "--no-verify", "--offline", "--allow-dirty", "--target-dir"]);
    process::output(selected(package.arg(&folder)))?;
    let mut manifest =
        "[workspace]\nresolver = \"3\"\nmembers = [\"unpacked/*\"]\n\n[patch.crates-io]\n".to_owned();
    let unpacked = folder.join("unpacked");
    cache::create(&unpacked)?;
    for name in PUBLISHED {
        let archive = folder.join(format!("package/{name}-{}.crate", env!("CARGO_PKG_VERSION")));
        process::output(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&unpacked))?;
        manifest += &format!("{name} = {{ path = \"unpacked/{name}-{}\" }}\n", env!("CARGO_PKG_VERSION"));
    }
    write(&folder.join("Cargo.toml"), manifest.as_bytes())?;
    // The versions that are tested, and the only ones that are sure to be on this machine.
    let lock = process::checkout().join("Cargo.lock");
    let locked = fs::read(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    write(&folder.join("Cargo.lock"), &locked)?;
    let mut check = cargo::cargo();
    check.args(["check", "--quiet", "--offline", "--workspace", "--all-features", "--manifest-path"]);
    succeeds(check.arg(folder.join("Cargo.toml")).arg("--target-dir").arg(target))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs a command whose output matters only if it fails.
fn succeeds(command: &mut Command) -> Result<()> {
    let out = process::run(command)?;
    if out.status.success() { Ok(()) } else { Err(process::last_lines(&out.stderr, 30)) }
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn sources_and_licences_belong_into_a_package() {
        for file in ["src/lib.rs", "examples/devices.rs", "LICENSE-MIT", "Cargo.toml", "CHANGELOG.md"] {
            assert!(wanted("bareverbs", file), "{file}");
        }
        for file in ["tests/golden/devinfo.txt", "tests/vm/main.rs", ".cargo/config.toml", "src/notes.txt"] {
            assert!(!wanted("bareverbs", file), "{file}");
        }
        assert!(!wanted("rdma-lab", "examples/devices.rs"));
    }
}
