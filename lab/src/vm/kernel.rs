//! The kernel that a guest boots, and its modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::{Result, packages};

/// A kernel, as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kernel {
    /// One of [`packages::KERNEL_LINES`].
    Line(&'static str),
    /// The host's running kernel.
    Host,
    /// An image file.
    Path(PathBuf),
}

/// A kernel's files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The image that QEMU boots.
    pub image: PathBuf,
    /// The folder of its modules.
    pub modules: PathBuf,
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self> {
        if text == "host" {
            return Ok(Self::Host);
        }
        if let Some((line, _)) = packages::KERNEL_LINES.iter().find(|(line, _)| *line == text) {
            return Ok(Self::Line(line));
        }
        let path = PathBuf::from(text);
        if path.is_file() {
            Ok(Self::Path(path))
        } else {
            Err(format!("{text}: neither {} nor a file", Self::names()))
        }
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => f.write_str(line),
            Self::Host => f.write_str("host"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl Kernel {
    /// Returns the names that [`FromStr`] accepts besides paths.
    pub fn names() -> String {
        let lines: Vec<&str> = packages::KERNEL_LINES.iter().map(|(line, _)| *line).collect();
        format!("{}, host", lines.join(", "))
    }

    /// Returns every kernel line.
    pub fn lines() -> Vec<Self> {
        packages::KERNEL_LINES.iter().map(|(line, _)| Self::Line(line)).collect()
    }

    /// Finds or fetches the kernel's files. `modules` overrides the folder of its modules.
    pub fn files(&self, modules: Option<&Path>) -> Result<Files> {
        let mut files = match self {
            Self::Line(line) => {
                let (line, suite) = packages::KERNEL_LINES
                    .iter()
                    .find(|(known, _)| known == line)
                    .ok_or_else(|| format!("kernel {line}: not one of {}", Self::names()))?;
                packaged(&packages::kernel(line, *suite)?)?
            }
            Self::Host => host()?,
            Self::Path(image) => {
                let found = match modules {
                    Some(folder) => folder.into(),
                    None => beside(image)?,
                };
                Files { image: image.clone(), modules: found }
            }
        };
        if let Some(folder) = modules {
            files.modules = folder.into();
        }
        Ok(files)
    }
}

/// Finds the kernel in an unpacked set of packages.
fn packaged(root: &Path) -> Result<Files> {
    let modules = ["lib/modules", "usr/lib/modules"].iter().find_map(|folder| {
        fs::read_dir(root.join(folder))
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.join("kernel").is_dir())
    });
    let modules =
        modules.ok_or_else(|| format!("{}: no modules there; remove that folder", root.display()))?;
    let version = modules.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let candidates = [root.join(format!("boot/vmlinuz-{version}")), modules.join("vmlinuz")];
    let image = candidates.into_iter().find(|path| path.is_file());
    let image = image.ok_or_else(|| format!("{}: no vmlinuz there; remove that folder", root.display()))?;
    Ok(Files { image, modules })
}

fn host() -> Result<Files> {
    let version =
        fs::read_to_string("/proc/sys/kernel/osrelease").map_err(|error| format!("osrelease: {error}"))?;
    let version = version.trim();
    let modules = PathBuf::from(format!("/lib/modules/{version}"));
    let candidates = [PathBuf::from(format!("/boot/vmlinuz-{version}")), modules.join("vmlinuz")];
    match candidates.into_iter().find(|path| path.is_file()) {
        Some(image) if modules.join("kernel").is_dir() => Ok(Files { image, modules }),
        Some(_) => Err(format!(
            "{}: no modules there; choose another --kernel ({})",
            modules.display(),
            Kernel::names()
        )),
        None => Err(format!(
            "/boot/vmlinuz-{version} is not there; choose another --kernel ({})",
            Kernel::names()
        )),
    }
}

/// Finds the modules of a kernel image: beside it, or in the folder of the version in its name.
fn beside(image: &Path) -> Result<PathBuf> {
    let name = image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = image.parent().unwrap_or(Path::new("."));
    let mut candidates = vec![folder.to_path_buf(), folder.join("modules")];
    if let Some(version) = name.strip_prefix("vmlinuz-") {
        candidates.push(folder.join("lib/modules").join(version));
        candidates.push(folder.join("../lib/modules").join(version));
        candidates.push(Path::new("/lib/modules").join(version));
    }
    candidates.into_iter().find(|path| path.join("kernel").is_dir()).ok_or_else(|| {
        format!("{}: its modules are not beside it; name their folder with --modules", image.display())
    })
}
