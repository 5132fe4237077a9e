//! The whole public API on a kernel whose answers are anything: nothing panics, nothing leaves the mappings, and what the kernel has
//! created is destroyed exactly once, whether its answer was usable or not.
//!
//! Runs for 2 s a driver with a seed that it prints; `BAREVERBS_LIAR_SECONDS` and `BAREVERBS_LIAR_SEED` change that.

mod kernel;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use self::kernel::{Balance, Liar};
use super::*;
use crate::discover::{DeviceInfo, DriverId};
use crate::error::Error;
use crate::sys::linux::testing::{Random, endless_file, install};
use crate::types::*;
use crate::uverbs::Encoding;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays rounds, each with a new kernel, until the time is over.
fn play(name: &str, driver: DriverId, abi: u32) {
    let clock =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let first = setting("BAREVERBS_LIAR_SEED").unwrap_or(clock);
    let end = Instant::now() + Duration::from_secs(setting("BAREVERBS_LIAR_SECONDS").unwrap_or(2));
    let mut rounds = 0;
    let mut reached = BTreeMap::new();
    while rounds == 0 || Instant::now() < end {
        let seed = first.wrapping_add(rounds);
        // What a failing test prints.
        println!("{name}: BAREVERBS_LIAR_SEED={seed}");
        for encoding in [Encoding::Auto, Encoding::Write] {
            round(name, driver, abi, encoding, seed, &mut reached);
        }
        rounds += 1;
    }
    println!("{name}: {rounds} rounds, reached {reached:?}");
    for what in ["cq", "qp", "srq", "pd", "mr", "posted", "polled"] {
        assert!(reached.contains_key(what) || rounds < 10, "{what} was never reached in {rounds} rounds");
    }
}

type Reached = BTreeMap<&'static str, u64>;

fn round(name: &str, driver: DriverId, abi: u32, encoding: Encoding, seed: u64, reached: &mut Reached) {
    let balance = Balance::default();
    let mut random = Random(seed ^ 0x5eed);
    let file = endless_file();
    let fd: OwnedFd = file.try_clone().unwrap().into();
    let mut liar =
        Liar { random: Random(seed), driver: driver.0, file, next: 1 << 24, balance: Arc::clone(&balance) };
    install(move |command| liar.answer(command));
    let info = DeviceInfo::imagined(name, driver, abi);
    if let Ok(context) = Context::of_file(fd, &info, encoding) {
        let mut world = World {
            context,
            random: &mut random,
            reached,
            pds: vec![],
            mrs: vec![],
            mws: vec![],
            ahs: vec![],
            cqs: vec![],
            srqs: vec![],
            qps: vec![],
            xrcds: vec![],
            channels: vec![],
        };
        for _ in 0..80 {
            world.step();
        }
    }
    install(|_| Ok(Vec::new()));
    let left: Vec<_> =
        balance.lock().unwrap().iter().filter(|(_, n)| **n != 0).map(|(k, n)| (*k, *n)).collect();
    assert!(left.is_empty(), "{encoding:?}: created and not destroyed, or destroyed twice: {left:?}");
}

/// What a program has made so far.
struct World<'r> {
    context: Context,
    random: &'r mut Random,
    reached: &'r mut Reached,
    qps: Vec<Qp>,
    srqs: Vec<Srq>,
    cqs: Vec<Cq>,
    ahs: Vec<Ah>,
    mws: Vec<Mw>,
    mrs: Vec<Mr>,
    pds: Vec<Pd>,
    xrcds: Vec<Xrcd>,
    channels: Vec<CompChannel>,
}

/// One of them, or nothing.
fn any<'a, T>(random: &mut Random, all: &'a mut [T]) -> Option<&'a mut T> {
    let len = all.len() as u32;
    if len == 0 { None } else { all.get_mut(random.below(len) as usize) }
}

