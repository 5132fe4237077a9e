//! The reference transcript: what the tools print on a ConnectX-2, with our binary.

use super::{Checks, tools, words};
use crate::Result;
use crate::commands::test::pingpong::{Who, pair};
use crate::vm::{Guests, Output};

/// What devinfo has to say, word for word.
const DEVINFO: [&str; 20] = [
    "hca_id: mlx4_0",
    "transport: InfiniBand (0)",
    "fw_ver: 2.9.1000",
    "node_guid: 10d2:c910:0000:6bd0",
    "sys_image_guid: 10d2:c910:0000:6bd3",
    "vendor_id: 0x02c9",
    "vendor_part_id: 26428",
    "hw_ver: 0xB0",
    "board_id: MT_0D90110009",
    "phys_port_cnt: 1",
    "port: 1",
    "state: PORT_ACTIVE (4)",
    "max_mtu: 4096 (5)",
    "active_mtu: 4096 (5)",
    "sm_lid: 1",
    "port_lid: 1",
    "port_lmc: 0x00",
    "link_layer: InfiniBand",
    "",
    "",
];

/// Each node's LID and GID.
const NODES: [[&str; 2]; 2] =
    [["LID 0x0001", "fe80::10d2:c910:0:6bd1"], ["LID 0x0009", "fe80::10d2:c910:0:6c61"]];

const OPTIONS: &str = "-g 0 -d mlx4_0 -i 1";

/// The cards are those of the transcript.
pub(super) fn reference(checks: &mut Checks<'_>) {
    tools::devinfo(checks);
    checks.check("devinfo as in the transcript", devinfo);
    for nodes in [1, 2] {
        checks.check(&format!("rc pingpong as in the transcript, {nodes} guests"), |guests| {
            let [server, client] = pair(guests, nodes, "rc", OPTIONS, [Who::Ours; 2])?;
            let (here, there) = (NODES[0], NODES[nodes - 1]);
            told(&server, here, there)?;
            told(&client, there, here)
        });
    }
}

fn devinfo(guests: &Guests) -> Result<()> {
    let text = guests.node(1).run(words("bareverbs devinfo -d mlx4_0"))?.ok()?.text();
    let plain = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = text.lines().map(plain).filter(|line| line != "Device ports:").collect();
    lines.resize(DEVINFO.len().max(lines.len()), String::new());
    match lines.iter().zip(DEVINFO).find(|(line, wanted)| line != wanted) {
        None if lines.len() == DEVINFO.len() => Ok(()),
        None => Err(format!("more lines than the transcript has: {lines:?}")),
        Some((line, wanted)) => Err(format!("{line:?} where the transcript has {wanted:?}")),
    }
}

/// A pingpong's lines are the transcript's but for its numbers.
fn told(output: &Output, local: [&str; 2], remote: [&str; 2]) -> Result<()> {
    let text = output.text();
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let address = |line: &str, side: &str, [lid, gid]: [&str; 2]| {
        let numbers = line.strip_prefix(side)?.trim_start().strip_prefix(lid)?.strip_prefix(", QPN 0x")?;
        let (qpn, rest) = numbers.split_once(", PSN 0x")?;
        let psn = rest.strip_suffix(gid)?.strip_suffix(", GID ")?;
        (qpn.len() == 6 && psn.len() == 6).then_some(())
    };
    let good = match lines[..] {
        [first, second, bytes, time] => {
            address(first, "local address:", local).is_some()
                && address(second, "remote address:", remote).is_some()
                && bytes.starts_with("8192000 bytes in ")
                && bytes.ends_with(" Mbit/sec")
                && time.starts_with("1000 iters in ")
                && time.ends_with(" usec/iter")
        }
        _ => false,
    };
    if good { Ok(()) } else { Err(format!("{}: not as in the transcript: {text:?}", output.command)) }
}
