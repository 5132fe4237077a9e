//! The states of a queue pair: which attributes a transition takes, and what is wrong with one that the kernel refused.
//!
//! The table is that of the InfiniBand specification (section 10.3.1) as `ibv_modify_qp(3)` gives it.

use super::qp_attr::{Mask, QpAttr};
use crate::types::{QpState, QpType};

/// What a transition must be given and what it may be; `None` where there is no such transition.
fn rule(qp_type: QpType, from: QpState, to: QpState) -> Option<(Mask, Mask)> {
    type S = QpState;
    let connected = matches!(qp_type, QpType::RC | QpType::UC | QpType::XRC_SEND | QpType::XRC_RECV);
    // The two ends of a reliable connection, which XRC has in queue pairs of their own.
    let requester = matches!(qp_type, QpType::RC | QpType::XRC_SEND);
    let responder = matches!(qp_type, QpType::RC | QpType::XRC_RECV);
    let reliable = requester || responder;
    let with = |when: bool, mask: Mask| if when { mask } else { Mask::empty() };
    let none = Mask::empty();
    // What a running queue pair may have changed.
    let running = Mask::CUR_STATE
        | with(connected, Mask::ACCESS_FLAGS)
        | with(!connected, Mask::QKEY)
        | with(responder, Mask::MIN_RNR_TIMER);
    let init = Mask::PKEY_INDEX | Mask::PORT | if connected { Mask::ACCESS_FLAGS } else { Mask::QKEY };
    Some(match (from, to) {
        (_, S::RESET | S::ERR) => (none, none),
        (S::RESET, S::INIT) => (init, none),
        (S::INIT, S::INIT) => (none, init),
        (S::INIT, S::RTR) if connected => (
            Mask::AV
                | Mask::PATH_MTU
                | Mask::DEST_QPN
                | Mask::RQ_PSN
                | with(responder, Mask::MAX_DEST_RD_ATOMIC | Mask::MIN_RNR_TIMER),
            Mask::ACCESS_FLAGS | Mask::PKEY_INDEX,
        ),
        (S::INIT, S::RTR) => (none, Mask::PKEY_INDEX | Mask::QKEY),
        (S::RTR, S::RTS) => (
            Mask::SQ_PSN
                | with(reliable, Mask::TIMEOUT)
                | with(requester, Mask::RETRY_CNT | Mask::RNR_RETRY | Mask::MAX_QP_RD_ATOMIC),
            running,
        ),
        (S::RTS, S::RTS) | (S::SQD, S::RTS) => (none, running),
        (S::SQE, S::RTS) if !reliable => (none, running),
        (S::RTS, S::SQD) => (none, none),
        (S::SQD, S::SQD) if connected => (
            none,
            Mask::AV
                | Mask::ACCESS_FLAGS
                | Mask::PKEY_INDEX
                | with(reliable, Mask::PORT | Mask::TIMEOUT)
                | with(requester, Mask::RETRY_CNT | Mask::RNR_RETRY | Mask::MAX_QP_RD_ATOMIC)
                | with(responder, Mask::MAX_DEST_RD_ATOMIC | Mask::MIN_RNR_TIMER),
        ),
        (S::SQD, S::SQD) => (none, Mask::PKEY_INDEX | Mask::QKEY),
        _ => return None,
    })
}

/// Says what is wrong with a transition, where the table can tell.
pub(super) fn explain(qp_type: QpType, from: QpState, attr: &QpAttr) -> Option<String> {
    let to = attr.state.unwrap_or(from);
    let Some((required, optional)) = rule(qp_type, from, to) else {
        return Some(format!("there is no transition from {from} to {to} for a QP of type {qp_type}"));
    };
    let given = attr.mask() - Mask::STATE;
    let missing = required - given;
    let extra = given - required - optional - Mask::CUR_STATE;
    match (missing.is_empty(), extra.is_empty()) {
        (true, true) => None,
        (false, _) => Some(format!("{from} to {to} needs {} too", missing.fields())),
        (true, false) => Some(format!("{from} to {to} does not take {}", extra.fields())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Access, PortNum, Psn};

    #[test]
    fn missing_attributes_are_named() {
        let attr = QpAttr { rq_psn: Some(Psn::default()), ..QpAttr::to(QpState::RTR) };
        assert_eq!(
            explain(QpType::UC, QpState::INIT, &attr).as_deref(),
            Some("INIT to RTR needs av, path_mtu, dest_qp_num too")
        );
    }

    #[test]
    fn transitions_that_are_none_are_named() {
        let attr = QpAttr::to(QpState::RTS);
        assert_eq!(
            explain(QpType::RC, QpState::INIT, &attr).as_deref(),
            Some("there is no transition from INIT to RTS for a QP of type RC")
        );
        let attr = QpAttr { timeout: Some(1), ..QpAttr::to(QpState::ERR) };
        assert_eq!(
            explain(QpType::RC, QpState::RTS, &attr).as_deref(),
            Some("RTS to ERR does not take timeout")
        );
    }

    #[test]
    fn each_end_of_xrc_has_its_own_half() {
        let init_to_rtr =
            |qp_type| explain(qp_type, QpState::INIT, &QpAttr::to(QpState::RTR)).unwrap_or_default();
        assert_eq!(init_to_rtr(QpType::XRC_SEND), "INIT to RTR needs av, path_mtu, rq_psn, dest_qp_num too");
        assert!(init_to_rtr(QpType::XRC_RECV).contains("min_rnr_timer, max_dest_rd_atomic"));
        let rtr_to_rts =
            |qp_type| explain(qp_type, QpState::RTR, &QpAttr::to(QpState::RTS)).unwrap_or_default();
        assert_eq!(rtr_to_rts(QpType::XRC_RECV), "RTR to RTS needs timeout, sq_psn too");
        assert!(rtr_to_rts(QpType::XRC_SEND).contains("retry_cnt, rnr_retry, max_rd_atomic"));
    }

    #[test]
    fn a_whole_transition_has_nothing_to_explain() {
        let attr = QpAttr {
            pkey_index: Some(0),
            port: Some(PortNum::ONE),
            access: Some(Access::empty()),
            ..QpAttr::to(QpState::INIT)
        };
        assert_eq!(explain(QpType::RC, QpState::RESET, &attr), None);
    }
}
