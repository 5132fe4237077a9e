//! `rdma/mlx4-abi.h`: what the mlx4 driver and its user tell each other beside the verbs' own commands.

use super::{uapi_numbers, uapi_structs};

uapi_numbers! {
    u32 {
        /* Versions of this ABI: without and with `dev_caps` in the answer to GET_CONTEXT. */
        MLX4_IB_UVERBS_NO_DEV_CAPS_ABI_VERSION = 3,
        MLX4_IB_UVERBS_ABI_VERSION = 4,
        /* In `dev_caps`: completion queue entries may have another size than 32 bytes. */
        MLX4_USER_DEV_CAP_LARGE_CQE = 1,
    }
}

uapi_structs! {
    /// Version 3.
    struct AllocUcontextRespV3 = "struct mlx4_ib_alloc_ucontext_resp_v3" {
        qp_tab_size: u32, bf_reg_size: u16, bf_regs_per_page: u16,
    }

    /// Version 4.
    struct AllocUcontextResp = "struct mlx4_ib_alloc_ucontext_resp" {
        dev_caps: u32, qp_tab_size: u32, bf_reg_size: u16, bf_regs_per_page: u16, cqe_size: u32,
    }

    struct AllocPdResp = "struct mlx4_ib_alloc_pd_resp" { pdn: u32, reserved: u32 }

    struct RssCaps = "struct mlx4_ib_rss_caps" {
        rx_hash_fields_mask: u64, rx_hash_function: u8, reserved: [u8; 7],
    }

    struct TsoCaps = "struct mlx4_ib_tso_caps" { max_tso: u32, supported_qpts: u32 }

    /// Behind the answer to QUERY_DEVICE.
    struct ExQueryDeviceResp = "struct mlx4_uverbs_ex_query_device_resp" {
        comp_mask: u32,
        response_length: u32,
        hca_core_clock_offset: u64,
        max_inl_recv_sz: u32,
        reserved: u32,
        rss_caps: RssCaps,
        tso_caps: TsoCaps,
    }

    struct CreateCq = "struct mlx4_ib_create_cq" { buf_addr: u64, db_addr: u64 }

    struct CreateCqResp = "struct mlx4_ib_create_cq_resp" { cqn: u32, reserved: u32 }

    struct ResizeCq = "struct mlx4_ib_resize_cq" { buf_addr: u64 }

    struct CreateSrq = "struct mlx4_ib_create_srq" { buf_addr: u64, db_addr: u64 }

    struct CreateSrqResp = "struct mlx4_ib_create_srq_resp" { srqn: u32, reserved: u32 }

    struct CreateQp = "struct mlx4_ib_create_qp" {
        buf_addr: u64,
        db_addr: u64,
        log_sq_bb_count: u8,
        log_sq_stride: u8,
        sq_no_prefetch: u8,
        reserved: u8,
        inl_recv_sz: u32,
    }
}
