//! The options against what the device can do, in the C tools' words where they have some; and the message's memory.

use bareverbs::discover::Transport;
use bareverbs::{Access, Context, LinkLayer, Mr, Pd, PortAttr};

use super::plan::Plan;
use super::service::Kind;
use crate::outcome::{Failure, InC, Outcome};

/// Completions of sends that may lie in the completion queue at a time.
pub(super) fn sends_in_cq(plan: &Plan) -> u32 {
    plan.num_qp.max(2)
}

/// Checks the options against what the device can do.
pub(super) fn check(plan: &Plan, ctx: &Context, port: &PortAttr) -> Outcome {
    let name = &ctx.info().name;
    let over = |what: String| Err(Failure::new(what));
    if ctx.info().transport() == Transport::IWARP {
        return over(format!(
            "{name} speaks iWARP, which connects by IP address and not by exchanged queue pair numbers: use rping instead"
        ));
    }
    let device = ctx.query_device()?;
    let mtu = port.active_mtu.bytes().unwrap_or(4096);
    if plan.kind == Kind::Ud && plan.size > mtu {
        return over(format!("Requested size larger than port MTU ({mtu})"));
    }
    if plan.size > port.max_msg_sz {
        return over(format!(
            "size {} (-s) is over the largest message of {name}, {} bytes (max_msg_sz)",
            plan.size, port.max_msg_sz
        ));
    }
    let (what, limit, limit_name) = match plan.kind {
        // Its receives are as many as its clients.
        Kind::Xsrq => ("", u32::MAX, ""),
        Kind::Srq if device.max_srq == 0 => return over(format!("{name} has no shared receive queues")),
        Kind::Srq => ("shared receive queue", device.max_srq_wr, "max_srq_wr"),
        _ => ("receive queue", device.max_qp_wr, "max_qp_wr"),
    };
    if plan.rx_depth > limit {
        return over(format!(
            "rx-depth {} (-r) is over the {what}'s limit on {name}, {limit} ({limit_name})",
            plan.rx_depth
        ));
    }
    let sends = sends_in_cq(plan);
    if plan.kind != Kind::Xsrq && plan.rx_depth.saturating_add(sends) > device.max_cqe {
        return over(format!(
            "rx-depth {} (-r) needs a completion queue of {sends} more, and the limit on {name} is {} (max_cqe)",
            plan.rx_depth, device.max_cqe
        ));
    }
    // Bits of `enum ibv_odp_general_caps` and `enum ibv_odp_transport_cap_bits`.
    const SUPPORT: u64 = 1;
    const IMPLICIT: u64 = 2;
    const SEND: u32 = 1;
    const RECV: u32 = 2;
    const SRQ_RECV: u32 = 32;
    if plan.odp || plan.iodp {
        let odp = &device.odp;
        let (caps, needed, what) = match plan.kind {
            Kind::Srq => (odp.rc, SEND | SRQ_RECV, "RC send, receive and srq"),
            Kind::Xsrq => (odp.xrc, SEND | SRQ_RECV, "XRC send, receive and srq"),
            _ => (odp.rc, SEND | RECV, "RC send and receive"),
        };
        if odp.general & SUPPORT == 0 || caps & needed != needed {
            return over(format!("The device isn't ODP capable or does not support {what} with ODP"));
        }
        if plan.iodp && odp.general & IMPLICIT == 0 {
            return over("The device doesn't support implicit ODP".into());
        }
        if plan.iodp {
            return over("implicit on-demand paging (-O) is not done here; -o is".into());
        }
    }
    if plan.ts && device.completion_timestamp_mask == 0 {
        return over("The device isn't completion timestamp capable".into());
    }
    if plan.dm {
        return over(match device.max_dm_size {
            0 => "Device doesn't support dm allocation".into(),
            max if max < plan.size.into() => "Device memory is insufficient".into(),
            _ => "device memory (-j) is not allocated here yet".into(),
        });
    }
    Ok(())
}

/// An InfiniBand port without an address cannot be reached.
pub(super) fn check_lid(plan: &Plan, ctx: &Context, port: &PortAttr) -> Outcome {
    if port.link_layer == LinkLayer::ETHERNET || port.lid.0 != 0 {
        return Ok(());
    }
    let name = &ctx.info().name;
    Err(format!("port {} of {name} has no LID: is a subnet manager running?", plan.ib_port))
        .in_c("Couldn't get local LID")
}

/// The message's memory, filled, and what stands before it.
pub(super) fn region(plan: &Plan, pd: &Pd) -> Result<(Mr, Option<String>), Failure> {
    const CHUNK: usize = 4096;
    let odp = if plan.odp { Access::ON_DEMAND } else { Access::empty() };
    let size = plan.size as usize + plan.kind.header() as usize;
    let mut mr = pd.alloc_mr(size, Access::LOCAL_WRITE | odp).in_c("Couldn't register MR")?;
    // Where every byte is checked, none may be right before it has come.
    let wrong = plan.chk && plan.server.is_none();
    let filler = [if wrong { !plan.kind.filler() } else { plan.kind.filler() }; CHUNK];
    for start in (0..mr.len()).step_by(CHUNK) {
        mr.write(start, &filler[..CHUNK.min(mr.len() - start)]);
    }
    let warning = plan.prefetch.then(|| mr.prefetch(..).err()).flatten().map(|e| {
        let errno = e.raw_os_error().unwrap_or(0);
        format!("Couldn't prefetch MR({errno}). Continue anyway")
    });
    Ok((mr, warning))
}
