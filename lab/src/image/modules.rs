//! A kernel's modules: which ones a guest needs, in which order, uncompressed.
//!
//! Debian's packages have no depmod files, so names and dependencies are read from the modules' `.modinfo` sections.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::elf::Elf;
use crate::protocol::Module;
use crate::{Result, process};

/// A module that a guest should have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Whether a kernel may lack it.
    pub optional: bool,
}

const fn need(name: &'static str) -> Wanted {
    Wanted { name: Cow::Borrowed(name), optional: false }
}

const fn like(name: &'static str) -> Wanted {
    Wanted { name: Cow::Borrowed(name), optional: true }
}

/// Modules of every guest.
pub const BASE: &[Wanted] =
    &[need("ib_uverbs"), need("rdma_ucm"), like("ib_umad"), need("dummy"), need("veth")];

/// Further modules for software RoCE. Some kernels look a checksum up by name when a device is added, and a guest has no modprobe.
pub const RXE: &[Wanted] =
    &[like("crc32_generic"), like("crc32c_generic"), like("crc32c_intel"), need("rdma_rxe")];

/// Further modules for software iWARP. The checksum is looked up by name, as for software RoCE.
pub const SIW: &[Wanted] = &[like("crc32c_generic"), like("crc32c_intel"), need("siw")];

/// Further modules for a ConnectX card. RDMA-CM finds peers on InfiniBand by the addresses of IP over InfiniBand.
pub const MLX4: &[Wanted] = &[need("mlx4_core"), need("mlx4_ib"), need("ib_ipoib")];

/// Further modules for a ConnectX card on Ethernet.
pub const MLX4_ETHERNET: &[Wanted] = &[need("mlx4_en")];

/// Further modules for a guest on a wire. Some kernels have the bus built in and do not list it in a file.
pub const WIRE: &[Wanted] = &[like("virtio_pci"), need("virtio_net")];

/// A module with its content.
pub struct Loaded {
    /// How the guest loads it.
    pub module: Module,
    /// The file, uncompressed.
    pub content: Vec<u8>,
}

/// The modules of one kernel.
pub struct Modules {
    folder: PathBuf,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Finds the modules under a kernel's folder (`/lib/modules/VERSION`).
    pub fn find(folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.join("kernel"), folder.join("updates")];
        while let Some(next) = folders.pop() {
            let Ok(entries) = fs::read_dir(&next) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                let name = entry.file_name().to_string_lossy().into_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if let Some((stem, _)) = name.split_once(".ko") {
                    files.insert(canonical(stem), path);
                }
            }
        }
        // Some packages lack the list; a module that is neither a file nor listed counts as missing.
        let list = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        let stem = |line: &str| Some(canonical(Path::new(line).file_name()?.to_str()?.strip_suffix(".ko")?));
        let builtin = list.lines().filter_map(stem).collect();
        if files.is_empty() {
            return Err(format!("{}: no kernel modules there", folder.display()));
        }
        Ok(Self { folder: folder.into(), files, builtin })
    }

    /// Adds a module that the kernel's packages lack.
    pub fn add(&mut self, name: &str, path: PathBuf) {
        self.files.entry(canonical(name)).or_insert(path);
    }

    /// Reads the wanted modules and their dependencies, in loading order.
    pub fn closure(&self, wanted: &[Wanted]) -> Result<Vec<Loaded>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for want in wanted {
            self.visit(&canonical(&want.name), want.optional, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        optional: bool,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Loaded>,
    ) -> Result<()> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            return if optional {
                Ok(())
            } else {
                Err(format!(
                    "{}: no module {name}; this kernel cannot serve as a guest",
                    self.folder.display()
                ))
            };
        };
        let content = decompressed(path)?;
        let shown = path.display().to_string();
        let elf = Elf::parse(&shown, &content)?;
        let info = elf.section(".modinfo").ok_or_else(|| format!("{shown}: no .modinfo"))?;
        let info = String::from_utf8_lossy(info).into_owned();
        for entry in info.split('\0') {
            if let Some(depends) = entry.strip_prefix("depends=") {
                for name in depends.split(',').filter(|name| !name.is_empty()) {
                    self.visit(&canonical(name), optional, seen, order)?;
                }
            } else if let Some(before) = entry.strip_prefix("softdep=pre:") {
                for name in before.split_whitespace().take_while(|word| !word.ends_with(':')) {
                    self.visit(&canonical(name), true, seen, order)?;
                }
            }
        }
        // One device dummy0 on every kernel, whatever its default.
        let parameters = if name == "dummy" { "numdummies=1" } else { "" };
        let module =
            Module { path: format!("/usr/lib/modules/{name}.ko"), parameters: parameters.into(), optional };
        order.push(Loaded { module, content });
        Ok(())
    }
}

/// A module's name. The kernel uses underscores where file names may have dashes.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let bytes = super::read(path)?;
    let tool = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return Ok(bytes),
        Some("xz") => {
            let mut content = Vec::new();
            return match lzma_rust2::XzReader::new(bytes.as_slice(), false).read_to_end(&mut content) {
                Ok(_) => Ok(content),
                Err(error) => Err(format!("{}: {error}", path.display())),
            };
        }
        Some("gz") => "gzip",
        Some("zst") => "zstd",
        _ => return Err(format!("{}: an unknown kind of compression", path.display())),
    };
    let out = process::run(Command::new(tool).arg("-dc").arg(path))?;
    if out.status.success() {
        Ok(out.stdout)
    } else {
        Err(format!("{tool} -dc {}: {}", path.display(), out.status))
    }
}
