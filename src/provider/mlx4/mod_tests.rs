//! What the kernel may say of a device, and what it does not get away with.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::*;
use crate::sys::linux::testing::{Reply, install};
use crate::uapi::ioctl as ioctl_abi;
use crate::uverbs::Encoding;

const ANSWER: abi::AllocUcontextResp = abi::AllocUcontextResp {
    dev_caps: abi::MLX4_USER_DEV_CAP_LARGE_CQE,
    qp_tab_size: 1 << 18,
    bf_reg_size: 512,
    bf_regs_per_page: 8,
    cqe_size: 64,
};

#[test]
fn sizes_are_those_of_the_answer() {
    assert_eq!(Sizes::of(&ANSWER, 4096), Ok(Sizes { cqe: 64, bf_reg: 512, bf_regs: 8 }));
    let small = abi::AllocUcontextResp { dev_caps: 0, ..ANSWER };
    assert_eq!(Sizes::of(&small, 4096), Ok(Sizes { cqe: 32, bf_reg: 512, bf_regs: 8 }));
    let none = abi::AllocUcontextResp { bf_reg_size: 0, bf_regs_per_page: 0, ..ANSWER };
    assert_eq!(Sizes::of(&none, 4096), Ok(Sizes { cqe: 64, bf_reg: 0, bf_regs: 1 }));
}

#[test]
fn sizes_that_nobody_knows_are_refused() {
    let refused = |answer| Sizes::of(&answer, 4096).expect_err("refused");
    for cqe_size in [0, 16, 33, 128, u32::MAX] {
        let why = refused(abi::AllocUcontextResp { cqe_size, ..ANSWER });
        assert_eq!(why, format!("completion queue entries of {cqe_size} bytes"));
    }
    for qp_tab_size in [0, 3, 1 << 25, u32::MAX] {
        let why = refused(abi::AllocUcontextResp { qp_tab_size, ..ANSWER });
        assert_eq!(why, format!("a table of {qp_tab_size} queue pairs"));
    }
    for bf_reg_size in [1, 64, 513, 8192, u16::MAX] {
        let why = refused(abi::AllocUcontextResp { bf_reg_size, ..ANSWER });
        assert_eq!(why, format!("BlueFlame registers of {bf_reg_size} bytes"));
    }
}

/// What opening a device says whose kernel gives `answer`; its file cannot be mapped.
fn opened(version: u32, answer: &[u8]) -> String {
    let answer = answer.to_vec();
    install(move |_| Ok(vec![Reply::Bytes(ioctl_abi::UVERBS_ATTR_UHW_OUT, answer.clone())]));
    let fd: OwnedFd = File::open("/dev/null").unwrap().into();
    let uverbs = Uverbs::new(fd, ioctl_abi::RDMA_DRIVER_MLX4, "mlx4_0".to_owned(), Encoding::Auto);
    open(&uverbs, version).map(|_| ()).expect_err("nothing to map").to_string()
}

#[test]
#[cfg_attr(miri, ignore = "opens a file")]
fn a_device_that_cannot_be_driven_is_not_opened() {
    use zerocopy::IntoBytes;
    let text = opened(5, &[]);
    assert_eq!(
        text,
        "open on mlx4_0: version 5 of mlx4's ABI is not known, only 3 and 4; a newer bareverbs may know this kernel"
    );
    let text = opened(4, abi::AllocUcontextResp { cqe_size: 96, ..ANSWER }.as_bytes());
    assert!(text.starts_with("get_context on mlx4_0: ") && text.contains("entries of 96 bytes"), "{text}");
    let text = opened(4, ANSWER.as_bytes());
    assert!(
        text.starts_with("open on mlx4_0: ") && text.contains("mapping the device's doorbell page"),
        "{text}"
    );
    // The older answer has the same sizes in 8 bytes.
    let text = opened(3, abi::AllocUcontextRespV3 { qp_tab_size: 5, ..Default::default() }.as_bytes());
    assert!(text.contains("a table of 5 queue pairs"), "{text}");
}

#[test]
#[cfg_attr(miri, ignore = "opens a file")]
fn limits_are_those_that_the_queues_can_express() {
    use zerocopy::IntoBytes;
    let answer = ExQueryDeviceResp {
        base: crate::uapi::verbs::QueryDeviceResp {
            max_qp_wr: 1 << 30,
            max_srq_wr: 1 << 30,
            max_cqe: 1 << 30,
            max_sge: 1 << 30,
            ..Default::default()
        },
        response_length: size_of::<ExQueryDeviceResp>() as u32,
        ..Default::default()
    };
    install(move |_| Ok(vec![Reply::Bytes(ioctl_abi::UVERBS_ATTR_CORE_OUT, answer.as_bytes().to_vec())]));
    let fd: OwnedFd = File::open("/dev/null").unwrap().into();
    let uverbs = Uverbs::new(fd, ioctl_abi::RDMA_DRIVER_MLX4, "mlx4_0".to_owned(), Encoding::Auto);
    let base = query_device(&uverbs).unwrap().0.base;
    assert_eq!((base.max_qp_wr, base.max_srq_wr, base.max_cqe), (1 << 16, 0xffff, 0x3f_ffff));
    let (uar, _, _) = mock::Device::uar();
    let ctx = Context { uar, records: dbrec::Pool::default(), cqe_size: 32, limits: OnceLock::new() };
    let cap = |max_send_wr, max_recv_sge| QpCap {
        max_send_wr,
        max_recv_wr: 1,
        max_send_sge: 1,
        max_recv_sge,
        max_inline_data: 0,
    };
    assert_eq!(ctx.check(&uverbs, &cap(1 << 16, 64)), Ok(()));
    assert_eq!(ctx.check(&uverbs, &cap((1 << 16) + 1, 1)), Err(Errno::EINVAL));
    assert_eq!(ctx.check(&uverbs, &cap(1, 65)), Err(Errno::EINVAL));
    // With the slots that the device may fetch too early the queue has twice as many, of which half can be outstanding.
    let layout = layout::Layout::new(crate::types::QpType::RC, &cap(1 << 16, 1), true).unwrap();
    assert_eq!((layout.send_slots, layout.max_send_wr()), (1 << 17, 1 << 16));
}
