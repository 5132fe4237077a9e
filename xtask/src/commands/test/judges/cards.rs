//! The emulated card under the kernel's own driver and rdma-core's tools: what it reports, faults on request, and how the driver recovers.

use std::time::{Duration, Instant};

use super::Judges;
use crate::Result;
use crate::commands::test::checks::Checks;
use crate::commands::test::pair::{self, PINGPONG, Port};
use crate::commands::test::programs::Programs;
use crate::commands::test::{Arguments, Part, Work};
use crate::vm::{Guests, Mlx4, Run, Vm};

/// devinfo's lines in the reference transcript.
const REFERENCE: [&str; 14] = [
    "hca_id:	mlx4_0",
    "transport:			InfiniBand (0)",
    "fw_ver:				2.9.1000",
    "node_guid:			10d2:c910:0000:6bd0",
    "sys_image_guid:			10d2:c910:0000:6bd3",
    "vendor_id:			0x02c9",
    "vendor_part_id:			26428",
    "hw_ver:				0xB0",
    "board_id:			MT_0D90110009",
    "state:			PORT_ACTIVE (4)",
    "max_mtu:		4096 (5)",
    "sm_lid:			1",
    "port_lid:		1",
    "link_layer:		InfiniBand",
];

/// How long a driver may take to notice: it looks for a catastrophe every five seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// Runs it on the first kernel, with `--full` on each.
pub(in crate::commands::test) fn suite<'a>(arguments: &'a Arguments, _: &Programs) -> Result<Vec<Work<'a>>> {
    let mut list = Vec::new();
    for kernel in arguments.first_kernel() {
        let judges = Judges::new(arguments, Part::Cards, &format!("cards-{kernel}"), &kernel)?;
        let place = format!("cards {kernel}");
        list.push(judges.work(place, "faults on request under the kernel's own driver", move |place| {
            let vm = Vm::new(kernel.clone()).c_tools(true).mlx4(Mlx4::default().connectx2().faults());
            let mut checks = Checks::new(&vm, &kernel, place, arguments);
            for (name, step) in STEPS {
                checks.check(name, step);
            }
            checks.finish()
        }));
    }
    Ok(list)
}

type Step = fn(&Guests) -> Result<()>;

const STEPS: [(&str, Step); 8] = [
    ("devinfo as in the transcript", devinfo),
    ("lost packets are sent again", lost_packets),
    ("packets come twice, late, damaged", odd_packets),
    ("a cable is pulled and plugged in", cable),
    ("a completion queue overruns", overrun),
    ("a catastrophe, from which the driver recovers", catastrophe),
    ("the driver is unloaded and loaded", reload),
    ("a firmware command without an answer", stall),
];

/// Runs a command that must succeed.
fn done(guests: &Guests, line: &str) -> Result<String> {
    guests.node(1).run(Run::new(line.split(' ')))?.ok().map(|output| output.text())
}

fn pingpong(guests: &Guests) -> Result<()> {
    const LINE: &str = "ibv_rc_pingpong -n 100 -e";
    pair::pair(guests, 1, LINE, &format!("{LINE} 127.0.0.1"), Port::Tcp(PINGPONG)).map(drop)
}

fn devinfo(guests: &Guests) -> Result<()> {
    let text = done(guests, "ibv_devinfo -d mlx4_0")?;
    let missing: Vec<&str> = REFERENCE.into_iter().filter(|line| !text.contains(line)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("not in its output: {missing:?}\n{text}")) }
}

fn lost_packets(guests: &Guests) -> Result<()> {
    for fault in ["drop rc send skip 5", "drop rc ack skip 50", "duplicate rc send skip 60 count 3"] {
        guests.emulator()?.control(fault)?;
    }
    pingpong(guests)?;
    guests.emulator()?.control("clear")?;
    // Messages have four packets. Where the second was lost, the third came out of sequence.
    let counter = "/sys/class/infiniband/mlx4_0/hw_counters/rq_num_oos";
    let count = done(guests, &format!("/init cat {counter}"))?;
    if count.trim() == "0" { Err(format!("{counter} is 0")) } else { Ok(()) }
}

