//! `rdma/rdma_user_rxe.h`: the queues that the rxe driver shares with its user.

use super::uapi_structs;

/// The arm of a send request's union that belongs to its opcode; the rest of it is zero.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(transparent)]
pub struct WrUnion(pub [u64; 15]);

impl WrUnion {
    /// Sends carry nothing here where the queue pair is connected.
    #[must_use]
    pub const fn none() -> Self {
        Self([0; 15])
    }

    /// RDMA write and read.
    #[must_use]
    pub fn rdma(arm: WrRdma) -> Self {
        let mut all = Self::none();
        all.0[0] = arm.remote_addr;
        all.0[1] = pair(arm.rkey, arm.reserved);
        all
    }

    /// Compare-and-swap and fetch-and-add.
    #[must_use]
    pub fn atomic(arm: WrAtomic) -> Self {
        let mut all = Self::none();
        all.0[0] = arm.remote_addr;
        all.0[1] = arm.compare_add;
        all.0[2] = arm.swap;
        all.0[3] = pair(arm.rkey, arm.reserved);
        all
    }

    /// A send to the address handle that the driver calls `ah_num`; its `av` is for drivers that number none.
    #[must_use]
    pub fn ud(arm: WrUd) -> Self {
        let mut all = Self::none();
        all.0[0] = pair(arm.remote_qpn, arm.remote_qkey);
        all.0[1] = zerocopy::transmute!([[arm.pkey_index, arm.reserved], zerocopy::transmute!(arm.ah_num)]);
        all
    }

    /// Binding a memory window.
    #[must_use]
    pub fn mw(arm: WrMw) -> Self {
        let mut all = Self::none();
        all.0[0] = arm.addr;
        all.0[1] = arm.length;
        all.0[2] = pair(arm.mr_lkey, arm.mw_rkey);
        all.0[3] = pair(arm.rkey, arm.access);
        all
    }
}

/// Two 32-bit fields as they lie in one 64-bit word of this machine.
fn pair(first: u32, second: u32) -> u64 {
    zerocopy::transmute!([first, second])
}

uapi_structs! {
    struct WrRdma = "__typeof__(((struct rxe_send_wr *)0)->wr.rdma)" { remote_addr: u64, rkey: u32, reserved: u32 }

    struct WrAtomic = "__typeof__(((struct rxe_send_wr *)0)->wr.atomic)" {
        remote_addr: u64, compare_add: u64, swap: u64, rkey: u32, reserved: u32,
    }

    struct WrMw = "__typeof__(((struct rxe_send_wr *)0)->wr.mw)" {
        addr: u64, length: u64, mr_lkey: u32, mw_rkey: u32, rkey: u32, access: u32,
    }

    struct WrUd = "__typeof__(((struct rxe_send_wr *)0)->wr.ud)" {
        remote_qpn: u32, remote_qkey: u32, pkey_index: u16, reserved: u16, ah_num: u32, pad: [u32; 4], av: Av,
    }

    /// An address as drivers before Linux 5.17 wanted it in each request.
    struct Av = "struct rxe_av" {
        port_num: u8, network_type: u8, dmac: [u8; 6], grh: [u64; 3], sgid_addr: [u32; 7], dgid_addr: [u32; 7],
    }

    struct SendWr = "struct rxe_send_wr" {
        wr_id: u64,
        reserved: u32,
        opcode: u32,
        send_flags: u32,
        /// Immediate data (big-endian) or the rkey to invalidate.
        ex: u32 = "ex.imm_data",
        wr: WrUnion,
    }

    struct Sge = "struct rxe_sge" { addr: u64, length: u32, lkey: u32 }

    /// Where `mmap()` finds a queue: `offset` is the file offset, `size` counts bytes.
    struct MmInfo = "struct mminfo" { offset: u64, size: u32, pad: u32 }

    /// Followed by the SGEs, or by the inline bytes.
    struct DmaInfo = "struct rxe_dma_info" {
        length: u32, resid: u32, cur_sge: u32, num_sge: u32, sge_offset: u32, reserved: u32, sge: [u64; 0] = _ }

    struct SendWqe = "struct rxe_send_wqe" {
        wr: SendWr,
        status: u32,
        state: u32,
        iova: u64,
        mask: u32,
        first_psn: u32,
        last_psn: u32,
        ack_length: u32,
        ssn: u32,
        has_rd_atomic: u32,
        dma: DmaInfo,
    }

    struct RecvWqe = "struct rxe_recv_wqe" { wr_id: u64, reserved: u32, padding: u32, dma: DmaInfo }

    struct CreateCqResp = "struct rxe_create_cq_resp" { mi: MmInfo }

    struct ResizeCqResp = "struct rxe_resize_cq_resp" { mi: MmInfo }

    struct CreateQpResp = "struct rxe_create_qp_resp" { rq_mi: MmInfo, sq_mi: MmInfo }

    struct CreateAhResp = "struct rxe_create_ah_resp" { ah_num: u32, reserved: u32 }

    struct CreateSrqResp = "struct rxe_create_srq_resp" { mi: MmInfo, srq_num: u32, reserved: u32 }

    /// Where the driver writes the [`MmInfo`] of a queue that it has resized.
    struct ModifySrqCmd = "struct rxe_modify_srq_cmd" { mmap_info_addr: u64 }

    /// The head of every shared queue; the elements follow it.
    struct QueueBuf = "struct rxe_queue_buf" {
        log2_elem_size: u32,
        index_mask: u32,
        pad_1: [u32; 30],
        producer_index: u32,
        pad_2: [u32; 31],
        consumer_index: u32,
        pad_3: [u32; 31],
    }
}
