//! Are the modules there that RDMA needs?

use bareverbs::discover::DriverId;

use super::finding::Finding;
use super::snapshot::{Adapter, ModuleState, Modules, Snapshot};

/// Adapters by the driver of their PCI device. What the driver of a network card drives may have no RDMA.
pub(super) const ADAPTERS: &[Adapter] = &[
    Adapter { pci_driver: "mlx4_core", module: "mlx4_ib", always: true },
    Adapter { pci_driver: "mlx5_core", module: "mlx5_ib", always: true },
    Adapter { pci_driver: "ib_mthca", module: "ib_mthca", always: true },
    Adapter { pci_driver: "hfi1", module: "hfi1", always: true },
    Adapter { pci_driver: "bnxt_en", module: "bnxt_re", always: false },
    Adapter { pci_driver: "cxgb4", module: "iw_cxgb4", always: false },
    Adapter { pci_driver: "qede", module: "qedr", always: false },
    Adapter { pci_driver: "ice", module: "irdma", always: false },
    Adapter { pci_driver: "mana", module: "mana_ib", always: false },
];

const CHECK: &str = "module";

pub(super) fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let modules = &snapshot.modules;
    let devices = snapshot.devices.as_deref().unwrap_or_default();
    let mut findings = vec![needed(modules, "ib_uverbs", "programs reach RDMA devices by it")];
    let mut drivers: Vec<&str> = devices.iter().filter_map(|device| module_of(device.driver)).collect();
    drivers.extend(snapshot.adapters.iter().filter(|adapter| adapter.always).map(|adapter| adapter.module));
    if devices.is_empty() && drivers.is_empty() {
        drivers.extend(snapshot.adapters.iter().map(|adapter| adapter.module));
        // The driver that any machine can use.
        if !drivers.iter().any(|driver| modules.works(driver)) {
            drivers.push("rdma_rxe");
        }
    }
    drivers.sort_unstable();
    drivers.dedup();
    // With one driver at work, another that is not loaded is no failure.
    let some_work = drivers.iter().any(|driver| modules.works(driver)) || !devices.is_empty();
    for driver in drivers {
        let at_work = devices.iter().find(|device| module_of(device.driver) == Some(driver));
        if let Some(device) = at_work.filter(|_| !modules.works(driver)) {
            // What is built in and has no parameters shows nowhere else.
            findings.push(Finding::ok(CHECK, driver, format!("at work: it drives {}", device.name)));
            continue;
        }
        let finding = needed(modules, driver, "it drives devices");
        findings.push(if some_work { finding.softened() } else { finding });
    }
    let ucm =
        needed(modules, "rdma_ucm", "RDMA-CM (rping and others) needs it; programs without RDMA-CM do not");
    findings.push(ucm.softened());
    findings
}

/// The module of a driver, where it is one that a user may have to load.
fn module_of(driver: DriverId) -> Option<&'static str> {
    Some(match driver {
        DriverId::RXE => "rdma_rxe",
        DriverId::SIW => "siw",
        DriverId::MLX4 => "mlx4_ib",
        DriverId::MLX5 => "mlx5_ib",
        DriverId::MTHCA => "ib_mthca",
        DriverId::CXGB4 => "iw_cxgb4",
        DriverId::BNXT_RE => "bnxt_re",
        DriverId::IRDMA => "irdma",
        DriverId::QEDR => "qedr",
        DriverId::HFI1 => "hfi1",
        DriverId::MANA => "mana_ib",
        _ => return None,
    })
}

