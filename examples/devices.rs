//! What there is: devices, their limits, their ports, their addresses.
//!
//! ```text
//! cargo build --release --example devices --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/devices
//! ```
//!
//! A device that cannot be opened is listed with the reason, with the likely fix if there is one.

mod support;

use bareverbs::{Context, Device, PortNum};
use support::Outcome;

fn main() -> Outcome {
    let devices = Device::list()?;
    println!("{} devices", devices.len());
    for device in &devices {
        let info = device.info();
        println!(
            "{}: driver {}, node GUID {}, found by {:?}",
            device.name(),
            info.driver,
            info.node_guid,
            info.source
        );
        match device.open() {
            Ok(ctx) => show(&ctx)?,
            Err(error) => println!("  {error}"),
        }
    }
    Ok(())
}

fn show(ctx: &Context) -> Outcome {
    let limits = ctx.query_device()?;
    println!(
        "  up to {} queue pairs of {} requests, {} elements a request; {} completion vectors",
        limits.max_qp,
        limits.max_qp_wr,
        limits.max_sge,
        ctx.num_comp_vectors()
    );
    println!("  atomics: {:?}; memory windows: {}", limits.atomic_cap, limits.max_mw);
    for number in 1..=u32::from(limits.phys_port_cnt) {
        let number = PortNum::new(number)?;
        let port = ctx.query_port(number)?;
        println!(
            "  port {number}: {:?}, {:?}, {:?} of at most {:?}",
            port.state, port.link_layer, port.active_mtu, port.max_mtu
        );
        // Only the entries in use: the table has room for gid_tbl_len.
        for entry in ctx.query_gids_of(number, &port)? {
            println!("    GID {} of {}: {} ({:?})", entry.index, port.gid_tbl_len, entry.gid, entry.gid_type);
        }
    }
    Ok(())
}
