//! A kernel that answers every command, mostly with what fits and now and then with anything.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use zerocopy::{Immutable, IntoBytes};

use crate::sys::linux::testing::{Attr, Command, Random, Reply, parse};
use crate::uapi::ioctl::verbs::{GidEntry, QpCap, QueryPortRespEx};
use crate::uapi::ioctl::{self as abi, IoctlHdr, RDMA_DRIVER_MLX4, RDMA_DRIVER_RXE};
use crate::uapi::verbs::*;
use crate::uapi::{mlx4, rxe};

/// How many objects of each kind were created, less those that it was asked to destroy.
pub(super) type Balance = Arc<Mutex<BTreeMap<&'static str, i64>>>;

pub(super) struct Liar {
    pub(super) random: Random,
    pub(super) driver: u32,
    /// What the queues of rxe, and the registers of mlx4, are mapped from.
    pub(super) file: File,
    /// Where the next queue goes in it.
    pub(super) next: u64,
    pub(super) balance: Balance,
}

/// What a command does and says: the core's answer, the driver's, and what is written elsewhere.
#[derive(Default)]
struct Answer {
    core: Vec<u8>,
    driver: Vec<u8>,
    elsewhere: Vec<(u64, Vec<u8>)>,
    /// The core's answer is a descriptor: any other number might be somebody's.
    descriptor: bool,
}

fn core(answer: impl IntoBytes + Immutable) -> Answer {
    Answer { core: answer.as_bytes().to_vec(), ..Answer::default() }
}

impl Liar {
    pub(super) fn answer(&mut self, command: &Command) -> Result<Vec<Reply>, Errno> {
        match command {
            Command::Ioctl { header, attrs } => self.ioctl(header, attrs),
            Command::Write(bytes) => self.write(bytes),
        }
    }

    fn refuses(&mut self) -> Result<(), Errno> {
        const ERRNOS: [Errno; 6] =
            [Errno::EINVAL, Errno::ENOMEM, Errno::EIO, Errno::ENODEV, Errno::EOPNOTSUPP, Errno::EBUSY];
        if self.random.below(16) == 0 {
            return Err(ERRNOS[self.random.below(6) as usize]);
        }
        Ok(())
    }

    /// Replaces some words of an answer, or none.
    fn lie(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.random.below(3) == 0 {
            for word in bytes.chunks_mut(4) {
                if self.random.below(4) == 0 {
                    let value = self.random.edgy().to_ne_bytes();
                    word.copy_from_slice(&value[..word.len()]);
                }
            }
        }
        bytes
    }

    fn handle(&mut self) -> u32 {
        if self.random.below(4) == 0 { self.random.edgy() } else { self.random.below(1000) }
    }

    fn count(&self, kind: &'static str, change: i64) {
        *self.balance.lock().unwrap().entry(kind).or_default() += change;
    }

