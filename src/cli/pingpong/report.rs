//! What a pingpong prints: the lines of rdma-core's tools, or one JSON object.

use bareverbs::Endpoint;
use serde::Serialize;

use super::args::Plan;
use super::play::{End, Score};
use crate::cli::json;
use crate::cli::outcome::Failure;

/// The line about one side's endpoint.
pub(super) fn endpoint(side: &str, endpoint: &Endpoint) -> String {
    format!(
        "  {:<16}LID 0x{:04x}, QPN 0x{:06x}, PSN 0x{:06x}, GID {}\n",
        format!("{side} address:"),
        endpoint.lid.0,
        endpoint.qp_num.get(),
        endpoint.psn.get(),
        endpoint.gid
    )
}

/// The lines about the speed.
pub(super) fn score(
    plan: &Plan,
    local: &Endpoint,
    peer: &Endpoint,
    score: &Score,
) -> Result<String, Failure> {
    let usec = score.elapsed.as_secs_f64() * 1e6;
    let bytes = u64::from(plan.size) * u64::from(score.done) * 2;
    let mbit = bytes as f64 * 8. / usec;
    let each = usec / f64::from(score.done);
    if !plan.json {
        return Ok(format!(
            "{bytes} bytes in {:.2} seconds = {mbit:.2} Mbit/sec\n{} iters in {:.2} seconds = {each:.2} usec/iter\n",
            usec / 1e6,
            score.done,
            usec / 1e6,
        ));
    }
    let whole = Json {
        local: local.into(),
        remote: peer.into(),
        size: plan.size,
        iterations: score.done,
        complete: matches!(score.end, End::Complete),
        bytes,
        seconds: usec / 1e6,
        mbit_per_second: mbit,
        usec_per_iteration: each,
    };
    json::text(&whole)
}

#[derive(Serialize)]
struct Json {
    local: Side,
    remote: Side,
    size: u32,
    iterations: u32,
    complete: bool,
    bytes: u64,
    seconds: f64,
    mbit_per_second: f64,
    usec_per_iteration: f64,
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
