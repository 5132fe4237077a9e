//! Our suite (`tests/vm`) on the card.

use super::{Checks, words};
use crate::commands::test::libtest;
use crate::process;

/// Tests of `tests/vm` that say nothing of rxe or of Ethernet. Of a queue that overflows the kernel complains, as it should:
/// that is among the faults.
pub(super) const CONNECTX3: &str = "opcodes:: queues:: srq:: xsrq:: datagrams:: cm:: rping \
    pingpong::json pingpong::ways pingpong::data pingpong::prints pingpong::peers \
    --skip=port_events --skip=overflows --skip=outlives_its_device --skip=rxe";

/// What 32-byte completions may change, on a device without memory windows.
pub(super) const CONNECTX2: &str =
    "opcodes:: queues:: --skip=memory_windows --skip=port_events --skip=overflows";

/// What makes and changes queues, with the driver's own data in each command; where no interface is named, all of it but the
/// doorbells goes by the ioctl.
pub(super) const BY_WRITE: &str =
    "opcodes:: queues:: srq:: datagrams:: --skip=port_events --skip=overflows --skip=rxe";
/// What goes by the ioctl then alone.
pub(super) const BY_IOCTL: &str = "opcodes::send queues::solicited queues::every_way";

/// The suite, on one guest, by one of the kernel's interfaces or by whichever it takes.
pub(super) fn suite(checks: &mut Checks<'_>, encoding: &str, which: &str) {
    let (kernel, place) = (checks.kernel.to_string(), checks.place.to_owned());
    checks.part(&format!("suite, {encoding}"), |guests| {
        let run = words(&format!("/bin/vm --ignored --test-threads=1 {which}"))
            .env("BAREVERBS_ABI", encoding)
            .env("BAREVERBS_BIN", "/bin/bareverbs")
            .env("BAREVERBS_KERNEL", &kernel);
        let job = guests.node(1).spawn(run)?;
        let output = job.wait().inspect_err(|_| {
            // The last line names the test that the guest did not survive.
            println!("{}", process::last_lines(&job.stdout_so_far(), 20));
        })?;
        let tally = libtest::count(&place, &output.text(), output.success(), true);
        if !tally.good() {
            println!("{}", process::last_lines(&output.stdout, 200));
            println!("{}", process::last_lines(&output.stderr, 60));
        }
        Ok(tally)
    });
}