    fn ioctl(&mut self, header: &IoctlHdr, attrs: &[Attr]) -> Result<Vec<Reply>, Errno> {
        let find = |id: u16| attrs.iter().find(|attr| attr.raw.attr_id == id);
        let bytes = |id: u16| match find(id) {
            Some(attr) if attr.raw.len > 8 => attr.memory.clone(),
            Some(attr) => attr.raw.data.to_ne_bytes()[..attr.raw.len.into()].to_vec(),
            None => Vec::new(),
        };
        let number = |id: u16| find(id).map_or(0, |attr| attr.raw.data as u32);
        let asked = bytes(abi::UVERBS_ATTR_UHW_IN);
        if (header.object_id, header.method_id)
            == (abi::UVERBS_OBJECT_DEVICE, abi::UVERBS_METHOD_INVOKE_WRITE)
        {
            let command = number(abi::UVERBS_ATTR_WRITE_CMD);
            if destroys(command).is_none() {
                self.refuses()?;
            }
            let before = self.balance.lock().unwrap().clone();
            let answer = self.legacy(command, &bytes(abi::UVERBS_ATTR_CORE_IN), &asked);
            let created = answer.descriptor || *self.balance.lock().unwrap() != before;
            let mut replies = Vec::new();
            // Now and then it says nothing where it should; what it has created then has no handle and cannot be destroyed.
            if find(abi::UVERBS_ATTR_CORE_OUT).is_some() && (created || self.random.below(32) > 0) {
                let core = if answer.descriptor { answer.core } else { self.lie(answer.core) };
                replies.push(Reply::Bytes(abi::UVERBS_ATTR_CORE_OUT, core));
            }
            if find(abi::UVERBS_ATTR_UHW_OUT).is_some() {
                replies.push(Reply::Bytes(abi::UVERBS_ATTR_UHW_OUT, self.lie(answer.driver)));
            }
            replies.extend(answer.elsewhere.into_iter().map(|(at, bytes)| Reply::Memory(at, bytes)));
            return Ok(replies);
        }
        let mut outputs: Vec<(u16, Vec<u8>)> = Vec::new();
        let mut handle = None;
        let mut answer = Answer::default();
        let destroyed = match (header.object_id, header.method_id) {
            (abi::UVERBS_OBJECT_CQ, abi::UVERBS_METHOD_CQ_DESTROY) => Some("cq"),
            (abi::UVERBS_OBJECT_QP, abi::UVERBS_METHOD_QP_DESTROY) => Some("qp"),
            (abi::UVERBS_OBJECT_SRQ, abi::UVERBS_METHOD_SRQ_DESTROY) => Some("srq"),
            (abi::UVERBS_OBJECT_PD, abi::UVERBS_METHOD_PD_DESTROY) => Some("pd"),
            (abi::UVERBS_OBJECT_MR, abi::UVERBS_METHOD_MR_DESTROY) => Some("mr"),
            (abi::UVERBS_OBJECT_MW, abi::UVERBS_METHOD_MW_DESTROY) => Some("mw"),
            (abi::UVERBS_OBJECT_AH, abi::UVERBS_METHOD_AH_DESTROY) => Some("ah"),
            (abi::UVERBS_OBJECT_XRCD, abi::UVERBS_METHOD_XRCD_DESTROY) => Some("xrcd"),
            _ => None,
        };
        if let Some(kind) = destroyed {
            self.count(kind, -1);
            self.refuses()?;
            return Ok(Vec::new());
        }
        self.refuses()?;
        match (header.object_id, header.method_id) {
            (abi::UVERBS_OBJECT_DEVICE, abi::UVERBS_METHOD_GET_CONTEXT) => {
                outputs.push((abi::UVERBS_ATTR_GET_CONTEXT_NUM_COMP_VECTORS, 2u32.as_bytes().to_vec()));
                answer.driver = self.context();
            }
            (abi::UVERBS_OBJECT_DEVICE, abi::UVERBS_METHOD_QUERY_PORT) => {
                let port = QueryPortRespEx { legacy_resp: port(), ..QueryPortRespEx::default() };
                outputs.push((abi::UVERBS_ATTR_QUERY_PORT_RESP, port.as_bytes().to_vec()));
            }
            (abi::UVERBS_OBJECT_DEVICE, abi::UVERBS_METHOD_QUERY_GID_TABLE) => {
                let entry = GidEntry { port_num: 1, ..GidEntry::default() };
                let table = (abi::UVERBS_ATTR_QUERY_GID_TABLE_RESP_ENTRIES, entry.as_bytes().to_vec());
                outputs.push(table);
                let count = 1u64.as_bytes().to_vec();
                outputs.push((abi::UVERBS_ATTR_QUERY_GID_TABLE_RESP_NUM_ENTRIES, count));
            }
            (abi::UVERBS_OBJECT_ASYNC_EVENT, _) => handle = Some(self.event_file()),
            (abi::UVERBS_OBJECT_CQ, _) => {
                let cqe = number(abi::UVERBS_ATTR_CREATE_CQ_CQE);
                handle = Some(self.handle());
                outputs.push((abi::UVERBS_ATTR_CREATE_CQ_RESP_CQE, cqe.as_bytes().to_vec()));
                answer = self.create_cq(cqe, &asked);
                self.count("cq", 1);
            }
            (abi::UVERBS_OBJECT_QP, _) => {
                let cap: QpCap = parse(&bytes(abi::UVERBS_ATTR_CREATE_QP_CAP));
                handle = Some(self.handle());
                outputs.push((abi::UVERBS_ATTR_CREATE_QP_RESP_CAP, cap.as_bytes().to_vec()));
                let qpn = self.random.below(1 << 24);
                outputs.push((abi::UVERBS_ATTR_CREATE_QP_RESP_QP_NUM, qpn.as_bytes().to_vec()));
                answer = self.create_qp(&cap);
                self.count("qp", 1);
            }
            (abi::UVERBS_OBJECT_SRQ, _) => {
                let (max_wr, max_sge) =
                    (number(abi::UVERBS_ATTR_CREATE_SRQ_MAX_WR), number(abi::UVERBS_ATTR_CREATE_SRQ_MAX_SGE));
                handle = Some(self.handle());
                outputs.push((abi::UVERBS_ATTR_CREATE_SRQ_RESP_MAX_WR, max_wr.as_bytes().to_vec()));
                outputs.push((abi::UVERBS_ATTR_CREATE_SRQ_RESP_MAX_SGE, max_sge.as_bytes().to_vec()));
                answer = self.create_srq(max_wr, max_sge);
                self.count("srq", 1);
            }
            _ => {}
        }
        outputs.push((abi::UVERBS_ATTR_UHW_OUT, answer.driver));
        let mut replies = Vec::new();
        for (id, bytes) in outputs {
            if find(id).is_some() {
                replies.push(Reply::Bytes(id, self.lie(bytes)));
            }
        }
        if let (Some(handle), Some(attr)) = (handle, attrs.iter().find(|attr| attr.raw.data == u64::MAX)) {
            replies.push(Reply::Handle(attr.raw.attr_id, handle));
        }
        replies.extend(answer.elsewhere.into_iter().map(|(at, bytes)| Reply::Memory(at, bytes)));
        Ok(replies)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<Vec<Reply>, Errno> {
        let header: CmdHdr = parse(bytes);
        let extended = header.command & IB_USER_VERBS_CMD_FLAG_EXTENDED != 0;
        let (at, out, driver_out) = if extended {
            let more: ExCmdHdr = parse(&bytes[size_of::<CmdHdr>()..]);
            let out = usize::from(header.out_words) * 8;
            let driver_out = usize::from(more.provider_out_words) * 8;
            (more.response, out, driver_out)
        } else {
            let response = bytes.get(8..16).map_or(0, parse::<u64>);
            (response, usize::from(header.out_words) * 4, 0)
        };
        let body = &bytes[size_of::<CmdHdr>() + if extended { size_of::<ExCmdHdr>() } else { 0 }..];
        let split = core_len(header.command).min(body.len());
        if destroys(header.command).is_none() {
            self.refuses()?;
        }
        let answer = self.legacy(header.command, &body[..split], &body[split..]);
        let core = if answer.descriptor { answer.core } else { self.lie(answer.core) };
        let driver = self.lie(answer.driver);
        let mut both = core;
        if extended {
            both.resize(out, 0);
        }
        both.extend(driver);
        both.truncate(out + driver_out);
        let mut replies = vec![];
        if !both.is_empty() {
            replies.push(Reply::Memory(at, both));
        }
        replies.extend(answer.elsewhere.into_iter().map(|(at, bytes)| Reply::Memory(at, bytes)));
        Ok(replies)
    }

    fn legacy(&mut self, number: u32, command: &[u8], asked: &[u8]) -> Answer {
        if let Some(kind) = destroys(number) {
            self.count(kind, -1);
            return Answer::default();
        }
        let flags = IB_USER_VERBS_CMD_FLAG_EXTENDED;
        match number {
            IB_USER_VERBS_CMD_GET_CONTEXT => {
                let answer =
                    GetContextResp { async_fd: self.event_file(), num_comp_vectors: 2, ..Default::default() };
                Answer { driver: self.context(), descriptor: true, ..core(answer) }
            }
            IB_USER_VERBS_CMD_QUERY_DEVICE => core(device()),
            number if number == IB_USER_VERBS_EX_CMD_QUERY_DEVICE | flags => {
                let response_length = size_of::<ExQueryDeviceResp>() as u32;
                core(ExQueryDeviceResp { base: device(), response_length, ..Default::default() })
            }
            IB_USER_VERBS_CMD_QUERY_PORT => core(port()),
            IB_USER_VERBS_CMD_CREATE_COMP_CHANNEL => {
                Answer { descriptor: true, ..core(CreateCompChannelResp { fd: self.event_file() }) }
            }
            IB_USER_VERBS_CMD_ALLOC_PD => {
                self.count("pd", 1);
                let pdn = self.random.below(1 << 24);
                let driver = mlx4::AllocPdResp { pdn, reserved: 0 }.as_bytes().to_vec();
                Answer { driver, ..core(AllocPdResp { pd_handle: self.handle() }) }
            }
            IB_USER_VERBS_CMD_REG_MR => {
                self.count("mr", 1);
                core(RegMrResp {
                    mr_handle: self.handle(),
                    lkey: self.random.word(),
                    rkey: self.random.word(),
                })
            }
            IB_USER_VERBS_CMD_ALLOC_MW => {
                self.count("mw", 1);
                core(AllocMwResp { mw_handle: self.handle(), rkey: self.random.word(), ..Default::default() })
            }
            IB_USER_VERBS_CMD_CREATE_AH => {
                self.count("ah", 1);
                let driver = rxe::CreateAhResp { ah_num: 1 + self.random.below(9), reserved: 0 };
                let answer = CreateAhResp { ah_handle: self.handle(), ..Default::default() };
                Answer { driver: driver.as_bytes().to_vec(), ..core(answer) }
            }
            IB_USER_VERBS_CMD_CREATE_CQ => {
                self.count("cq", 1);
                let cqe = parse::<CreateCq>(command).cqe;
                let answer = CreateCqResp { cq_handle: self.handle(), cqe, ..Default::default() };
                Answer { core: answer.as_bytes().to_vec(), ..self.create_cq(cqe, asked) }
            }
            number if number == IB_USER_VERBS_EX_CMD_CREATE_CQ | flags => {
                self.count("cq", 1);
                let cqe = parse::<ExCreateCq>(command).cqe;
                let base = CreateCqResp { cq_handle: self.handle(), cqe, ..Default::default() };
                let answer = ExCreateCqResp { base, ..Default::default() };
                Answer { core: answer.as_bytes().to_vec(), ..self.create_cq(cqe, asked) }
            }
            IB_USER_VERBS_CMD_RESIZE_CQ => {
                let cqe = parse::<ResizeCq>(command).cqe;
                let answer = ResizeCqResp { cqe, ..Default::default() };
                Answer { core: answer.as_bytes().to_vec(), ..self.create_cq(cqe, asked) }
            }
            IB_USER_VERBS_CMD_CREATE_QP => {
                self.count("qp", 1);
                let asked: CreateQp = parse(command);
                let CreateQp {
                    max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data, ..
                } = asked;
                let cap = QpCap { max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data };
                let answer = CreateQpResp {
                    qp_handle: self.handle(),
                    qpn: self.random.below(1 << 24),
                    max_send_wr,
                    max_recv_wr,
                    max_send_sge,
                    max_recv_sge,
                    max_inline_data,
                    ..Default::default()
                };
                Answer { core: answer.as_bytes().to_vec(), ..self.create_qp(&cap) }
            }
            IB_USER_VERBS_CMD_QUERY_QP => core(QueryQpResp::default()),
            IB_USER_VERBS_CMD_CREATE_SRQ | IB_USER_VERBS_CMD_CREATE_XSRQ => {
                self.count("srq", 1);
                let (max_wr, max_sge) = if number == IB_USER_VERBS_CMD_CREATE_SRQ {
                    let asked: CreateSrq = parse(command);
                    (asked.max_wr, asked.max_sge)
                } else {
                    let asked: CreateXsrq = parse(command);
                    (asked.max_wr, asked.max_sge)
                };
                let srqn = self.random.below(1 << 24);
                let answer =
                    CreateSrqResp { srq_handle: self.handle(), max_wr, max_sge, srqn, ..Default::default() };
                Answer { core: answer.as_bytes().to_vec(), ..self.create_srq(max_wr, max_sge) }
            }
            IB_USER_VERBS_CMD_MODIFY_SRQ if self.driver == RDMA_DRIVER_RXE => {
                let ModifySrq { attr_mask, max_wr, .. } = parse(command);
                let mut answer = Answer::default();
                if attr_mask & 1 != 0 {
                    let place = self.queue(max_wr, 64);
                    let at = parse::<rxe::ModifySrqCmd>(asked).mmap_info_addr;
                    answer.elsewhere.push((at, self.lie(place.as_bytes().to_vec())));
                }
                answer
            }
            IB_USER_VERBS_CMD_QUERY_SRQ => core(QuerySrqResp::default()),
            IB_USER_VERBS_CMD_OPEN_XRCD => {
                self.count("xrcd", 1);
                core(OpenXrcdResp { xrcd_handle: self.handle(), ..Default::default() })
            }
            _ => Answer::default(),
        }
    }

    /// What the driver says to a new context.
    fn context(&mut self) -> Vec<u8> {
        if self.driver != RDMA_DRIVER_MLX4 {
            return Vec::new();
        }
        let cqe_size = 32 << self.random.below(2);
        let answer = mlx4::AllocUcontextResp {
            dev_caps: mlx4::MLX4_USER_DEV_CAP_LARGE_CQE,
            qp_tab_size: 1 << 18,
            bf_reg_size: 512,
            bf_regs_per_page: 8,
            cqe_size,
        };
        answer.as_bytes().to_vec()
    }

    /// A file of events, which has a few in it, or none, or something else.
    fn event_file(&mut self) -> u32 {
        if self.random.below(16) == 0 {
            // One that is open would belong to somebody.
            return if self.random.below(2) == 0 { u32::MAX } else { 1 << 30 | self.random.word() >> 2 };
        }
        let (out, into) = nix::unistd::pipe().unwrap();
        let bytes: Vec<u8> = (0..self.random.below(40)).map(|_| self.random.below(6) as u8).collect();
        nix::unistd::write(&into, &bytes).unwrap();
        // Nobody writes any more: a read at the end gives nothing, so nobody blocks.
        drop::<OwnedFd>(into);
        out.into_raw_fd() as u32
    }

    /// A queue of rxe's for so many entries, with anything behind its header.
    fn queue(&mut self, elems: u32, size: u32) -> rxe::MmInfo {
        let elems = elems.min(200);
        let (slots, elem) = ((elems + 1).next_power_of_two(), size.max(64).next_power_of_two());
        let header = [elem.trailing_zeros(), slots - 1];
        let mut bytes = self.lie(header.as_bytes().to_vec());
        bytes.resize(384, 0);
        for index in [128, 256] {
            let value = self.random.below(slots).to_ne_bytes();
            bytes[index..index + 4].copy_from_slice(&value);
        }
        bytes.extend((0..slots * 4).flat_map(|_| self.random.edgy().to_ne_bytes()));
        let offset = self.next;
        self.next += 1 << 24;
        self.file.write_all_at(&bytes, offset).unwrap();
        rxe::MmInfo { offset, size: 384 + slots * elem, pad: 0 }
    }

    fn create_cq(&mut self, cqe: u32, asked: &[u8]) -> Answer {
        if self.driver == RDMA_DRIVER_RXE {
            let mi = self.queue(cqe, 64);
            return Answer { driver: rxe::CreateCqResp { mi }.as_bytes().to_vec(), ..Answer::default() };
        }
        // The device has filled some entries, as it likes.
        let buffer = asked.get(..8).map_or(0, parse::<u64>);
        let words = self.random.below((cqe + 1).min(64) * 8);
        let entries = (0..words).flat_map(|_| self.random.edgy().to_ne_bytes()).collect();
        let cqn = self.random.below(1 << 24);
        let driver = mlx4::CreateCqResp { cqn, reserved: 0 }.as_bytes().to_vec();
        Answer { driver, elsewhere: vec![(buffer, entries)], ..Answer::default() }
    }

    fn create_qp(&mut self, cap: &QpCap) -> Answer {
        if self.driver != RDMA_DRIVER_RXE {
            return Answer::default();
        }
        let send = 208 + (cap.max_send_sge.min(32) * 16).max(cap.max_inline_data.min(512));
        let sq_mi = self.queue(cap.max_send_wr, send);
        let rq_mi = self.queue(cap.max_recv_wr, 40 + cap.max_recv_sge.min(32) * 16);
        Answer { driver: rxe::CreateQpResp { rq_mi, sq_mi }.as_bytes().to_vec(), ..Answer::default() }
    }

    fn create_srq(&mut self, max_wr: u32, max_sge: u32) -> Answer {
        let driver = if self.driver == RDMA_DRIVER_RXE {
            let mi = self.queue(max_wr, 40 + max_sge.min(32) * 16);
            rxe::CreateSrqResp { mi, srq_num: 1, reserved: 0 }.as_bytes().to_vec()
        } else {
            mlx4::CreateSrqResp { srqn: self.random.below(1 << 24), reserved: 0 }.as_bytes().to_vec()
        };
        Answer { driver, ..Answer::default() }
    }
}

/// The kind of object that a legacy command destroys.
fn destroys(number: u32) -> Option<&'static str> {
    Some(match number {
        IB_USER_VERBS_CMD_DESTROY_CQ => "cq",
        IB_USER_VERBS_CMD_DESTROY_QP => "qp",
        IB_USER_VERBS_CMD_DESTROY_SRQ => "srq",
        IB_USER_VERBS_CMD_DEALLOC_PD => "pd",
        IB_USER_VERBS_CMD_DEREG_MR => "mr",
        IB_USER_VERBS_CMD_DEALLOC_MW => "mw",
        IB_USER_VERBS_CMD_DESTROY_AH => "ah",
        IB_USER_VERBS_CMD_CLOSE_XRCD => "xrcd",
        _ => return None,
    })
}

