//! `<rdma/rdma_netlink.h>`: the numbers of RDMA netlink's device interface (`RDMA_NLDEV`).
//!
//! The header counts its commands and attributes from an enum and only ever appends, so these numbers hold for
//! every kernel; an older kernel lacks the later ones.

use super::{uapi_numbers, uapi_structs};

uapi_structs! {}

uapi_numbers! {
    u16 {
        // The client whose operations these are; a message type is `client << 10 | operation`.
        RDMA_NL_NLDEV = 5,

        RDMA_NLDEV_CMD_GET = 1,
        RDMA_NLDEV_CMD_NEWLINK = 3,
        RDMA_NLDEV_CMD_DELLINK = 4,
        RDMA_NLDEV_CMD_PORT_GET = 5,
        RDMA_NLDEV_CMD_SYS_GET = 6,
        RDMA_NLDEV_CMD_RES_GET = 9,
        RDMA_NLDEV_CMD_GET_CHARDEV = 15,

        RDMA_NLDEV_ATTR_DEV_INDEX = 1,
        RDMA_NLDEV_ATTR_DEV_NAME = 2,
        RDMA_NLDEV_ATTR_PORT_INDEX = 3,
        RDMA_NLDEV_ATTR_CAP_FLAGS = 4,
        RDMA_NLDEV_ATTR_FW_VERSION = 5,
        RDMA_NLDEV_ATTR_NODE_GUID = 6,
        RDMA_NLDEV_ATTR_SYS_IMAGE_GUID = 7,
        RDMA_NLDEV_ATTR_SUBNET_PREFIX = 8,
        RDMA_NLDEV_ATTR_LID = 9,
        RDMA_NLDEV_ATTR_SM_LID = 10,
        RDMA_NLDEV_ATTR_LMC = 11,
        RDMA_NLDEV_ATTR_PORT_STATE = 12,
        RDMA_NLDEV_ATTR_PORT_PHYS_STATE = 13,
        RDMA_NLDEV_ATTR_DEV_NODE_TYPE = 14,
        RDMA_NLDEV_ATTR_RES_SUMMARY = 15,
        RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY = 16,
        RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_NAME = 17,
        RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_CURR = 18,
        RDMA_NLDEV_ATTR_NDEV_INDEX = 50,
        RDMA_NLDEV_ATTR_NDEV_NAME = 51,
        RDMA_NLDEV_ATTR_LINK_TYPE = 65,
        RDMA_NLDEV_SYS_ATTR_NETNS_MODE = 66,
        RDMA_NLDEV_ATTR_DEV_PROTOCOL = 67,
        RDMA_NLDEV_ATTR_CHARDEV_TYPE = 69,
        RDMA_NLDEV_ATTR_CHARDEV_NAME = 70,
        RDMA_NLDEV_ATTR_CHARDEV_ABI = 71,
        RDMA_NLDEV_ATTR_CHARDEV = 72,
        RDMA_NLDEV_ATTR_UVERBS_DRIVER_ID = 73,
        RDMA_NLDEV_ATTR_DEV_DIM = 84,
        RDMA_NLDEV_SYS_ATTR_COPY_ON_FORK = 93,
    }
    u8 {
        RDMA_NODE_IB_CA = 1,
        RDMA_NODE_IB_SWITCH = 2,
        RDMA_NODE_IB_ROUTER = 3,
        RDMA_NODE_RNIC = 4,
        RDMA_NODE_USNIC = 5,
        RDMA_NODE_USNIC_UDP = 6,
        RDMA_NODE_UNSPECIFIED = 7,
    }
}

// Newer than the headers that the table above is checked against (Linux 6.11).

/// One byte: the kind of a device that was made on top of another one.
pub const RDMA_NLDEV_ATTR_DEV_TYPE: u16 = 99;
/// String: the device that such a device stands on.
pub const RDMA_NLDEV_ATTR_PARENT_NAME: u16 = 100;
