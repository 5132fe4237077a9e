//! What was measured, as one JSON object for each connection.

use serde::Serialize;

use super::args::Plan;
use super::session::Session;
use crate::json;
use crate::outcome::Failure;

#[derive(Serialize)]
struct Json {
    peer: String,
    size: u32,
    iterations: u32,
    complete: bool,
    seconds: f64,
    usec_per_iteration: Option<f64>,
}

/// The object, as text.
pub(super) fn json(plan: &Plan, session: &Session, complete: bool) -> Result<String, Failure> {
    let iterations = session.pings();
    let usec = session.played().as_secs_f64() * 1e6;
    let peer = session.wires.id.peer_addr().map_or_else(|_| String::new(), |peer| peer.to_string());
    json::text(&Json {
        peer,
        size: plan.size,
        iterations,
        complete,
        seconds: usec / 1e6,
        usec_per_iteration: (iterations > 0).then(|| usec / f64::from(iterations)),
    })
}
