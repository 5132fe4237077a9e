//! Lists RDMA devices by both ways, and adds and removes software devices.
//!
//! ```text
//! links                      list by netlink and by sysfs
//! links add NAME KIND NETDEV such as: links add rxe0 rxe eth0
//! links del NAME
//! ```
//!
//! ```text
//! cargo build --release --example links --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/links
//! ```

use std::process::ExitCode;

use bareverbs::discover::{self, DeviceInfo, Source};
use bareverbs::netlink::Nldev;
use bareverbs::{Error, Result};

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        [] => list(),
        ["add", name, kind, netdev] => Nldev::open().and_then(|mut n| n.link_add(name, kind, netdev)),
        ["del", name] => Nldev::open().and_then(|mut n| n.link_del(name)),
        _ => {
            eprintln!("usage: links [add NAME KIND NETDEV | del NAME]");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<()> {
    for source in [Source::Netlink, Source::Sysfs] {
        println!("{source:?}:");
        match discover::devices_from(source) {
            Ok(devices) => devices.iter().for_each(show),
            Err(error) => println!("  {error}"),
        }
    }

    let mut nldev = Nldev::open()?;
    println!("devices are {:?} among network namespaces", nldev.net_namespace_mode()?);
    for device in nldev.devices()? {
        for port in 1..=device.port_count {
            let info = nldev.port(device.index, port)?;
            let netdev = info.netdev.as_deref().unwrap_or("no network device");
            println!("{} port {port}: {:?}, {:?}, {netdev}", device.name, info.state, info.phys_state);
        }
        let counts = nldev.resource_counts(device.index)?;
        let counts: Vec<_> = counts.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        println!("{}: {}", device.name, counts.join(", "));
    }
    Ok(())
}

fn show(device: &DeviceInfo) {
    println!(
        "  {} guid {} ports {} {} driver {}",
        device.name,
        device.node_guid,
        device.port_count,
        device.transport(),
        device.driver
    );
    match &device.uverbs {
        Some(uverbs) => {
            println!("    {} {} abi {}", uverbs.path().display(), uverbs.number, uverbs.abi);
        }
        None => println!("    no uverbs"),
    }
    let node = device.check_node().and_then(|()| device.open_node());
    println!("    node: {}", node.map_or_else(|e: Error| e.to_string(), |_| "opens".into()));
}
