//! Emulated ConnectX-3 cards on Ethernet, two guests: TCP over their network devices, RoCE with rdma-core's tools and with ours.
//!
//! The guests have no other network device, so every pingpong's exchange goes over the cards too.

use super::checks::Checks;
use super::judges::{CHECKER_PORT, Judges, REQUIRED, good_verdict};
use super::pair::{Port, pair, words};
use super::programs::Programs;
use super::{Arguments, Depth, Part, Work, pingpong, rping};
use crate::vm::{Guests, Mlx4, Vm};
use crate::{Result, checker};

/// rstream's TCP port.
const STREAM_PORT: Port = Port::Tcp(7471);

/// Runs the wanted checks on the first kernel, with `--full` on each, in one boot each: ours where the driver is tested, and the judges of the card if they are due.
pub(super) fn suite<'a>(arguments: &'a Arguments, programs: &Programs) -> Result<Vec<Work<'a>>> {
    let ours = arguments.wants_part(Part::Driver);
    let mut list = Vec::new();
    for kernel in arguments.first_kernel() {
        let place = format!("roce {kernel}");
        let judges = Judges::new(arguments, Part::Mlx4, &format!("roce-{kernel}"), &kernel)?;
        let judged = arguments.wants_part(Part::Mlx4) && judges.due();
        let mut vm = Vm::new(kernel.clone()).nodes(2).c_tools(true).mlx4(Mlx4::default().ethernet());
        if ours {
            vm = programs.add(vm, "bareverbs")?;
        }
        if judged {
            vm = programs.add(vm, checker::NAME)?;
        }
        let what = "TCP and RoCE on ConnectX-3 cards on Ethernet";
        list.push(Work::new(place.clone(), what, move || {
            let mut checks = Checks::new(&vm, &kernel, &place, arguments);
            if judged {
                self::c(&mut checks);
            }
            if ours {
                self::ours(&mut checks);
            }
            checks.nothing_is_left(2);
            let mut tally = checks.finish();
            if judged {
                judges.record(&tally)?;
            } else if arguments.wants_part(Part::Mlx4) {
                tally.leave_out(judges.why_left_out(&format!("{place}: rdma-core's tools alone")));
            }
            Ok(tally)
        }));
    }
    Ok(list)
}

/// rdma-core's tools alone.
fn c(checks: &mut Checks<'_>) {
    checks.check("ibv_devinfo -v", devinfo);
    checks.check("TCP over the network device", stream);
    pingpong::c(checks, &pingpong::ROCE);
    let both = checks.depth() == Depth::Full;
    checks.check("verbscheck", |guests| judged(guests, both));
    rping::c(checks, &rping::ETHERNET);
}

/// Ours, beside them.
fn ours(checks: &mut Checks<'_>) {
    checks.check("devinfo", same_devinfo);
    checks.check("doctor", doctor);
    pingpong::ours(checks, &pingpong::ROCE);
    rping::ours(checks, &rping::ETHERNET);
}

/// The port's link layer, and the GIDs of its network device's addresses.
fn devinfo(guests: &Guests) -> Result<()> {
    for node in [1, 2] {
        let text = guests.node(node).run(words("ibv_devinfo -v"))?.ok()?.text();
        let gid = format!("0000:0000:0000:0000:0000:ffff:0a00:000{node}, RoCE v1");
        for wanted in ["hca_id:\tmlx4_0", "PORT_ACTIVE (4)", "link_layer:\t\tEthernet", &gid] {
            if !text.contains(wanted) {
                return Err(format!("guest {node}: no {wanted:?} in {text:?}"));
            }
        }
    }
    Ok(())
}

fn same_devinfo(guests: &Guests) -> Result<()> {
    for options in ["", "-v"] {
        let said = |tool: &str| {
            Ok::<_, String>(guests.node(1).run(words(&format!("{tool} {options}")))?.ok()?.text())
        };
        let (ours, c) = (said("bareverbs devinfo")?, said("ibv_devinfo")?);
        if ours != c {
            return Err(format!("devinfo {options}: {ours:?} where C says {c:?}"));
        }
    }
    Ok(())
}

/// All is well with a card that has RoCE v1 only, and nothing is said about UDP, which that does not use.
fn doctor(guests: &Guests) -> Result<()> {
    let text = guests.node(1).run(words("bareverbs doctor --ping"))?.ok()?.text();
    let wanted = [
        "ok       port mlx4_0/1: ACTIVE, RoCE over eth0\n",
        "ok       gid mlx4_0/1: -g 1: ::ffff:10.0.0.1, RoCE v1, which reaches the same Ethernet only\n",
        "ok       ping mlx4_0/1: 64 bytes there and back",
        " checks: all well\n",
    ];
    match wanted.iter().find(|part| !text.contains(**part)) {
        Some(part) => Err(format!("no {part:?} in {text:?}")),
        None if text.contains("firewall") => Err(format!("packet filters are mentioned in {text:?}")),
        None => Ok(()),
    }
}

/// 16 MB there and back by plain sockets, in pieces of 1000 bytes and of 64 KiB; every byte is compared.
fn stream(guests: &Guests) -> Result<()> {
    for (size, count) in [(1000, 200), (65536, 250)] {
        let server = format!("rstream -T s -T v -S {size} -C {count}");
        pair(guests, 2, &server, &format!("{server} -s 10.0.0.1"), STREAM_PORT)?;
    }
    Ok(())
}

/// The checker between both guests, and in one too if `both` are wanted.
fn judged(guests: &Guests, both: bool) -> Result<()> {
    let command = format!("{} --gid 1 --require {REQUIRED} --seeds 1 --ops 200", checker::NAME);
    let alone = both.then(|| guests.node(1).run(words(&command))).transpose()?;
    let (server, client) = (format!("{command} --server"), format!("{command} --client 10.0.0.1"));
    let between = pair(guests, 2, &server, &client, CHECKER_PORT)?;
    alone.iter().chain(&between).try_for_each(|output| {
        good_verdict(output).map(drop).map_err(|error| format!("{error}\n{}", output.text()))
    })
}
