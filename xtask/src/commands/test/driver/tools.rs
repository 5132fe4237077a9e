//! devinfo, asyncwatch, doctor and more pingpongs, ours beside rdma-core's.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Checks, words};
use crate::Result;
use crate::commands::test::pair::{PINGPONG, Port, serve};
use crate::commands::test::pingpong::{PAIRINGS, Who, pair, tool};
use crate::vm::{Guests, Job, Output};

/// What our devices and devinfo print is what C's print.
pub(super) fn devinfo(checks: &mut Checks<'_>) {
    checks.check("devices and devinfo", |guests| {
        for tool in ["devices", "devinfo", "devinfo -v", "devinfo -d mlx4_0 -i 1", "devinfo -l"] {
            let said = |prefix: &str| -> Result<String> {
                Ok(guests.node(1).run(words(&format!("{prefix}{tool}")))?.ok()?.text())
            };
            let (ours, c) = (said("bareverbs ")?, said("ibv_")?);
            if ours != c {
                return Err(format!("{tool}: {ours:?} where C says {c:?}"));
            }
        }
        Ok(())
    });
}

/// Each of the kernel's interfaces gives the same answers, and the links are those of iproute2.
pub(super) fn encodings(checks: &mut Checks<'_>) {
    checks.check("objects by ioctl and by write", |guests| {
        for (tool, part) in
            [("devices --json", "mlx4_0"), ("devinfo --json", "fe80:"), ("link show", "mlx4_0/1")]
        {
            let said = |encoding| -> Result<String> {
                let run = words(&format!("bareverbs {tool}")).env("BAREVERBS_ABI", encoding);
                Ok(guests.node(1).run(run)?.ok()?.text())
            };
            let (ioctl, write) = (said("ioctl")?, said("write")?);
            if ioctl != write || !ioctl.contains(part) {
                return Err(format!("{tool}: {ioctl:?} by ioctl, {write:?} by write"));
            }
        }
        let said = |line| -> Result<String> { Ok(guests.node(1).run(words(line))?.ok()?.text()) };
        let (ours, theirs) = (said("bareverbs link")?, said("rdma link")?);
        if ours == theirs { Ok(()) } else { Err(format!("link: {ours:?} where rdma says {theirs:?}")) }
    });
    checks.check("asyncwatch --json by ioctl and by write", |guests| {
        let start = |encoding| {
            guests.node(1).spawn(words("bareverbs asyncwatch --json").env("BAREVERBS_ABI", encoding))
        };
        let watches = [start("ioctl")?, start("write")?];
        let told = |watch: &Job<'_>, event: &str| {
            let wanted = format!("{{\"device\":\"mlx4_0\",\"event\":{event},\"port\":1}}");
            String::from_utf8_lossy(&watch.stdout_so_far()).lines().any(|line| line == wanted)
        };
        let all_told = || {
            watches.iter().all(|watch| {
                told(watch, r#"{"value":10,"name":"IBV_EVENT_PORT_ERR"}"#)
                    && told(watch, r#"{"value":9,"name":"IBV_EVENT_PORT_ACTIVE"}"#)
            })
        };
        // They print nothing when they begin to watch.
        let end = Instant::now() + Duration::from_secs(20);
        while !all_told() {
            if Instant::now() > end {
                return Err(format!("{:?}", watches.each_ref().map(Job::stdout_so_far)));
            }
            guests.emulator()?.control("port 1 down")?;
            guests.emulator()?.control("port 1 up")?;
            sleep(Duration::from_millis(300));
        }
        for watch in watches {
            watch.signal(15)?;
            watch.wait()?;
        }
        guests.node(1).run(words("/init await-carrier ib0"))?.ok().map(drop)
    });
}

/// All is well, and no advice is given that is about RoCE.
pub(super) fn doctor(checks: &mut Checks<'_>) {
    checks.check("doctor", |guests| {
        let text = guests.node(1).run(words("bareverbs doctor --ping"))?.ok()?.text();
        let wanted = [
            "ok       port mlx4_0/1: ACTIVE, InfiniBand\n",
            "ok       gid mlx4_0/1: LID 1; -g is needed across subnets only",
            "ok       ping mlx4_0/1: 64 bytes there and back",
            " checks: all well\n",
        ];
        match wanted.iter().find(|part| !text.contains(**part)) {
            Some(part) => Err(format!("no {part:?} in {text:?}")),
            None => Ok(()),
        }
    });
}

/// The cable is pulled and plugged in: ours reports the same as C's. IP over InfiniBand must come back after that.
pub(super) fn asyncwatch(checks: &mut Checks<'_>) {
    const DOWN: &str = "  event_type IBV_EVENT_PORT_ERR (10), port 1\n";
    const UP: &str = "  event_type IBV_EVENT_PORT_ACTIVE (9), port 1\n";
    checks.check("asyncwatch", |guests| {
        let start = |tool| guests.node(1).spawn(words(tool));
        let watches = [start("bareverbs asyncwatch")?, start("ibv_asyncwatch")?];
        let told = |what: &str| {
            watches
                .iter()
                .try_for_each(|watch| said(watch, what).map_err(|error| format!("{what:?}: {error}")))
        };
        told("mlx4_0: async event FD ")?;
        guests.emulator()?.control("port 1 down")?;
        told(DOWN)?;
        port_down(guests)?;
        guests.emulator()?.control("port 1 up")?;
        told(UP)?;
        let events = watches.each_ref().map(|watch| {
            let text = String::from_utf8_lossy(&watch.stdout_so_far()).into_owned();
            let end = text.find(UP).unwrap_or_default();
            text[..end].lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        });
        for watch in watches {
            watch.signal(15)?;
            watch.wait()?;
        }
        if events[0] != events[1] {
            return Err(format!("{:?} where C says {:?}", events[0], events[1]));
        }
        guests.node(1).run(words("/init await-carrier ib0"))?.ok().map(drop)
    });
}

/// Doctor says that there is no link, and what to look at.
fn port_down(guests: &Guests) -> Result<()> {
    const WANTED: &str =
        "fail     port mlx4_0/1: DOWN: there is no link, InfiniBand\n         fix: see the cable";
    let said = guests.node(1).run(words("bareverbs doctor"))?;
    if said.code() == 2 && said.text().contains(WANTED) {
        Ok(())
    } else {
        Err(format!("doctor: {}", said.text()))
    }
}

/// Waits until a job has printed something.
fn said(job: &Job<'_>, what: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let text = String::from_utf8_lossy(&job.stdout_so_far()).into_owned();
        if text.contains(what) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("only {text:?} after 20 s"));
        }
        sleep(Duration::from_millis(20));
    }
}

