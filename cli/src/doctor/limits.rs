//! What the process may do: lock memory, see the kernel's files and the devices of this network namespace.

use bareverbs::netlink::NetNamespaceMode;

use super::finding::Finding;
use super::snapshot::{Memlock, Snapshot};

const MEMLOCK: &str = "memlock";
const NAMESPACE: &str = "namespace";
const MOUNT: &str = "mount";

/// The kernel's own default since Linux 5.16. A larger limit has been set by somebody who knew what for.
const DEFAULT_LIMIT: u64 = 8 << 20;

/// Less than this lets nothing be registered at all.
const PAGE: u64 = 4096;

pub(super) fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let unmounted = snapshot.unmounted.iter().map(|(folder, kind)| {
        Finding::warning(
            MOUNT,
            *folder,
            format!("{kind} is not mounted: part of the other findings is a guess"),
        )
        .fix(format!("mount -t {kind} {kind} {folder}"))
    });
    let mut findings = vec![memlock(snapshot.memlock)];
    findings.extend(snapshot.namespaces.map(namespaces));
    findings.extend(unmounted);
    findings
}

fn memlock(Memlock { soft, hard, exempt }: Memlock) -> Finding {
    let Some(soft) = soft else {
        return Finding::ok(MEMLOCK, "", "no limit");
    };
    let shown = kibibytes(soft);
    if exempt {
        return Finding::ok(MEMLOCK, "", format!("{shown}, which does not hold for CAP_IPC_LOCK"));
    }
    if soft > DEFAULT_LIMIT {
        return Finding::ok(MEMLOCK, "", format!("{shown} may be registered"));
    }
    let finding = if soft < PAGE {
        Finding::fail(MEMLOCK, "", format!("{shown}: no memory can be registered"))
    } else {
        Finding::warning(MEMLOCK, "", format!("{shown}: no more than that can be registered (ENOMEM)"))
    };
    finding.fix(match hard {
        None => "ulimit -l unlimited".to_owned(),
        Some(hard) if hard > DEFAULT_LIMIT => format!("ulimit -l {}", hard >> 10),
        Some(_) => "as root: prlimit --memlock=unlimited --pid PID-OF-THE-SHELL; for good: memlock in \
                    /etc/security/limits.conf, LimitMEMLOCK= of a service"
            .to_owned(),
    })
}

fn kibibytes(bytes: u64) -> String {
    if bytes.is_multiple_of(1024) { format!("{} KiB", bytes >> 10) } else { format!("{bytes} bytes") }
}

fn namespaces(mode: NetNamespaceMode) -> Finding {
    let reason = match mode {
        NetNamespaceMode::SHARED => {
            "shared: devices are seen from every network namespace, addresses are of this one".to_owned()
        }
        NetNamespaceMode::EXCLUSIVE => "exclusive: only this network namespace's devices are seen".to_owned(),
        NetNamespaceMode(mode) => format!("mode {mode}, which this program does not know"),
    };
    Finding::ok(NAMESPACE, "", reason)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::doctor::finding::Level;

    fn with(soft: Option<u64>, hard: Option<u64>, exempt: bool) -> Finding {
        memlock(Memlock { soft, hard, exempt })
    }

    #[test]
    fn a_limit_that_somebody_raised_is_well() {
        assert!(check(&sample::healthy()).iter().all(|finding| finding.level == Level::Ok));
        assert_eq!(with(None, None, false).level, Level::Ok);
        assert_eq!(with(Some(65536), Some(65536), true).level, Level::Ok);
        assert_eq!(with(Some(DEFAULT_LIMIT + 1), None, false).level, Level::Ok);
    }

    #[test]
    fn what_is_not_mounted_is_named() {
        let mut snapshot = sample::healthy();
        snapshot.unmounted = vec![("/sys", "sysfs")];
        let finding = check(&snapshot).pop().unwrap();
        assert_eq!(
            (finding.level, finding.fix.as_deref()),
            (Level::Warning, Some("mount -t sysfs sysfs /sys"))
        );
    }

    #[test]
    fn a_small_limit_has_the_fix_that_works() {
        let small = with(Some(65536), Some(65536), false);
        assert_eq!(small.level, Level::Warning);
        assert!(small.reason.contains("64 KiB") && small.fix.unwrap().contains("prlimit"));
        let soft = with(Some(65536), None, false);
        assert_eq!(soft.fix.as_deref(), Some("ulimit -l unlimited"));
        let hard = with(Some(65536), Some(1 << 30), false);
        assert_eq!(hard.fix.as_deref(), Some("ulimit -l 1048576"));
        assert_eq!(with(Some(100), None, false).level, Level::Fail);
    }
}
