//! QEMU: finding a suitable one, and the command line of a guest's machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::{Result, packages, process};

const PROGRAM: &str = "qemu-system-x86_64";
/// A version: major and minor.
pub(super) type Version = (u32, u32);

/// The first version with stream network backends.
pub(super) const OLDEST: Version = (7, 2);
/// The first version with vfio-user devices.
pub(super) const VFIO_USER: Version = (10, 1);

/// At boot, an emulated TSC drifts so much that some kernels choose another clock, which takes a system call and a device access
/// for each reading. Real machines read the TSC in user space, so a kernel option makes the guests trust it.
///
/// The last three options save an emulated processor a few seconds of each boot: the self-tests of the crypto API, the relocation
/// of the kernel, and the fifth level of page tables.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=6 panic=-1 mitigations=off tsc=reliable clocksource=tsc \
                            cryptomgr.notests nokaslr no5lvl";

/// A QEMU that works on this host.
#[derive(Debug, Clone)]
pub struct Qemu {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, PathBuf)>,
}

/// One guest's machine.
pub struct Machine<'a> {
    /// The kernel's image.
    pub image: &'a Path,
    /// The words that start its init.
    pub init: &'a [String],
    /// The initramfs.
    pub initrd: &'a Path,
    /// Virtual processors.
    pub cpus: u32,
    /// MiB.
    pub memory: u32,
    /// The socket of the control port, where the host listens.
    pub control: &'a Path,
    /// The file for the kernel's log.
    pub log: &'a Path,
    /// The file for QEMU's own messages.
    pub complaints: &'a Path,
    /// The wire to the other guest, if any.
    pub wire: Option<Wire<'a>>,
    /// The socket of the emulated card, if any.
    pub card: Option<&'a Path>,
    /// More arguments for QEMU.
    pub more: &'a [String],
}

/// A guest's end of a wire.
pub struct Wire<'a> {
    /// The socket between the two.
    pub socket: &'a Path,
    /// Whether this end listens.
    pub listens: bool,
    /// The guest's number, part of its MAC address.
    pub node: u32,
}

impl Qemu {
    /// Returns the host's QEMU if it is new enough, else the archive's. The answer for each version is remembered.
    pub(super) fn find(oldest: Version) -> Result<Self> {
        static FOUND: Mutex<BTreeMap<Version, Result<Qemu>>> = Mutex::new(BTreeMap::new());
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(oldest).or_insert_with(|| Self::search(oldest)).clone()
    }

    fn search(oldest: Version) -> Result<Self> {
        let host =
            process::find(PROGRAM).map(|program| Self { program, arguments: vec![], environment: vec![] });
        let old = match host.as_ref().map(Self::version) {
            Some(Ok(version)) if version >= oldest => return host.ok_or_else(String::new),
            Some(Ok((major, minor))) => format!("the host's QEMU {major}.{minor} is too old; "),
            Some(Err(error)) => format!("the host's QEMU does not work ({error}); "),
            None => String::new(),
        };
        let root = packages::qemu().map_err(|error| {
            format!(
                "{old}QEMU {}.{} or newer is needed: install qemu-system-x86 ({error})",
                oldest.0, oldest.1
            )
        })?;
        // Its libraries are newer than the host's, so it is started by its own loader.
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let mut arguments = vec!["--library-path".to_owned(), libraries.display().to_string()];
        arguments.push(root.join("usr/bin").join(PROGRAM).display().to_string());
        for share in ["usr/share/qemu", "usr/share/seabios"] {
            arguments.extend(["-L".to_owned(), root.join(share).display().to_string()]);
        }
        let qemu = Self {
            program: root.join("usr/lib64/ld-linux-x86-64.so.2"),
            arguments,
            environment: vec![("QEMU_MODULE_DIR".into(), libraries.join("qemu"))],
        };
        qemu.version()
            .map_err(|error| format!("{}: {error}; remove that folder to fetch it anew", root.display()))?;
        Ok(qemu)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Its version in its own words.
    pub(super) fn describe(&self) -> Result<String> {
        let text = process::output(self.command().arg("-version"))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }

    fn version(&self) -> Result<Version> {
        let text = self.describe()?;
        let mut numbers = text
            .split_whitespace()
            .skip_while(|word| *word != "version")
            .nth(1)
            .into_iter()
            .flat_map(|word| word.split(['.', '(']))
            .map_while(|part| part.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) => Ok((major, minor)),
            _ => Err(format!("unknown version: {}", text.lines().next().unwrap_or_default())),
        }
    }

