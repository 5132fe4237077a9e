//! How long connections take to make and to end, in the steps and with the output of librdmacm's `cmtime`.
//!
//! ```text
//! cargo build --release --example cm_time --target x86_64-unknown-linux-musl
//! cargo xtask vm --port 0 --client 'cm_time 10.0.0.1:7471 100' -- …/examples/cm_time 0.0.0.0:7471
//! ```
//!
//! `cm_time ADDRESS:PORT` is the server, which runs until it is killed; `cm_time ADDRESS:PORT COUNT` makes so many connections
//! to it, all of them one step at a time. Either side may be `cmtime` instead.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bareverbs::{
    CmEvent, CmEventType, CmId, ConnParam, Context, Cq, EventChannel, Pd, PortSpace, Qp, QpInit,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(30);
const RESOLVE: Duration = Duration::from_secs(2);

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [address] => serve(address.parse()?),
        [address, count] => ask(address.parse()?, count.parse()?),
        _ => Err("cm_time ADDRESS:PORT [COUNT]".into()),
    }
}

/// What queue pairs of a device are made from; they never carry anything.
struct Home {
    pd: Pd,
    cq: Cq,
    _ctx: Context,
}

impl Home {
    fn of(id: &CmId) -> Outcome<Self> {
        let ctx = id.context()?;
        Ok(Self { pd: ctx.alloc_pd()?, cq: ctx.create_cq(1)?, _ctx: ctx })
    }

    fn qp(&self, id: &CmId) -> bareverbs::Result<Qp> {
        id.create_qp(&self.pd, QpInit::rc(&self.cq, &self.cq))
    }
}

/// Takes whoever comes, until killed.
fn serve(address: SocketAddr) -> Outcome {
    let events = EventChannel::open()?;
    let listener = events.create_id(PortSpace::Tcp)?;
    listener.bind(address)?;
    listener.listen(0)?;
    let mut home = None;
    let mut clients: HashMap<u64, (CmId, Qp)> = HashMap::new();
    loop {
        let Some(event) = events.wait(None)?.ready() else { continue };
        match (event.event_type, event.request) {
            (CmEventType::CONNECT_REQUEST, Some(id)) => {
                let home = match &home {
                    Some(home) => home,
                    None => home.insert(Home::of(&id)?),
                };
                let mut qp = home.qp(&id)?;
                // Whoever has given up is not there to be told.
                if id.accept(&mut qp, &ConnParam::new()).is_ok() {
                    clients.insert(id.user_handle(), (id, qp));
                }
            }
            (CmEventType::ESTABLISHED, _) => {}
            _ => {
                if let Some((id, mut qp)) = clients.remove(&event.user_handle) {
                    let _ = id.disconnect(&mut qp);
                }
            }
        }
    }
}

/// The ids, by their user handles, and the times of the steps.
struct Client {
    events: EventChannel,
    ids: Vec<CmId>,
    at: HashMap<u64, usize>,
    steps: Vec<(&'static str, Duration)>,
}

fn ask(address: SocketAddr, count: usize) -> Outcome {
    let events = EventChannel::open()?;
    let mut client = Client { events, ids: Vec::new(), at: HashMap::new(), steps: Vec::new() };
    client.step("create id", |client| {
        for n in 0..count {
            let id = client.events.create_id(PortSpace::Tcp)?;
            client.at.insert(id.user_handle(), n);
            client.ids.push(id);
        }
        Ok(())
    })?;
    client.step("resolve addr", |client| {
        client.each(|_, id| id.resolve_addr(None, address, RESOLVE))?;
        client.all(CmEventType::ADDR_RESOLVED, |_, _| Ok(()))
    })?;
    client.step("resolve route", |client| {
        client.each(|_, id| id.resolve_route(RESOLVE))?;
        client.all(CmEventType::ROUTE_RESOLVED, |_, _| Ok(()))
    })?;
    let home = Home::of(client.ids.first().ok_or("no connections are wanted")?)?;
    let mut qps = Vec::with_capacity(count);
    client.step("create qp", |client| {
        client.each(|_, id| {
            qps.push(home.qp(id)?);
            Ok(())
        })
    })?;
    client.step("connect", |client| {
        client.each(|n, id| id.connect(&qps[n], &ConnParam::new()))?;
        client.all(CmEventType::CONNECT_RESPONSE, |n, id| id.establish(&mut qps[n]))
    })?;
    client.step("disconnect", |client| {
        client.each(|n, id| id.disconnect(&mut qps[n]))?;
        qps.clear();
        client.all(CmEventType::DISCONNECTED, |_, _| Ok(()))
    })?;
    client.step("destroy", |client| {
        client.ids.clear();
        Ok(())
    })?;

    println!("{:<14}  total ms   us/conn", "step");
    let mut whole = Duration::ZERO;
    for (name, took) in &client.steps {
        let us = took.as_secs_f64() * 1e6;
        println!("{name:<14}: {:8.2} {:9.2}", us / 1e3, us / count as f64);
        whole += *took;
    }
    println!("{:.1} connections per second", count as f64 / whole.as_secs_f64());
    Ok(())
}

impl Client {
    fn step(&mut self, name: &'static str, what: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        let start = Instant::now();
        what(self)?;
        self.steps.push((name, start.elapsed()));
        Ok(())
    }

    fn each(&self, mut what: impl FnMut(usize, &CmId) -> bareverbs::Result<()>) -> Outcome {
        self.ids.iter().enumerate().try_for_each(|(n, id)| what(n, id)).map_err(Into::into)
    }

    /// Waits for an event of every id.
    fn all(
        &self,
        wanted: CmEventType,
        mut then: impl FnMut(usize, &CmId) -> bareverbs::Result<()>,
    ) -> Outcome {
        for _ in 0..self.ids.len() {
            let event: CmEvent = self.events.wait(Some(PATIENCE))?.ready().ok_or("no event came in time")?;
            let n = *self.at.get(&event.user_handle).ok_or("an event of no connection")?;
            let id = &self.ids[n];
            if event.event_type != wanted {
                let why = id.failure(&event).map_or_else(|| event.event_type.to_string(), |e| e.to_string());
                return Err(why.into());
            }
            then(n, id)?;
        }
        Ok(())
    }
}
