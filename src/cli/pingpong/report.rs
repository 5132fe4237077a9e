//! What a pingpong prints: the lines of rdma-core's tools, or one JSON object.

use std::io::Write;

use bareverbs::Endpoint;
use serde::Serialize;

use super::args::Args;
use super::play::{End, Score};

/// The line about one side's endpoint.
pub(super) fn endpoint(side: &str, endpoint: &Endpoint) -> Result<(), String> {
    print(&format!(
        "  {:<16}LID 0x{:04x}, QPN 0x{:06x}, PSN 0x{:06x}, GID {}\n",
        format!("{side} address:"),
        endpoint.lid.0,
        endpoint.qp_num.get(),
        endpoint.psn.get(),
        endpoint.gid
    ))
}

/// The lines about the speed.
pub(super) fn score(args: &Args, local: &Endpoint, peer: &Endpoint, score: &Score) -> Result<(), String> {
    let usec = score.elapsed.as_secs_f64() * 1e6;
    let bytes = u64::from(args.size) * u64::from(score.done) * 2;
    let mbit = bytes as f64 * 8. / usec;
    let each = usec / f64::from(score.done);
    if !args.json {
        return print(&format!(
            "{bytes} bytes in {:.2} seconds = {mbit:.2} Mbit/sec\n{} iters in {:.2} seconds = {each:.2} usec/iter\n",
            usec / 1e6,
            score.done,
            usec / 1e6,
        ));
    }
    let whole = Json {
        local: local.into(),
        remote: peer.into(),
        size: args.size,
        iterations: score.done,
        complete: matches!(score.end, End::Complete),
        bytes,
        seconds: usec / 1e6,
        mbit_per_second: mbit,
        usec_per_iteration: each,
    };
    let mut text = serde_json::to_string_pretty(&whole).map_err(|e| e.to_string())?;
    text.push('\n');
    print(&text)
}

/// At once: whoever reads a pipe waits for the first line before starting the other side.
fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| format!("couldn't write the result: {e}"))
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