    /// Starts a guest.
    pub fn start(&self, machine: &Machine<'_>) -> Result<Child> {
        let mut command = self.command();
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        match machine.card {
            // The emulator accesses the guest's memory, so it must be shared.
            Some(card) => {
                let memory = format!("memory-backend-memfd,id=ram,size={}M,share=on", machine.memory);
                command.args(["-machine", "q35,memory-backend=ram", "-object", &memory]);
                let socket = json!({"type": "unix", "path": card});
                let device = json!({"driver": "vfio-user-pci", "socket": socket});
                command.arg("-device").arg(device.to_string())
            }
            None => command.args(["-machine", "q35"]),
        };
        command.args(["-m", &machine.memory.to_string(), "-smp", &machine.cpus.to_string()]);
        // On a host without these flags, /dev/kvm may open and yet never run the guest.
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kvm = (processor.contains(" vmx") || processor.contains(" svm"))
            && std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        let mut words = COMMAND_LINE.to_owned();
        if kvm {
            command.args(["-accel", "kvm", "-cpu", "host"]);
        } else {
            command.args(["-accel", "tcg,thread=multi", "-cpu", "max"]);
            words.extend(tsc_khz(&processor).map(|khz| format!(" tsc_early_khz={khz}")));
        }
        command.arg("-kernel").arg(machine.image).arg("-initrd").arg(machine.initrd);
        if let [program, arguments @ ..] = machine.init {
            words.extend([" rdinit=", program]);
            // The kernel passes what stands behind two hyphens to its init.
            if !arguments.is_empty() {
                words.extend([" -- ", &arguments.join(" ")]);
            }
        }
        command.args(["-append", &words]);
        command.arg("-chardev").arg(format!("file,id=log,path={}", escaped(machine.log)));
        command
            .arg("-chardev")
            .arg(format!("socket,id=control,server=off,path={}", escaped(machine.control)));
        command.args(["-device", "isa-serial,chardev=log", "-device", "isa-serial,chardev=control"]);
        if let Some(wire) = &machine.wire {
            let side = if wire.listens { "on" } else { "off" };
            let socket = escaped(wire.socket);
            command
                .arg("-netdev")
                .arg(format!("stream,id=wire,server={side},addr.type=unix,addr.path={socket}"));
            let mac = format!("52:54:00:0b:0e:{:02x}", wire.node);
            command.arg("-device").arg(format!("virtio-net-pci,netdev=wire,mac={mac},romfile="));
        }
        command.args(machine.more);
        let complaints = std::fs::File::create(machine.complaints)
            .map_err(|error| format!("{}: {error}", machine.complaints.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints);
        command.spawn().map_err(|error| format!("{}: {error}", self.program.display()))
    }
}

/// The frequency of this machine's TSC, which an emulated guest reads as its own, from `/proc/cpuinfo`. Only where a processor has
/// one frequency is it told there; elsewhere the guest measures it, and on a busy machine may find its time run many times too
/// fast, so that everything in it times out.
fn tsc_khz(cpuinfo: &str) -> Option<u32> {
    let field = |name: &str| {
        cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(':'))
            .map(|(_, value)| value.trim())
    };
    let flags = field("flags")?;
    let has = |wanted: &str| flags.split(' ').any(|flag| flag == wanted);
    if !has("hypervisor") || !has("constant_tsc") || has("aperfmperf") {
        return None;
    }
    let khz = field("cpu MHz")?.parse::<f64>().ok()? * 1000.;
    Some(khz.round() as u32)
}

/// Escapes a path for a comma-separated option.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::tsc_khz;

    #[test]
    fn the_counter_s_frequency_is_told_where_there_is_one() {
        let told = |flags: &str| {
            tsc_khz(&format!(
                "processor\t: 0\ncpu MHz\t\t: 2599.998\nflags\t\t: fpu tsc {flags}\n\nprocessor\t: 1\n"
            ))
        };
        assert_eq!(told("constant_tsc hypervisor"), Some(2_599_998));
        assert_eq!(told("constant_tsc aperfmperf hypervisor"), None);
        assert_eq!(told("constant_tsc"), None);
        assert_eq!(told("hypervisor"), None);
        assert_eq!(tsc_khz(""), None);
    }
}