/// Timestamps, and several clients of a server.
pub(super) fn more_pingpongs(checks: &mut Checks<'_>) {
    for who in PAIRINGS {
        checks.check(&format!("rc -t: {:?} <- {:?}", who[0], who[1]), |guests| {
            pair(guests, 2, "rc", "-n 200 -t", who)?.iter().try_for_each(clock_and_time_agree)
        });
    }
    for server in [Who::Ours, Who::C] {
        checks.check(&format!("xsrq: {server:?} <- three clients in the other guest"), |guests| {
            let [served, asked @ ..] = several(guests, server, [2, 2, 2])?;
            let served = served.ok()?.text();
            asked.into_iter().try_for_each(|output| output.ok().map(drop))?;
            let remote = |line: &&str| line.contains("remote:") && line.contains("LID 0009");
            if served.lines().filter(remote).count() == 3 { Ok(()) } else { Err(served) }
        });
    }
    checks.check("xsrq: clients in both guests", |guests| {
        let [served, ..] = several(guests, Who::Ours, [1, 2, 2])?;
        let said = String::from_utf8_lossy(&served.stderr);
        if served.code() == 1 && said.contains("are all on one machine") { Ok(()) } else { Err(said.into()) }
    });
}

/// The cycles from one message to the next are the time that an iteration takes, by the clock whose frequency `devinfo -v` shows.
fn clock_and_time_agree(output: &Output) -> Result<()> {
    const MHZ: f64 = 427.0;
    let text = output.text();
    let number = |before: &str, after: &str| {
        let line = text.lines().find_map(|line| line.strip_suffix(after)?.rsplit_once(before));
        line.and_then(|(_, number)| number.trim().parse::<f64>().ok())
    };
    let cycles = |which: &str| number(&format!("{which} receive completion clock cycles ="), "");
    let figures = (number(" = ", " usec/iter"), cycles("Min"), cycles("Average"), cycles("Max"));
    match figures {
        (Some(time), Some(min), Some(average), Some(max))
            if (0.5..2.0).contains(&(average / MHZ / time))
                && 0.0 < min
                && min <= average
                && average <= max =>
        {
            Ok(())
        }
        _ => Err(format!("{}: {text}", output.command)),
    }
}

/// Runs a server of xsrq and three clients (ours, C's and ours) in these guests and returns how they ended, the server first. What is
/// meant for one client comes over the connection of another, so all must share a domain.
fn several(guests: &Guests, server: Who, nodes: [usize; 3]) -> Result<[Output; 4]> {
    let line = |who| {
        let patience = if who == Who::C { "" } else { "--timeout 3" };
        tool(who, "xsrq", &format!("-n 50 -e -s 1000 {patience}"))
    };
    let serving = serve(guests, &format!("{} -c 3", line(server)), Port::Tcp(PINGPONG))?;
    let ask = |(node, who)| guests.node(node).spawn(words(&format!("{} 10.0.0.1", line(who))));
    let [first, second, third] = nodes;
    let asking = [ask((first, Who::Ours))?, ask((second, Who::C))?, ask((third, Who::Ours))?];
    let served = serving.wait()?;
    if !served.success() {
        // C's client waits for ever.
        asking.iter().try_for_each(|job| job.signal(15))?;
    }
    let [first, second, third] = asking;
    Ok([served, first.wait()?, second.wait()?, third.wait()?])
}
