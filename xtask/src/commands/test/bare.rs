//! A guest without RDMA, to which modules are added one after another: what the tools say at each step.

use super::programs::Programs;
use super::{Arguments, Work};
use crate::Result;
use crate::tally::Tally;
use crate::vm::{Guests, Run, Vm};

/// Runs it on the first kernel, with `--full` on each.
pub(super) fn suite<'a>(arguments: &'a Arguments, programs: &Programs) -> Result<Vec<Work<'a>>> {
    let mut list = Vec::new();
    for kernel in arguments.first_kernel() {
        let place = format!("vm {kernel} bare");
        if !arguments.wants(&place) {
            continue;
        }
        let vm = programs.add(Vm::new(kernel).module("nf_tables").bare(), "bareverbs")?;
        list.push(Work::new(place.clone(), "the tools in a guest without RDMA", move || one(&vm, &place)));
    }
    Ok(list)
}

fn one(vm: &Vm, place: &str) -> Result<Tally> {
    let guests = vm.boot()?;
    let guest = Guest(&guests);
    let mut tally = Tally::default();
    let steps: [(&str, Step); 4] = [
        ("nothing is loaded", nothing),
        ("ib_uverbs is loaded", uverbs_alone),
        ("rdma_rxe is loaded", without_crc32),
        ("a packet filter", packet_filter),
    ];
    for (name, step) in steps {
        tally.timed(&format!("{place}: {name}"), || step(&guest));
    }
    tally.check(&format!("{place}: shutdown, kernel log"), guests.shutdown());
    Ok(tally)
}

type Step = fn(&Guest<'_>) -> Result<()>;

struct Guest<'a>(&'a Guests);

impl Guest<'_> {
    /// Runs a command that must succeed.
    fn done(&self, line: &str) -> Result<String> {
        self.0.node(1).run(Run::new(line.split(' ')))?.ok().map(|output| output.text())
    }

    fn release(&self) -> Result<String> {
        self.done("/init cat /proc/sys/kernel/osrelease").map(|release| release.trim().to_owned())
    }

    /// Whether the kernel looks up CRC32 by name, so that its modules have to be loaded by hand where there is no modprobe.
    fn takes_checksums_from_modules(&self) -> Result<bool> {
        let release = self.release()?;
        Ok(["6.1.", "6.12."].iter().any(|line| release.starts_with(line)))
    }

    /// Runs a command that must exit with `code` and print all of `parts`, on either output.
    fn says(&self, run: Run, code: u8, parts: &[&str]) -> Result<()> {
        let output = self.0.node(1).run(run)?;
        let said = format!("{}{}", output.text(), String::from_utf8_lossy(&output.stderr));
        if output.code() != code {
            return Err(format!("{}: {} where {code} was expected: {said}", output.command, output.ending()));
        }
        match parts.iter().find(|part| !said.contains(**part)) {
            Some(part) => Err(format!("{} does not say {part:?} but {said}", output.command)),
            None => Ok(()),
        }
    }

    fn doctor(&self, code: u8, parts: &[&str]) -> Result<()> {
        self.says(Run::new(["bareverbs", "doctor", "--ping"]), code, parts)
    }

    fn refuses(&self, line: &str, parts: &[&str]) -> Result<()> {
        self.says(Run::new(line.split(' ')), 1, parts)
    }
}

