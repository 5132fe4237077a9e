//! A message through each port and back, between two queue pairs of this process.

use std::time::{Duration, Instant};

use bareverbs::{
    Access, ConnectAttr, Cq, CqInit, Device, Error, ErrorKind, LinkLayer, Mr, PortNum, Qp, QpInit, RecvWr,
    SendWr, Wait, Wc,
};

use super::super::devices;
use super::finding::Finding;
use super::ports;
use super::snapshot::{NodeState, Port, Snapshot};

const CHECK: &str = "ping";
const MESSAGE: &[u8; 64] = b"doctor's ping: these bytes must come back just as they were sent";
const PATIENCE: Duration = Duration::from_secs(5);

/// One finding for each port.
pub(super) fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for device in snapshot.devices.as_deref().unwrap_or_default() {
        for port in &device.ports {
            let name = format!("{}/{}", device.name, port.number);
            let opens = device.node.as_ref().is_some_and(|node| node.state == NodeState::Opens);
            let not_tried = |why: &str| Finding::fail(CHECK, name.clone(), format!("not tried: {why}"));
            findings.push(match obstacle(port, opens) {
                _ if device.iwarp => {
                    Finding::warning(CHECK, name, "not tried: iWARP connects by RDMA-CM alone")
                }
                Some(why) if opens && ports::may_be_unplugged(snapshot, port) => not_tried(why).softened(),
                Some(why) => not_tried(why),
                None => tried(&device.name, port, name),
            });
        }
    }
    findings
}

/// Why a ping cannot be tried.
fn obstacle(port: &Port, opens: bool) -> Option<&'static str> {
    let detail = port.detail.as_ref();
    let ethernet = detail.is_none_or(|detail| detail.link_layer == LinkLayer::ETHERNET);
    if !opens {
        Some("the device does not open")
    } else if !ports::is_active(port) {
        Some("the port is not active")
    } else if ethernet && detail.is_some_and(|detail| detail.gids.is_err()) {
        Some("the port's GIDs are not known")
    } else if ethernet && ports::choose(port).is_none() {
        Some("the port has no GID")
    } else {
        None
    }
}

fn tried(device: &str, port: &Port, name: String) -> Finding {
    let gid_index = ports::choose(port).map(|entry| entry.index);
    match ping(device, port.number, gid_index) {
        Ok(time) => {
            let reason = format!(
                "{} bytes there and back in {} µs, inside this host",
                MESSAGE.len(),
                time.as_micros()
            );
            Finding::ok(CHECK, name, reason)
        }
        Err(Ping::Library(error)) if error.kind() == ErrorKind::Unsupported => {
            Finding::warning(CHECK, name, format!("not tried: {error}"))
        }
        Err(Ping::Library(error)) => Finding::fail(CHECK, name, error.to_string()),
        Err(Ping::Lost(why)) => Finding::fail(CHECK, name, why),
    }
}

/// Why no answer came.
enum Ping {
    Library(Error),
    Lost(String),
}

impl From<Error> for Ping {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

/// One side: its queue pair, its completions, its memory; the first half is sent, the second received into.
struct Side {
    qp: Qp,
    cq: Cq,
    mr: Mr,
}

fn ping(device: &str, port: u32, gid_index: Option<u32>) -> Result<Duration, Ping> {
    let ctx = devices::open_device(&Device::by_name(device)?)?;
    let port = PortNum::new(port).map_err(|error| Ping::Lost(error.to_string()))?;
    let pd = ctx.alloc_pd()?;
    let side = || -> Result<Side, Error> {
        let cq = ctx.create_cq(CqInit::new(4).own_channel())?;
        let qp = pd.create_qp(QpInit::rc(&cq, &cq).max_send_wr(2).max_recv_wr(2))?;
        Ok(Side { qp, cq, mr: pd.alloc_mr(2 * MESSAGE.len(), Access::LOCAL_WRITE)? })
    };
    let (mut left, mut right) = (side()?, side()?);
    let (at_left, at_right) =
        (left.qp.init_endpoint(port, gid_index)?, right.qp.init_endpoint(port, gid_index)?);
    left.qp.connect(&at_right, ConnectAttr::new())?;
    right.qp.connect(&at_left, ConnectAttr::new())?;
    left.post_recv()?;
    right.post_recv()?;
    let start = Instant::now();
    left.mr.write(0, MESSAGE);
    left.send()?;
    let there = right.received()?;
    right.mr.write(0, &there);
    right.send()?;
    let back = left.received()?;
    let time = start.elapsed();
    if back == *MESSAGE {
        Ok(time)
    } else {
        Err(Ping::Lost("the bytes that came back are not those that were sent".into()))
    }
}

impl Side {
    fn post_recv(&mut self) -> Result<(), Ping> {
        let wr = RecvWr::new(1).sge(self.mr.slice(MESSAGE.len()..));
        self.qp.post_recv(wr).map_err(|error| Ping::Lost(format!("post_recv: {error}")))
    }

    fn send(&mut self) -> Result<(), Ping> {
        let wr = SendWr::send(2).sge(self.mr.slice(..MESSAGE.len())).signaled();
        self.qp.post_sends(&[wr]).map_err(|error| Ping::Lost(format!("post_send: {error}")))?;
        self.completion(2)
    }

    fn received(&mut self) -> Result<[u8; MESSAGE.len()], Ping> {
        self.completion(1)?;
        let mut bytes = [0; MESSAGE.len()];
        self.mr.read(MESSAGE.len(), &mut bytes);
        Ok(bytes)
    }

    /// Waits for the completion of this request.
    fn completion(&mut self, wanted: u64) -> Result<(), Ping> {
        let mut wcs = [Wc::default()];
        match self.cq.wait(&mut wcs, Wait::default(), Some(PATIENCE))?.completions() {
            [wc] if !wc.is_success() => {
                Err(Ping::Lost(format!("{} ({})", wc.status.name().unwrap_or("unknown"), wc.status.0)))
            }
            [wc] if wc.wr_id == wanted => Ok(()),
            [wc] => Err(Ping::Lost(format!("request {} completed where {wanted} was due", wc.wr_id))),
            _ => Err(Ping::Lost(format!("no completion within {} s", PATIENCE.as_secs()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::sample;
    use super::*;
    use bareverbs::PortState;

    #[test]
    fn what_cannot_be_pinged_says_why() {
        let mut snapshot = sample::healthy();
        assert_eq!(obstacle(&snapshot.devices.as_ref().unwrap()[0].ports[0], true), None);
        let device = &mut snapshot.devices.as_mut().unwrap()[0];
        device.ports[0].detail.as_mut().unwrap().gids = Ok(Vec::new());
        assert_eq!(obstacle(&device.ports[0], true), Some("the port has no GID"));
        device.ports[0].detail.as_mut().unwrap().gids = Err("EIO".into());
        assert_eq!(obstacle(&device.ports[0], true), Some("the port's GIDs are not known"));
        device.ports[0].state = PortState::DOWN;
        assert_eq!(obstacle(&device.ports[0], true), Some("the port is not active"));
        device.node = None;
        let finding = check(&snapshot).remove(0);
        assert_eq!(
            (finding.level, finding.reason.as_str()),
            (Level::Fail, "not tried: the device does not open")
        );
    }
}
