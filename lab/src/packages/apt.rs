//! A private package root: apt-get with all its state in the cache.
//!
//! The mirror, the proxy and the archive's keys are the host's. Nothing is installed on the host, and no root is needed. apt
//! checks the archive's signatures as usual.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Suite;
use crate::progress::Progress;
use crate::{Result, cache, process};

/// The archive's keys, as Debian's debian-archive-keyring installs them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Older package lists are updated before anything is fetched.
const LISTS_AGE: Duration = Duration::from_secs(3600);
/// Debian's suites, to recognise its mirror in the host's configuration.
const SUITES: [&str; 8] =
    ["bookworm", "trixie", "forky", "bullseye", "sid", "stable", "oldstable", "testing"];

/// Checks that the host has what [`fetch`] uses.
pub fn require() -> Result<()> {
    let programs = ["apt-get", "dpkg-deb"].into_iter().filter(|program| process::find(program).is_none());
    let keyring = Path::new(KEYRING).is_file();
    let mut missing: Vec<&str> = programs.collect();
    missing.extend((!keyring).then_some(KEYRING));
    match missing[..] {
        [] => Ok(()),
        [KEYRING] => Err(format!("{KEYRING} is needed: apt-get install debian-archive-keyring")),
        _ => Err(format!(
            "{} not found: kernels, QEMU and the C tools come from Debian's archive, which takes a Debian-like system with \
             apt-get, dpkg-deb and debian-archive-keyring",
            missing.join(", ")
        )),
    }
}

/// Fetches those packages of a suite's closure that `keep` names, and unpacks them into `root`.
pub fn fetch(
    suite: Suite,
    packages: &[&str],
    keep: impl Fn(&str) -> bool,
    root: &Path,
    progress: &Progress,
) -> Result<()> {
    let apt = Apt::new(suite)?;
    let _lock = cache::lock(&apt.state.join("lock"))?;
    progress.at("reading the package lists");
    apt.update()?;
    let wanted: Vec<String> = apt
        .closure(packages)?
        .into_iter()
        .filter(|(name, _)| keep(name))
        .map(|(name, version)| format!("{name}={version}"))
        .collect();
    if wanted.is_empty() {
        return Err(format!("no package of {} fits {packages:?}", suite.name));
    }
    progress.at(&format!("fetching {} packages", wanted.len()));
    let archives = cache::beside(root, "archives");
    // Left by an interrupted run.
    let _ = fs::remove_dir_all(&archives);
    cache::create(&archives)?;
    process::output(apt.get().args(["--quiet", "download"]).args(&wanted).current_dir(&archives))?;

    cache::create(root)?;
    let files = fs::read_dir(&archives).map_err(|error| format!("{}: {error}", archives.display()))?;
    for (number, file) in files.flatten().enumerate() {
        progress.at(&format!("unpacking {} of {}", number + 1, wanted.len()));
        process::output(Command::new("dpkg-deb").arg("-x").arg(file.path()).arg(root))?;
    }
    fs::remove_dir_all(&archives).map_err(|error| format!("{}: {error}", archives.display()))
}

struct Apt {
    suite: Suite,
    state: PathBuf,
}

impl Apt {
    fn new(suite: Suite) -> Result<Self> {
        let state = cache::root()?.join("apt").join(suite.name);
        cache::create(&state.join("lists/partial"))?;
        let write = |name: &str, text: &str| {
            let path = state.join(name);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        write("status", "")?;
        write("sources.list", &sources(suite)?)?;
        Ok(Self { suite, state })
    }

    /// Returns apt-get with its state in this folder.
    fn get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.env("LC_ALL", "C");
        let state = |name: &str| self.state.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", state("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferences=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            format!("Dir::State::Lists={}", state("lists")),
            format!("Dir::State::status={}", state("status")),
            "Dir::Cache::pkgcache=".into(),
            "Dir::Cache::srcpkgcache=".into(),
            "Debug::NoLocking=1".into(),
            // As root, apt would download as a user who cannot write here.
            "APT::Sandbox::User=".into(),
            "APT::Architecture=amd64".into(),
            "APT::Architectures=amd64".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Acquire::Retries=3".into(),
            "APT::Update::Error-Mode=any".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command.args(["--target-release", self.suite.name]);
        command
    }

    fn update(&self) -> Result<()> {
        let stamp = self.state.join("updated");
        let age =
            fs::metadata(&stamp).and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age < LISTS_AGE) {
            return Ok(());
        }
        process::output(self.get().args(["--quiet", "update"])).map_err(|error| {
            let fix =
                if error.contains("NO_PUBKEY") { "; install the current debian-archive-keyring" } else { "" };
            format!("{error}{fix}")
        })?;
        fs::write(&stamp, "").map_err(|error| format!("{}: {error}", stamp.display()))
    }

    /// Returns the names and versions of the packages that an installation on an empty system would install.
    fn closure(&self, packages: &[&str]) -> Result<Vec<(String, String)>> {
        let plan = process::output(
            self.get().args(["--simulate", "install", "--no-install-recommends"]).args(packages),
        )?;
        let installed = plan.lines().filter_map(|line| line.strip_prefix("Inst "));
        Ok(installed
            .filter_map(|line| {
                let (name, rest) = line.split_once(' ')?;
                let version = rest.trim_start_matches('(').split(' ').next()?;
                Some((name.to_owned(), version.to_owned()))
            })
            .collect())
    }
}

fn sources(suite: Suite) -> Result<String> {
    let mirror = mirror()?;
    let signed = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    let names = std::iter::once(suite.name).chain(suite.base);
    Ok(names.map(|name| format!("deb {signed}{mirror} {name} main\n")).collect())
}

/// Names the mirror on hosts whose apt configuration has none of Debian's.
const MIRROR: &str = "RDMA_LAB_MIRROR";

/// The mirror that the environment names, else the Debian mirror in the host's own apt configuration.
fn mirror() -> Result<String> {
    const FIX: &str = "on a host that is not Debian, set RDMA_LAB_MIRROR to the address of a Debian mirror, or use \
                       --kernel host (or a kernel's path) and install QEMU";
    if let Some(mirror) = std::env::var(MIRROR).ok().filter(|mirror| !mirror.is_empty()) {
        return Ok(mirror);
    }
    let mut command = Command::new("apt-get");
    let targets = process::output(command.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)"]))
        .map_err(|error| format!("{error}; {FIX}"))?;
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, release)| SUITES.contains(release))
        .map(|(uri, _)| uri.to_owned())
        .ok_or_else(|| format!("the host's apt configuration names no Debian mirror; {FIX}"))
}