fn needed(modules: &Modules, name: &str, what_for: &str) -> Finding {
    let release = &modules.release;
    match modules.state(name) {
        ModuleState::Loaded => Finding::ok(CHECK, name, "loaded"),
        ModuleState::BuiltIn => Finding::ok(CHECK, name, "built into the kernel"),
        ModuleState::Available if modules.locked => {
            let reason = "not loaded, and kernel.modules_disabled forbids it until the next boot";
            Finding::fail(CHECK, name, format!("{reason}; {what_for}"))
                .fix(format!("add {name} to /etc/modules-load.d/rdma.conf and reboot"))
        }
        ModuleState::Available => {
            Finding::fail(CHECK, name, format!("not loaded; {what_for}")).fix(format!("modprobe {name}"))
        }
        ModuleState::Absent => {
            Finding::fail(CHECK, name, format!("there is none for this kernel ({release}); {what_for}")).fix(
                format!(
                    "install the rest of the kernel's modules (linux-modules-extra-{release} on Ubuntu, \
                 kernel-modules-extra on Fedora), or boot a kernel that has it"
                ),
            )
        }
        ModuleState::Unknown if !modules.other_releases.is_empty() => Finding::fail(
            CHECK,
            name,
            format!(
                "not loaded; the running kernel is {release}, and there are modules of {} only; {what_for}",
                modules.other_releases.join(", ")
            ),
        )
        .fix("reboot"),
        ModuleState::Unknown => Finding::fail(
            CHECK,
            name,
            format!("not loaded, and /lib/modules/{release} does not tell whether it can be; {what_for}"),
        )
        .fix(format!("modprobe {name} (in a container: on its host)")),
        ModuleState::Impossible => Finding::fail(
            CHECK,
            name,
            format!("not part of this kernel ({release}), which takes no modules; {what_for}"),
        )
        .fix("boot a kernel that has it"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::doctor::finding::Level;

    fn names<const N: usize>(names: [&str; N]) -> std::collections::BTreeSet<String> {
        names.map(str::to_owned).into()
    }

    fn finding(snapshot: &Snapshot, module: &str) -> Finding {
        check(snapshot).into_iter().find(|finding| finding.object == module).unwrap()
    }

    #[test]
    fn all_is_well_with_what_is_loaded_or_built_in() {
        let mut snapshot = sample::healthy();
        assert!(check(&snapshot).iter().all(|finding| finding.level == Level::Ok));
        snapshot.modules.loaded = None;
        snapshot.modules.builtin = names(["ib_uverbs", "rdma_rxe", "rdma_ucm"]);
        assert!(check(&snapshot).iter().all(|finding| finding.reason == "built into the kernel"));
    }

    #[test]
    fn what_drives_a_device_is_at_work() {
        let mut snapshot = sample::healthy();
        snapshot.modules.loaded.as_mut().unwrap().remove("rdma_rxe");
        let rxe = finding(&snapshot, "rdma_rxe");
        assert_eq!((rxe.level, rxe.reason.as_str()), (Level::Ok, "at work: it drives rxe0"));
    }

    #[test]
    fn each_way_of_not_being_there_has_its_own_hint() {
        let mut snapshot = sample::no_modules();
        snapshot.modules.available = Some(names(["ib_uverbs", "rdma_ucm"]));
        let uverbs = finding(&snapshot, "ib_uverbs");
        assert_eq!((uverbs.level, uverbs.fix.as_deref()), (Level::Fail, Some("modprobe ib_uverbs")));
        assert_eq!(finding(&snapshot, "rdma_ucm").level, Level::Warning);
        let rxe = finding(&snapshot, "rdma_rxe");
        assert_eq!(rxe.level, Level::Fail);
        assert!(rxe.fix.unwrap().contains("linux-modules-extra-6.1.0-test"));

        snapshot.modules.locked = true;
        assert!(finding(&snapshot, "ib_uverbs").reason.contains("modules_disabled"));
        snapshot.modules.available = None;
        assert!(finding(&snapshot, "ib_uverbs").reason.contains("/lib/modules/6.1.0-test"));
        snapshot.modules.other_releases = vec!["6.1.0-newer".into()];
        let stale = finding(&snapshot, "ib_uverbs");
        assert!(stale.reason.contains("6.1.0-newer only") && stale.fix.as_deref() == Some("reboot"));
        snapshot.modules.loaded = None;
        assert!(finding(&snapshot, "ib_uverbs").reason.contains("takes no modules"));
    }

    #[test]
    fn an_adapter_whose_module_is_missing_is_named() {
        let mut snapshot = sample::no_modules();
        snapshot.modules.available = Some(names(["mlx4_ib", "ib_uverbs"]));
        snapshot.adapters = vec![&ADAPTERS[0]];
        let found = finding(&snapshot, "mlx4_ib");
        assert_eq!((found.level, found.fix.as_deref()), (Level::Fail, Some("modprobe mlx4_ib")));
        assert!(!check(&snapshot).iter().any(|finding| finding.object == "rdma_rxe"));
        // Beside a device that works it is worth a warning only.
        snapshot.devices = sample::healthy().devices;
        assert_eq!(finding(&snapshot, "mlx4_ib").level, Level::Warning);
    }
}
