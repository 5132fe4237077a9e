//! iWARP in one guest with siw: the library, the tools and RDMA-CM beside rdma-core's.

use super::checks::Checks;
use super::pair::{RPING, pair, serve, words};
use super::programs::Programs;
use super::{Arguments, Work, guest};
use crate::Result;
use crate::vm::{Guests, Kernel, Vm};

/// The first kernel; all of them with `--full` or where they are named.
pub(super) fn kernels(arguments: &Arguments) -> Vec<Kernel> {
    let mut kernels = arguments.kernels();
    if !arguments.full && arguments.kernel.is_empty() {
        kernels.truncate(1);
    }
    kernels
}

/// Runs it on these kernels.
pub(super) fn suite<'a>(arguments: &'a Arguments, programs: &Programs) -> Result<Vec<Work<'a>>> {
    let mut list = Vec::new();
    for kernel in kernels(arguments) {
        let vm = Vm::new(kernel.clone()).siw().c_tools(true);
        let vm = programs.add(programs.add(vm, "bareverbs")?, "vm")?;
        let place = format!("siw {kernel}");
        list.push(Work::new(place.clone(), "iWARP: operations and tools in a guest with siw", move || {
            let mut checks = Checks::new(&vm, &kernel, &place, arguments);
            checks.check("devices and devinfo", devinfo);
            checks.check("link add, show and delete", link);
            checks.check("pingpong names rping", pingpong);
            for (encoding, which) in [("ioctl", "siw::"), ("write", "siw::every_byte")] {
                let (kernel, place) = (kernel.clone(), format!("{place} {encoding}"));
                checks.part(&format!("operations, {encoding}"), |guests| {
                    guest::run(guests, &kernel, &place, encoding, which, arguments)
                });
            }
            rping(&mut checks, arguments.full);
            checks.nothing_is_left(1);
            Ok(checks.finish())
        }));
    }
    Ok(list)
}

fn said(guests: &Guests, line: &str) -> Result<String> {
    Ok(guests.node(1).run(words(line))?.ok()?.text())
}

fn same(guests: &Guests, ours: &str, theirs: &str) -> Result<()> {
    let (our, their) = (said(guests, ours)?, said(guests, theirs)?);
    if our == their { Ok(()) } else { Err(format!("{ours}: {our:?} where {theirs} says {their:?}")) }
}

/// What our devices and devinfo print is what C's print.
fn devinfo(guests: &Guests) -> Result<()> {
    for tool in ["devices", "devinfo", "devinfo -v", "devinfo -d siw0 -i 1", "devinfo -l"] {
        same(guests, &format!("bareverbs {tool}"), &format!("ibv_{tool}"))?;
    }
    Ok(())
}

/// A second device is made, shown as iproute2 shows it, and removed.
fn link(guests: &Guests) -> Result<()> {
    said(guests, "ip link add dummy1 type dummy")?;
    said(guests, "bareverbs link add siw1 type siw netdev dummy1")?;
    same(guests, "bareverbs link", "rdma link")?;
    if !said(guests, "bareverbs devices")?.contains("siw1") {
        return Err("devices does not name siw1".into());
    }
    said(guests, "bareverbs link delete siw1")?;
    same(guests, "bareverbs link", "rdma link")?;
    said(guests, "ip link delete dummy1").map(drop)
}

/// There are no queue pair numbers to exchange: that is said before anything is set up or waited for.
fn pingpong(guests: &Guests) -> Result<()> {
    for line in ["bareverbs pingpong rc", "bareverbs pingpong rc 10.0.0.1", "bareverbs pingpong srq -g 0"] {
        let output = guests.node(1).run(words(line))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.code() == 0 || !said.contains("siw0 speaks iWARP") || !said.contains("rping") {
            return Err(format!("{line}: {}: {said:?}", output.ending()));
        }
    }
    Ok(())
}

/// Ours with itself and with C's, both ways and over both families, and servers that stay.
fn rping(checks: &mut Checks<'_>, full: bool) {
    const OURS: &str = "bareverbs rping";
    const PAIRINGS: [(&str, &str); 3] = [(OURS, OURS), (OURS, "rping"), ("rping", OURS)];
    checks.check("an IPv6 address", |guests| {
        said(guests, "ip -6 addr add fd00::1/64 dev dummy0 nodad").map(drop)
    });
    for (server, client) in PAIRINGS {
        for (address, options) in [("10.0.0.1", ""), ("10.0.0.1", " -q"), ("fd00::1", "")] {
            // C's client with -q fails over iWARP: it establishes a connection that the kernel has established. Ours has been seen to wait
            // in vain for the first message, once in a hundred runs: the default run leaves it out until the cause is known.
            if options == " -q" && (client == "rping" || !full) {
                continue;
            }
            checks.check(&format!("{server} <- {client} {address}{options}"), |guests| {
                let server = format!("{server} -s -v{options} -a {address}");
                let client = format!("{client} -c -v -V{options} -C 20 -a {address}");
                let [served, asked] = pair(guests, 1, &server, &client, RPING)?;
                for (output, before) in [(asked, "ping data"), (served, "server ping data")] {
                    let text = output.text();
                    if text.lines().count() != 20 || !text.contains(&format!("{before}: rdma-ping-19: TUVW"))
                    {
                        return Err(format!(
                            "{}: not the 20 lines that were expected: {text:?}",
                            output.command
                        ));
                    }
                }
                Ok(())
            });
        }
    }
    checks.check("a server that stays, for 20 clients", |guests| {
        let serving = serve(guests, &format!("{OURS} -s -P"), RPING)?;
        let asked = (0..20).try_for_each(|n| {
            let client = if n % 2 == 0 { OURS } else { "rping" };
            guests.node(1).run(words(&format!("{client} -c -V -C 3 -a 10.0.0.1")))?.ok().map(drop)
        });
        serving.signal(15)?;
        let served = serving.wait()?;
        asked.map_err(|error| format!("{error}; the server: {}", String::from_utf8_lossy(&served.stderr)))
    });
}
