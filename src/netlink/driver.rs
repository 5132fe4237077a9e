//! Kernel drivers of RDMA devices.

use crate::types::open_enum;

open_enum! {
    /// Kernel driver of a device (`enum rdma_driver_id`). It determines the layout of queues and doorbells.
    DriverId: u32 {
        /// The kernel does not report it.
        UNKNOWN = 0, "unknown";
        /// NVIDIA ConnectX-4 and later.
        MLX5 = 1, "mlx5";
        /// Mellanox ConnectX, ConnectX-2 and ConnectX-3.
        MLX4 = 2, "mlx4";
        /// Chelsio T3.
        CXGB3 = 3, "cxgb3";
        /// Chelsio T4 and later.
        CXGB4 = 4, "cxgb4";
        /// Mellanox InfiniHost.
        MTHCA = 5, "mthca";
        /// Broadcom NetXtreme-E.
        BNXT_RE = 6, "bnxt_re";
        /// Emulex OneConnect.
        OCRDMA = 7, "ocrdma";
        /// NetEffect.
        NES = 8, "nes";
        /// Intel Ethernet (X722, E800).
        IRDMA = 9, "irdma";
        /// VMware's paravirtual device.
        VMW_PVRDMA = 10, "vmw_pvrdma";
        /// Marvell FastLinQ.
        QEDR = 11, "qedr";
        /// HiSilicon.
        HNS = 12, "hns";
        /// Cisco usNIC.
        USNIC = 13, "usnic";
        /// Software RoCE.
        RXE = 14, "rxe";
        /// Intel Omni-Path.
        HFI1 = 15, "hfi1";
        /// QLogic InfiniPath.
        QIB = 16, "qib";
        /// Amazon's Elastic Fabric Adapter.
        EFA = 17, "efa";
        /// Software iWARP.
        SIW = 18, "siw";
        /// Alibaba's elastic RDMA.
        ERDMA = 19, "erdma";
        /// Microsoft Azure's network adapter.
        MANA = 20, "mana";
        /// AMD Pensando.
        IONIC = 21, "ionic";
    }
}