/// Bytes of a command before the driver's part.
fn core_len(number: u32) -> usize {
    match number {
        IB_USER_VERBS_CMD_CREATE_CQ => size_of::<CreateCq>(),
        IB_USER_VERBS_CMD_RESIZE_CQ => size_of::<ResizeCq>(),
        IB_USER_VERBS_CMD_CREATE_QP => size_of::<CreateQp>(),
        IB_USER_VERBS_CMD_CREATE_SRQ => size_of::<CreateSrq>(),
        IB_USER_VERBS_CMD_CREATE_XSRQ => size_of::<CreateXsrq>(),
        IB_USER_VERBS_CMD_MODIFY_SRQ => size_of::<ModifySrq>(),
        number if number == IB_USER_VERBS_EX_CMD_CREATE_CQ | IB_USER_VERBS_CMD_FLAG_EXTENDED => {
            size_of::<ExCreateCq>()
        }
        _ => usize::MAX,
    }
}

fn device() -> QueryDeviceResp {
    QueryDeviceResp {
        max_qp_wr: 16_384,
        max_sge: 32,
        max_cqe: 32_767,
        max_srq: 10,
        max_srq_wr: 16_384,
        max_srq_sge: 31,
        phys_port_cnt: 2,
        ..QueryDeviceResp::default()
    }
}

fn port() -> QueryPortResp {
    QueryPortResp {
        gid_tbl_len: 16,
        state: 4,
        max_mtu: 5,
        active_mtu: 3,
        phys_state: 5,
        link_layer: 1,
        ..QueryPortResp::default()
    }
}
