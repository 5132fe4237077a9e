//! Capability bits and their names.

/// Bits of one word that have names, in the order in which they are shown.
pub(super) struct Flags(&'static [(u64, &'static str)]);

impl Flags {
    /// The names of the bits that are set.
    pub(super) fn names(&self, value: u64) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(move |(bit, _)| value & bit != 0).map(|(_, name)| *name)
    }

    /// The bits that are set and have no name.
    pub(super) fn unknown(&self, value: u64) -> u64 {
        value & !self.0.iter().fold(0, |all, (bit, _)| all | bit)
    }
}

/// `device_cap_flags`.
pub(super) const DEVICE: Flags = Flags(&[
    (1, "RESIZE_MAX_WR"),
    (1 << 1, "BAD_PKEY_CNTR"),
    (1 << 2, "BAD_QKEY_CNTR"),
    (1 << 3, "RAW_MULTI"),
    (1 << 4, "AUTO_PATH_MIG"),
    (1 << 5, "CHANGE_PHY_PORT"),
    (1 << 6, "UD_AV_PORT_ENFORCE"),
    (1 << 7, "CURR_QP_STATE_MOD"),
    (1 << 8, "SHUTDOWN_PORT"),
    (1 << 9, "INIT_TYPE"),
    (1 << 10, "PORT_ACTIVE_EVENT"),
    (1 << 11, "SYS_IMAGE_GUID"),
    (1 << 12, "RC_RNR_NAK_GEN"),
    (1 << 13, "SRQ_RESIZE"),
    (1 << 14, "N_NOTIFY_CQ"),
    (1 << 17, "MEM_WINDOW"),
    (1 << 18, "UD_IP_CSUM"),
    (1 << 20, "XRC"),
    (1 << 21, "MEM_MGT_EXTENSIONS"),
    (1 << 23, "MEM_WINDOW_TYPE_2A"),
    (1 << 24, "MEM_WINDOW_TYPE_2B"),
    (1 << 25, "RC_IP_CSUM"),
    (1 << 26, "RAW_IP_CSUM"),
    (1 << 29, "MANAGED_FLOW_STEERING"),
]);

/// The upper half of `device_cap_flags_ex`.
pub(super) const DEVICE_EX: Flags =
    Flags(&[(1 << 34, "RAW_SCATTER_FCS"), (1 << 36, "PCI_WRITE_END_PADDING")]);

/// What is general in on-demand paging.
pub(super) const ODP: Flags = Flags(&[(1, "ODP_SUPPORT"), (1 << 1, "ODP_SUPPORT_IMPLICIT")]);

/// What a transport can page on demand.
pub(super) const ODP_TRANSPORT: Flags = Flags(&[
    (1, "SUPPORT_SEND"),
    (1 << 1, "SUPPORT_RECV"),
    (1 << 2, "SUPPORT_WRITE"),
    (1 << 3, "SUPPORT_READ"),
    (1 << 4, "SUPPORT_ATOMIC"),
    (1 << 5, "SUPPORT_SRQ"),
]);

/// Kinds of queue pairs, as far as the C tool names them: raw packet is 8, UD is 4.
pub(super) const QPTS: Flags = Flags(&[(1 << 8, "SUPPORT_RAW_PACKET"), (1 << 4, "SUPPORT_UD")]);

/// Raw packet queues.
pub(super) const RAW_PACKET: Flags = Flags(&[
    (1, "C-VLAN stripping offload"),
    (1 << 1, "Scatter FCS offload"),
    (1 << 2, "IP csum offload"),
    (1 << 3, "Delay drop"),
]);

/// Tag matching.
pub(super) const TM: Flags = Flags(&[(1, "IBV_TM_CAP_RC")]);