/// A program notices none of these; the card reports that each of them has happened.
fn odd_packets(guests: &Guests) -> Result<()> {
    let emulator = guests.emulator()?;
    for fault in ["duplicate", "delay 30", "corrupt", "delay 200"] {
        for (kind, skip) in [("send", 9), ("ack", 20), ("send", 41)] {
            emulator.control(&format!("{fault} rc {kind} skip {skip}"))?;
        }
        pingpong(guests)?;
        let left = emulator.control("faults")?;
        if !left.trim().is_empty() {
            return Err(format!("{fault}: has not happened: {left}"));
        }
    }
    let counter = "/sys/class/infiniband/mlx4_0/ports/1/counters/port_rcv_errors";
    let count = done(guests, &format!("/init cat {counter}"))?;
    if count.trim() == "3" { Ok(()) } else { Err(format!("{counter} is {count:?}, and 3 were damaged")) }
}

fn cable(guests: &Guests) -> Result<()> {
    guests.emulator()?.control("port 1 down")?;
    await_text(guests, "ibv_devinfo", "PORT_DOWN (1)")?;
    guests.emulator()?.control("port 1 up")?;
    await_text(guests, "ibv_devinfo", "PORT_ACTIVE (4)")?;
    pingpong(guests)
}

/// The queue of a waiting program overruns; the device keeps working for others.
fn overrun(guests: &Guests) -> Result<()> {
    let emulator = guests.emulator()?;
    if emulator.control("overrun 1 0x7fff").is_ok() {
        return Err("a queue that does not exist overran".into());
    }
    let waiting = guests.node(1).spawn(Run::new(["ibv_rc_pingpong"]))?;
    guests.node(1).await_port(PINGPONG)?;
    // The first numbers are reserved, the next belong to the kernel, the last to the program.
    let last = (0x80..0x100).rev().find(|cqn| emulator.control(&format!("overrun 1 {cqn}")).is_ok());
    last.ok_or("there is no completion queue to overrun")?;
    waiting.signal(9)?;
    waiting.wait()?;
    pingpong(guests)
}

fn catastrophe(guests: &Guests) -> Result<()> {
    guests.emulator()?.control("catastrophe 1")?;
    let end = Instant::now() + PATIENCE;
    while guests.emulator()?.control("status")?.contains("broken down") {
        if Instant::now() > end {
            return Err("the driver has not reset the card".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    done(guests, "/init await-active mlx4_0")?;
    pingpong(guests)
}

fn reload(guests: &Guests) -> Result<()> {
    for module in ["mlx4_ib", "mlx4_core"] {
        done(guests, &format!("/init unload {module}"))?;
    }
    let status = guests.emulator()?.control("status")?;
    if !status.contains("Reset") {
        return Err(format!("the driver has left the card in {status}"));
    }
    for module in ["mlx4_core", "mlx4_ib"] {
        done(guests, &format!("/init load {module}"))?;
    }
    done(guests, "/init await-active mlx4_0")?;
    pingpong(guests)
}

/// While a command has no answer the driver can post no other. A caller that wants to post one gives up after ten seconds (one that waits
/// for an answer after a minute), and the driver resets the card.
fn stall(guests: &Guests) -> Result<()> {
    guests.emulator()?.control("stall 1 SW2HW_CQ")?;
    let stuck = guests.node(1).spawn(Run::new(["ibv_rc_pingpong"]))?;
    let start = Instant::now();
    while guests.node(1).run(Run::new(["ibv_devinfo"]))?.text().contains("PORT_ACTIVE") {
        if start.elapsed() > PATIENCE {
            return Err("commands are answered all the same".into());
        }
    }
    let output = stuck.wait()?;
    if output.success() {
        return Err("the program whose queue was not created has succeeded".into());
    }
    done(guests, "/init await-active mlx4_0")?;
    pingpong(guests)
}

fn await_text(guests: &Guests, line: &str, wanted: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = done(guests, line)?;
        if text.contains(wanted) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("{line}: no {wanted:?} in its output:\n{text}"));
        }
    }
}
