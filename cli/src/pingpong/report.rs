//! What a pingpong prints: the lines of rdma-core's tools, or one JSON object.

use bareverbs::Endpoint;
use serde::Serialize;

use super::cycles::{Cycles, Figures};
use super::plan::Plan;
use super::play::{End, Score};
use super::service::Kind;
use crate::json;
use crate::outcome::Failure;

/// The lines about one side's endpoints.
pub(super) fn endpoints(kind: Kind, side: &str, endpoints: &[Endpoint]) -> String {
    // The C tool's line has another sign here, on one side.
    let before_gid = if kind == Kind::Ud && side == "local" { ':' } else { ',' };
    let line = |endpoint: &Endpoint| {
        format!(
            "  {:<16}LID 0x{:04x}, QPN 0x{:06x}, PSN 0x{:06x}{before_gid} GID {}\n",
            format!("{side} address:"),
            endpoint.lid.0,
            endpoint.qp_num.get(),
            endpoint.psn.get(),
            endpoint.gid
        )
    };
    endpoints.iter().map(line).collect()
}

/// The lines about the speed.
pub(super) fn score(
    plan: &Plan,
    local: &[Endpoint],
    peer: &[Endpoint],
    score: &Score,
) -> Result<String, Failure> {
    let usec = score.elapsed.as_secs_f64() * 1e6;
    let bytes = u64::from(plan.size) * u64::from(score.done) * 2;
    let mbit = bytes as f64 * 8. / usec;
    let each = usec / f64::from(score.done);
    let cycles = score.cycles.as_ref().and_then(Cycles::figures);
    if !plan.json {
        return Ok(format!(
            "{bytes} bytes in {:.2} seconds = {mbit:.2} Mbit/sec\n{} iters in {:.2} seconds = {each:.2} usec/iter\n{}",
            usec / 1e6,
            score.done,
            usec / 1e6,
            cycles.map_or(String::new(), |cycles| cycles.lines()),
        ));
    }
    let whole = Json {
        local: sides(plan, local),
        remote: sides(plan, peer),
        size: plan.size,
        iterations: score.done,
        complete: matches!(score.end, End::Complete),
        bytes,
        seconds: usec / 1e6,
        mbit_per_second: mbit,
        usec_per_iteration: each,
        receive_completion_clock_cycles: cycles,
    };
    json::text(&whole)
}

#[derive(Serialize)]
struct Json {
    local: Sides,
    remote: Sides,
    size: u32,
    iterations: u32,
    complete: bool,
    bytes: u64,
    seconds: f64,
    mbit_per_second: f64,
    usec_per_iteration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    receive_completion_clock_cycles: Option<Figures>,
}

/// One endpoint, or an array of them where the service has several.
#[derive(Serialize)]
#[serde(untagged)]
enum Sides {
    One(Side),
    Several(Vec<Side>),
}

fn sides(plan: &Plan, endpoints: &[Endpoint]) -> Sides {
    match endpoints {
        [one] if plan.kind != Kind::Srq => Sides::One(one.into()),
        several => Sides::Several(several.iter().map(Side::from).collect()),
    }
}

#[derive(Serialize)]
struct Side {
    lid: u16,
    qpn: u32,
    psn: u32,
    gid: String,
}

impl From<&Endpoint> for Side {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            lid: endpoint.lid.0,
            qpn: endpoint.qp_num.get(),
            psn: endpoint.psn.get(),
            gid: endpoint.gid.to_string(),
        }
    }
}