impl World<'_> {
    /// Keeps what was made, and reads the error of what was not.
    fn made<T>(&mut self, what: &'static str, made: Result<T, Error>, to: fn(&mut Self) -> &mut Vec<T>) {
        match made {
            Ok(made) => {
                *self.reached.entry(what).or_default() += 1;
                to(self).push(made);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    /// A size that a program may ask for: mostly a small one.
    fn size(&mut self) -> u32 {
        match self.random.below(32) {
            0 => self.random.edgy(),
            1 => self.random.below(70_000),
            _ => self.random.below(33),
        }
    }

    fn step(&mut self) {
        match self.random.below(26) {
            0 => {
                let pd = self.context.alloc_pd();
                self.made("pd", pd, |world| &mut world.pds);
            }
            1 => {
                let length = 1 + self.random.below(9000) as usize;
                if let Some(pd) = any(self.random, &mut self.pds) {
                    let mr = pd.alloc_mr(length, Access::LOCAL_WRITE | Access::REMOTE_WRITE);
                    self.made("mr", mr, |world| &mut world.mrs);
                }
            }
            2 | 3 => {
                // What is refused for its size is refused before a lot of memory is touched.
                let mut init = CqInit::new(self.size().min(1 << 20));
                match self.random.below(4) {
                    0 => init = init.own_channel(),
                    1 => init = init.timestamps(),
                    2 => {
                        if let Some(channel) = any(self.random, &mut self.channels) {
                            init = init.channel(channel);
                        }
                    }
                    _ => {}
                }
                let cq = self.context.create_cq(init);
                self.made("cq", cq, |world| &mut world.cqs);
            }
            4 | 5 => self.create_qp(),
            6 => {
                let init = SrqInit::new(self.size()).max_sge(self.random.below(40));
                if let Some(pd) = any(self.random, &mut self.pds) {
                    let srq = pd.create_srq(init);
                    self.made("srq", srq, |world| &mut world.srqs);
                }
            }
            7 => {
                let av = AddressVector::local(PortNum::ONE, Lid(1));
                if let Some(pd) = any(self.random, &mut self.pds) {
                    let ah = pd.create_ah(&av);
                    self.made("ah", ah, |world| &mut world.ahs);
                }
            }
            8 => {
                if let Some(pd) = any(self.random, &mut self.pds) {
                    let mw = pd.alloc_mw(MwType::Two);
                    self.made("mw", mw, |world| &mut world.mws);
                }
            }
            9 => {
                let channel = self.context.create_comp_channel();
                self.made("channel", channel, |world| &mut world.channels);
            }
            10 => {
                let xrcd = self.context.open_xrcd(None, 0);
                self.made("xrcd", xrcd, |world| &mut world.xrcds);
                if let Some(xrcd) = any(self.random, &mut self.xrcds) {
                    let qp = xrcd.create_recv_qp();
                    self.made("xrc qp", qp, |world| &mut world.qps);
                }
            }
            11 => {
                let asked = self.context.query_device();
                drop(asked.map(|attr| format!("{attr:?}")));
                drop(self.context.query_port(PortNum::ONE).map(|attr| format!("{attr:?}")));
            }
            12 => {
                let gids = self.context.query_gids(PortNum::ONE);
                drop(gids.map(|gids| format!("{gids:?}")));
                drop(self.context.query_gid(PortNum::ONE, self.random.edgy()));
            }
            13 => {
                if let Ok(events) = self.context.async_events() {
                    drop(events.next_event().map(|event| format!("{event:?}")));
                }
                if let Some(channel) = any(self.random, &mut self.channels) {
                    drop(channel.next_event());
                }
            }
            14 => self.modify(),
            15 | 16 => self.post(),
            17 | 18 => self.poll(),
            19 => {
                let size = self.size().min(1 << 20);
                if let Some(cq) = any(self.random, &mut self.cqs) {
                    drop(cq.resize(size));
                }
            }
            20 => {
                let size = self.size();
                if let Some(srq) = any(self.random, &mut self.srqs) {
                    drop(srq.resize(size));
                    drop(srq.set_limit(size));
                    drop(srq.query().map(|attr| format!("{attr:?}")));
                }
            }
            21 => {
                if let Some(qp) = any(self.random, &mut self.qps) {
                    drop(qp.query().map(|attr| format!("{attr:?}")));
                    drop(qp.state());
                    drop(qp.init_endpoint(PortNum::ONE, Some(0)));
                }
            }
            22 => {
                if let Some(mr) = any(self.random, &mut self.mrs) {
                    drop(mr.prefetch(..));
                }
                if let Some(cq) = any(self.random, &mut self.cqs) {
                    drop(cq.req_notify(false));
                }
            }
            _ => self.forget_one(),
        }
    }

    fn create_qp(&mut self) {
        let (send_wr, recv_wr) = (self.size(), self.size());
        let (send_sge, recv_sge) = (self.random.below(40), self.random.below(40));
        let inline = self.random.below(600);
        let kind = self.random.below(4);
        let Some(pd) = any(self.random, &mut self.pds) else { return };
        let cq = any(self.random, &mut self.cqs);
        let srq = any(self.random, &mut self.srqs);
        let Some(cq) = cq else { return };
        let cq = &*cq;
        let mut init = match kind {
            0 => QpInit::ud(cq, cq),
            1 => QpInit::xrc_send(cq),
            _ => QpInit::rc(cq, cq),
        };
        init = init.max_send_wr(send_wr).max_recv_wr(recv_wr).max_send_sge(send_sge).max_recv_sge(recv_sge);
        init = init.max_inline_data(inline);
        if let (Some(srq), true) = (srq, send_wr.is_multiple_of(2)) {
            init = init.srq(&*srq);
        }
        let qp = pd.create_qp(init);
        self.made("qp", qp, |world| &mut world.qps);
    }

    fn modify(&mut self) {
        let states = [QpState::RESET, QpState::INIT, QpState::RTR, QpState::RTS, QpState::ERR];
        let state = states[self.random.below(5) as usize];
        if let Some(qp) = any(self.random, &mut self.qps) {
            drop(qp.modify(&QpAttr { port: Some(PortNum::ONE), ..QpAttr::to(state) }));
        }
    }

    fn post(&mut self) {
        let bytes = [7u8; 64];
        let sge = any(self.random, &mut self.mrs).map_or(Sge::default(), |mr| mr.slice(..));
        let sges = [sge; 5];
        let kind = self.random.below(6);
        let many = self.random.below(5) as usize;
        let ah = any(self.random, &mut self.ahs);
        let send = SendWr::send(1);
        let wr = match (kind, ah) {
            (0, _) => send.sge(sge),
            (1, _) => send.inline(&bytes[..many * 16]),
            (2, _) => SendWr::rdma_write(2, Remote::default()).sges(&sges[..many]),
            (3, Some(ah)) => send.sge(sge).ud_addr(ah, Qpn::truncate(1), Qkey(1)),
            (4, _) => send.sge(sge).xrc_srqn(Srqn::truncate(1)),
            _ => SendWr::fetch_add(3, Remote::default(), 1).sge(sge),
        };
        let recv = RecvWr::new(4).sges(&sges[..many]);
        let mut posted = 0;
        if let Some(qp) = any(self.random, &mut self.qps) {
            for _ in 0..many * 8 {
                posted += u64::from(qp.post_send(wr).is_ok());
                posted += u64::from(qp.post_sends(&[wr, wr]).is_ok());
                posted += u64::from(qp.post_recv(recv).is_ok());
            }
        }
        if let Some(srq) = any(self.random, &mut self.srqs) {
            posted += u64::from(srq.post_recvs(&[recv, recv, recv]).is_ok());
        }
        if posted > 0 {
            *self.reached.entry("posted").or_default() += posted;
        }
    }

    fn poll(&mut self) {
        let mut wcs = [Wc::default(); 16];
        let mut polled = 0;
        if let Some(cq) = any(self.random, &mut self.cqs) {
            for _ in 0..4 {
                polled += cq.poll(&mut wcs).len() as u64;
            }
            let how = if wcs[0].wr_id.is_multiple_of(2) { Wait::Events } else { Wait::Poll };
            drop(cq.wait(&mut wcs, how, Some(Duration::from_micros(1))).map(|wcs| format!("{wcs:?}")));
        }
        if polled > 0 {
            *self.reached.entry("polled").or_default() += polled;
        }
    }

    /// Destroys something, or drops it.
    fn forget_one(&mut self) {
        fn take<T>(random: &mut Random, all: &mut Vec<T>) -> Option<T> {
            if all.is_empty() { None } else { Some(all.swap_remove(random.below(all.len() as u32) as usize)) }
        }
        let random = &mut *self.random;
        match random.below(8) {
            0 => drop(take(random, &mut self.qps).map(Qp::destroy)),
            1 => drop(take(random, &mut self.cqs).map(Cq::destroy)),
            2 => drop(take(random, &mut self.srqs).map(Srq::destroy)),
            3 => drop(take(random, &mut self.mrs).map(Mr::destroy)),
            4 => drop(take(random, &mut self.ahs).map(Ah::destroy)),
            5 => drop(take(random, &mut self.pds)),
            6 => drop(take(random, &mut self.mws)),
            _ => drop(take(random, &mut self.qps)),
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "maps memory")]
fn rxe_believes_no_answer() {
    play("rxe", DriverId::RXE, 2);
}

#[test]
#[cfg_attr(miri, ignore = "maps memory")]
fn mlx4_believes_no_answer() {
    play("mlx4", DriverId::MLX4, 4);
}

/// What crashed once: an offset in the middle of a page.
#[test]
#[cfg_attr(miri, ignore = "maps memory")]
fn a_queue_in_the_middle_of_a_page_is_refused_and_destroyed() {
    use crate::sys::linux::testing::{Command, Reply};
    use crate::uapi::ioctl as abi;
    use zerocopy::IntoBytes;
    let destroyed = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = Arc::clone(&destroyed);
    install(move |command| {
        let Command::Ioctl { header, attrs } = command else { return Ok(vec![]) };
        let has = |id: u16| attrs.iter().any(|attr| attr.raw.attr_id == id);
        match (header.object_id, header.method_id) {
            (abi::UVERBS_OBJECT_CQ, abi::UVERBS_METHOD_CQ_DESTROY) => {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(vec![])
            }
            (abi::UVERBS_OBJECT_CQ, _) if has(abi::UVERBS_ATTR_UHW_OUT) => {
                let mi = crate::uapi::rxe::MmInfo { offset: 1, size: 4096, pad: 0 };
                Ok(vec![
                    Reply::Handle(abi::UVERBS_ATTR_CREATE_CQ_HANDLE, 9),
                    Reply::Bytes(abi::UVERBS_ATTR_UHW_OUT, mi.as_bytes().to_vec()),
                ])
            }
            (abi::UVERBS_OBJECT_ASYNC_EVENT, _) => {
                let fd = std::os::fd::IntoRawFd::into_raw_fd(endless_file());
                Ok(vec![Reply::Handle(abi::UVERBS_ATTR_ASYNC_EVENT_ALLOC_FD_HANDLE, fd as u32)])
            }
            _ => Ok(vec![]),
        }
    });
    let info = DeviceInfo::imagined("rxe0", DriverId::RXE, 2);
    let context = Context::of_file(endless_file().into(), &info, Encoding::Auto).unwrap();
    let error = context.create_cq(16).unwrap_err();
    assert_eq!(error.to_string(), "create_cq on rxe0: the driver placed a queue of 4096 bytes at offset 0x1");
    assert_eq!(destroyed.load(std::sync::atomic::Ordering::Relaxed), 1);
}
