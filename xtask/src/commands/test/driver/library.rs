//! Our suite (`tests/vm`) on the card.

use super::{Arguments, Checks};
use crate::commands::test::guest;

/// Tests of `tests/vm` that are not about rxe or Ethernet. The kernel complains of a queue that overflows, as it should, so that test
/// is among the faults.
pub(super) const CONNECTX3_FULL: &str = "opcodes:: queues:: memory:: srq:: xsrq:: datagrams:: cm:: rping \
    pingpong::json pingpong::ways pingpong::data pingpong::prints pingpong::peers \
    --skip=port_events --skip=overflows --skip=outlives_its_device --skip=rxe";

/// The same without the tests of what the tools themselves do, which is the same on every device.
pub(super) const CONNECTX3: &str = "opcodes:: queues:: memory:: srq:: xsrq:: datagrams:: cm:: rping::link_local \
    pingpong::ways pingpong::data --skip=port_events --skip=overflows --skip=outlives_its_device --skip=rxe";

/// What every kernel is held to.
pub(super) const BRIEF: &str = "opcodes:: queues:: memory:: srq:: datagrams:: --skip=xsrq:: --skip=port_events --skip=overflows --skip=rxe";

/// What every kernel is held to where commands are written.
pub(super) const BRIEF_BY_WRITE: &str = "opcodes:: --skip=rxe";

/// What 32-byte completions may change, on a device without memory windows.
pub(super) const CONNECTX2: &str =
    "opcodes:: queues:: --skip=memory_windows --skip=port_events --skip=overflows";

/// What creates and modifies queues, with the driver's own data in each command. Where no interface is forced, all of it but the
/// doorbells goes by the ioctl.
pub(super) const BY_WRITE: &str =
    "opcodes:: queues:: srq:: datagrams:: --skip=port_events --skip=overflows --skip=rxe";
/// What goes by the ioctl only if that is forced.
pub(super) const BY_IOCTL: &str = "opcodes::send queues::solicited queues::every_way";

/// The suite in guest 1, by one of the kernel's interfaces or by whichever it takes.
pub(super) fn suite(checks: &mut Checks<'_>, arguments: &Arguments, encoding: &str, which: &str) {
    let (kernel, place) = (checks.kernel.clone(), format!("{} {encoding}", checks.place));
    checks.part(&format!("suite, {encoding}"), |guests| {
        guest::run(guests, &kernel, &place, encoding, which, arguments)
    });
}