/// Every tool says that there is no RDMA and what to load; doctor says whether it can be loaded.
fn nothing(guest: &Guest<'_>) -> Result<()> {
    let tools = [
        "devices",
        "devinfo",
        "devinfo -d rxe0",
        "asyncwatch",
        "pingpong rc -g 1",
        "pingpong rc -g 1 10.0.0.1",
    ];
    for tool in tools {
        guest.refuses(&format!("bareverbs {tool}"), &["RDMA", "modprobe -a ib_uverbs rdma_rxe"])?;
    }
    for tool in ["rping -s", "rping -c -a 10.0.0.1"] {
        guest.refuses(&format!("bareverbs {tool}"), &["no connection manager", "modprobe rdma_ucm"])?;
    }
    for action in ["show", "add rxe0 type rxe netdev lo", "delete rxe0"] {
        guest.refuses(&format!("bareverbs link {action}"), &["EPROTONOSUPPORT", "modprobe ib_uverbs"])?;
    }
    let release = guest.release()?;
    let folder = format!("/lib/modules/{}", release);
    guest.doctor(
        2,
        &[
            &format!("fail     module ib_uverbs: not loaded, and {folder} does not tell whether it can be"),
            "fix: modprobe ib_uverbs",
            "fail     module rdma_rxe: ",
            "warning  module rdma_ucm: ",
            "fail     device: this kernel has no RDMA subsystem loaded",
        ],
    )?;
    let list = "kernel/drivers/infiniband/core/ib_uverbs.ko.xz: kernel/drivers/infiniband/core/ib_core.ko.xz\n\
                kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko.xz: \n";
    let write = Run::new(["/init", "write", &format!("{folder}/modules.dep")]).stdin(list);
    guest.0.node(1).run(write)?.ok()?;
    guest.doctor(
        2,
        &[
            "fail     module ib_uverbs: not loaded; ",
            "fix: modprobe ib_uverbs\n",
            "fix: modprobe rdma_rxe\n",
            &format!("warning  module rdma_ucm: there is none for this kernel ({})", release),
            "fix: modprobe rdma_rxe && bareverbs link add rxe0 type rxe netdev NETDEV",
        ],
    )?;
    // An ordinary user sees the same.
    guest.says(Run::new(["bareverbs", "doctor"]).uid(1000), 2, &["fix: modprobe ib_uverbs\n"])
}

/// The core is loaded, a driver is not.
fn uverbs_alone(guest: &Guest<'_>) -> Result<()> {
    guest.done("/init load ib_uverbs")?;
    guest.doctor(
        2,
        &[
            "ok       module ib_uverbs: loaded",
            "fail     module rdma_rxe: not loaded",
            "fail     device: there is none\n",
            "fix: modprobe rdma_rxe && ",
        ],
    )?;
    guest.refuses("bareverbs devinfo", &["there is no RDMA device"])?;
    guest.done("bareverbs link")?;
    guest.refuses("bareverbs link add rxe0 type rxe netdev lo", &["EINVAL", "modprobe rdma_rxe"])
}

/// rxe of Linux 6.1 and 6.12 asks for a CRC32 module by name when a link is made.
fn without_crc32(guest: &Guest<'_>) -> Result<()> {
    guest.done("/init load rdma_rxe")?;
    let add = "bareverbs link add rxe0 type rxe netdev dummy0";
    guest.doctor(2, &["ok       module rdma_rxe: loaded", &format!("fix: {add}\n")])?;
    if guest.takes_checksums_from_modules()? {
        guest.refuses(add, &["ENOENT", "modprobe crc32_generic"])?;
        guest.done("/init load crc32_generic")?;
    }
    guest.done(add)?;
    guest.doctor(
        2,
        &["fail     port rxe0/1: DOWN: its network device is switched off", "fix: ip link set dev dummy0 up"],
    )
}

/// Root sees the name of a filter that drops packets; others see that only root may ask.
fn packet_filter(guest: &Guest<'_>) -> Result<()> {
    let none = "ok       firewall: no packet filter is in the way";
    guest.doctor(2, &[none])?;
    if guest.takes_checksums_from_modules()? {
        guest.done("/init load crc32c_generic")?;
    }
    guest.done("/init load nf_tables")?;
    guest.doctor(2, &[none])?;
    guest.done("/init drop-input")?;
    guest.doctor(
        2,
        &[
            "warning  firewall: chain inet filter input (input) drops all packets",
            "fix: nft insert rule inet filter input udp dport 4791 accept",
        ],
    )?;
    let user = Run::new(["bareverbs", "doctor"]).uid(1000);
    guest.says(user, 2, &["ok       firewall: nothing seen that drops", "only root may ask"])
}
