//! Missing features are refused by a status, or by a completion and one violation, and not executed in part.

use super::{
    super::{cq::CONTEXT as CQ_CONTEXT, wqe::opcode},
    guest::{QpInit, World, Wqe},
    rc::Pair,
};
use crate::transport::Transition;
use crate::{
    be::{get32, put32},
    mlx4::status::Status,
};

const REFUSED: Result<(), Status> = Err(Status::BadParam);

/// Automatic path migration: `IB_QP_ALT_PATH` and `IB_QP_PATH_MIG_STATE`.
#[test]
fn paths_do_not_migrate() {
    const ALTERNATE_PATH: u32 = 1 << 0;
    const MIGRATION: u32 = 1 << 10;
    const STATES: [(u32, bool); 3] = [(0, false), (1 << 11, false), (3 << 11, true)];
    let mut pair = Pair::new(1, |_| {});
    let ask = |pair: &mut Pair, mask: u32, state: u32| {
        let qp = &mut pair.qps[0];
        let flags = get32(&qp.context, 8) & !(3 << 11);
        put32(&mut qp.context, 0, mask);
        put32(&mut qp.context, 8, flags | state);
        pair.world.guests[0].modify(qp, Transition::RtsToRts)
    };
    assert_eq!(ask(&mut pair, ALTERNATE_PATH, 3 << 11), REFUSED);
    for (state, is_migrated) in STATES {
        assert_eq!(ask(&mut pair, MIGRATION, state).is_ok(), is_migrated, "{state:#x}");
        // A state that is not in the mask is ignored.
        assert_eq!(ask(&mut pair, 0, state), Ok(()));
    }
    // Everything continues to work.
    let wqe = pair.raddr(1, Wqe::new(opcode::WRITE), 0).inline(&[7]);
    pair.send(0, &wqe);
    pair.run();
    assert_eq!((pair.outcomes(0).len(), pair.bytes(1, 0, 1)), (1, vec![7]));
    pair.clean();
}

/// `IBV_WC_EX_WITH_COMPLETION_TIMESTAMP`: the kernel requests it without checking the capabilities, here of ConnectX-2.
#[test]
fn completions_have_no_time_stamps() {
    let mut world = World::new(1);
    let guest = &mut world.guests[0];
    let cq = guest.cq(4);
    let mut context: [u8; CQ_CONTEXT] = guest.data.cqs.query(cq.cqn).unwrap();
    put32(&mut context, 0, 1 << 19);
    let cqn = cq.cqn + 1;
    assert_eq!(guest.data.cqs.create(&mut guest.card, cqn, &context), REFUSED);
    put32(&mut context, 0, 0);
    assert_eq!(guest.data.cqs.create(&mut guest.card, cqn, &context), Ok(()));
    assert_eq!(world.violations(), 0);
}

/// mlx4_ib offers `MLX4DV_QP_INIT_ATTR_MASK_INL_RECV` and RSS regardless of the card.
#[test]
fn receives_are_not_inline_and_not_spread() {
    let mut pair = Pair::new(1, |_| {});
    for (at, bit) in [(8 + 0xc0, 1 << 25), (8, 1 << 13)] {
        let init = QpInit::new(0, pair.cqs[0].cqn);
        let mut qp = pair.world.guests[0].qp(init);
        pair.world.guests[0].modify(&mut qp, Transition::ToRst).unwrap();
        let word = get32(&qp.context, at);
        put32(&mut qp.context, at, word | bit);
        assert_eq!(pair.world.guests[0].modify(&mut qp, Transition::RstToInit), REFUSED);
        put32(&mut qp.context, at, word);
        assert_eq!(pair.world.guests[0].modify(&mut qp, Transition::RstToInit), Ok(()));
    }
    pair.clean();
}

/// `MLX4_OPCODE_LSO`, which QUERY_DEV_CAP does not offer.
#[test]
fn large_sends_are_refused() {
    const LSO: u8 = 0x0e;
    for kind in [0, 3] {
        let mut pair = Pair::of_kind(kind, 1, |_| {});
        let wqe = pair.sge(0, Wqe::new(LSO), 0, 8);
        pair.send(0, &wqe);
        pair.run();
        let local_qp_operation = 0x02;
        assert_eq!(pair.outcomes(0), [(0, Err(local_qp_operation))]);
        assert_eq!(pair.world.violations(), 1);
    }
}
