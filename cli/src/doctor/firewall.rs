//! A hint at packet filters, which are not read to the end here: RoCE v2 is UDP to port 4791.
//!
//! Packets of adapters pass by the host's filters. Those of rxe are the kernel's own and go through them.

use bareverbs::GidType;
use bareverbs::discover::DriverId;

use super::finding::Finding;
use super::ports;
use super::snapshot::{Chain, NfTables, Port, Snapshot};

const CHECK: &str = "firewall";

pub(super) fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let devices = snapshot.devices.as_deref().unwrap_or_default();
    let devices: Vec<_> =
        devices.iter().filter(|device| !device.iwarp && device.ports.iter().any(sends_udp)).collect();
    if devices.is_empty() {
        return Vec::new();
    }
    if !devices.iter().any(|device| device.driver == DriverId::RXE) {
        let reason = "adapters pass by this host's packet filters; switches must let UDP port 4791 through";
        return vec![Finding::ok(CHECK, "", reason)];
    }
    filters(snapshot)
}

/// RoCE v1 has an Ethernet type of its own. A port that has no GID yet, or does not tell, may be one of v2.
fn sends_udp(port: &Port) -> bool {
    port.netdev.is_some() && ports::choose(port).is_none_or(|entry| entry.gid_type == GidType::ROCE_V2)
}

fn filters(snapshot: &Snapshot) -> Vec<Finding> {
    let mut hints = Vec::new();
    match &snapshot.filter.nf_tables {
        NfTables::NotThere => {}
        NfTables::Silent(why) => {
            hints.push(format!("nf_tables' rules are not known here ({why}): nft list ruleset"))
        }
        NfTables::Chains(chains) => {
            let dropping: Vec<_> = chains.iter().filter(|chain| chain.drops).map(dropping).collect();
            if !dropping.is_empty() {
                return dropping;
            }
            for chain in chains.iter().filter(|chain| chain.rules > 0) {
                let Chain { family, table, name, rules, .. } = chain;
                let plural = if *rules == 1 { "" } else { "s" };
                hints.push(format!(
                    "{rules} rule{plural} not looked into: nft list chain {family} {table} {name}"
                ));
            }
        }
    }
    match snapshot.filter.legacy {
        Some(false) => {}
        Some(true) => hints.push("iptables' rules are not looked into: iptables -S".to_owned()),
        None => hints.push("iptables' rules are not known here (only root may ask): iptables -S".to_owned()),
    }
    if hints.is_empty() {
        return vec![Finding::ok(CHECK, "", "no packet filter is in the way of UDP port 4791 on this host")];
    }
    let reason = format!("nothing seen that drops UDP port 4791 on this host; {}", hints.join("; "));
    vec![Finding::ok(CHECK, "", reason)]
}

fn dropping(chain: &Chain) -> Finding {
    let Chain { family, table, name, hook, rules, .. } = chain;
    let but = if *rules == 0 { "all packets" } else { "all packets that no rule accepts" };
    let finding = Finding::warning(
        CHECK,
        "",
        format!("chain {family} {table} {name} ({hook}) drops {but}; rxe needs UDP port 4791"),
    );
    let accept = format!("nft insert rule {family} {table} {name} udp dport 4791 accept");
    finding.fix(match rules {
        0 => accept,
        // A rule that is there already stays unseen here.
        _ => format!("unless nft list chain {family} {table} {name} has it: {accept}"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::doctor::finding::Level;

    fn chain(drops: bool, rules: u32) -> Chain {
        let (family, hook) = ("inet", "input");
        Chain { family, table: "filter".into(), name: "input".into(), hook, drops, rules }
    }

    fn with(nf_tables: NfTables, legacy: Option<bool>) -> Finding {
        let mut snapshot = sample::healthy();
        snapshot.filter.nf_tables = nf_tables;
        snapshot.filter.legacy = legacy;
        check(&snapshot).remove(0)
    }

    #[test]
    fn only_what_is_known_is_said() {
        assert_eq!(
            with(NfTables::NotThere, Some(false)).reason,
            "no packet filter is in the way of UDP port 4791 on this host"
        );
        let unknown = with(NfTables::Silent("only root may ask".into()), None);
        assert_eq!(unknown.level, Level::Ok);
        assert!(unknown.reason.contains("nft list ruleset") && unknown.reason.contains("iptables -S"));
        let rules = with(NfTables::Chains(vec![chain(false, 0), chain(false, 3)]), Some(false));
        assert!(rules.level == Level::Ok && rules.reason.contains("3 rules"), "{rules:?}");
        let drops = with(NfTables::Chains(vec![chain(false, 0), chain(true, 3)]), Some(false));
        assert_eq!(drops.level, Level::Warning);
        let accept = "nft insert rule inet filter input udp dport 4791 accept";
        let unless = format!("unless nft list chain inet filter input has it: {accept}");
        assert_eq!(drops.fix, Some(unless));
        let mut snapshot = sample::healthy();
        snapshot.filter.nf_tables = NfTables::Chains(vec![chain(true, 0), chain(false, 1), chain(true, 0)]);
        let fixes: Vec<_> = check(&snapshot).into_iter().filter_map(|finding| finding.fix).collect();
        assert_eq!(fixes, [accept, accept], "each chain that drops");
    }

    #[test]
    fn adapters_are_another_matter() {
        let mut snapshot = sample::healthy();
        snapshot.filter.nf_tables = NfTables::Chains(vec![chain(true, 0)]);
        snapshot.devices.as_mut().unwrap()[0].driver = DriverId::MLX5;
        assert!(check(&snapshot)[0].level == Level::Ok && check(&snapshot)[0].reason.contains("adapters"));
        snapshot.devices.as_mut().unwrap()[0].ports[0].netdev = None;
        assert!(check(&snapshot).is_empty());
    }

    #[test]
    fn roce_v1_is_no_udp() {
        let mut snapshot = sample::healthy();
        let device = &mut snapshot.devices.as_mut().unwrap()[0];
        device.driver = DriverId::MLX4;
        let detail = device.ports[0].detail.as_mut().unwrap();
        detail.gids = Ok(vec![sample::gid(0, "::ffff:10.0.0.1", GidType::ROCE_V1)]);
        assert!(check(&snapshot).is_empty());
        snapshot.devices.as_mut().unwrap()[0].ports[0].detail.as_mut().unwrap().gids = Ok(Vec::new());
        assert_eq!(check(&snapshot).len(), 1, "what is not known is reported");
    }
}
