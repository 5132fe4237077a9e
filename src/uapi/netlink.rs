//! `rdma/rdma_netlink.h`.
use super::{uapi_numbers, uapi_structs};
uapi_numbers! {}
uapi_structs! {}
