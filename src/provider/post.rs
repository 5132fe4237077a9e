//! Posting, as every queue does it: requests until one is refused, then one announcement for all of them.

use nix::errno::Errno;

use crate::types::{PostError, PostErrorKind};

/// Puts requests into a queue with `push`, and has the device look at those before the first refused one with `announce`, which is
/// told how many there are.
#[inline(always)] // `push` is known where it is called from
pub(super) fn post_all<Q, W>(
    queue: &mut Q,
    wrs: &[W],
    push: impl Fn(&mut Q, &W) -> Result<(), PostErrorKind>,
    announce: impl FnOnce(&mut Q, usize) -> Result<(), Errno>,
) -> Result<(), PostError> {
    let mut refused = None;
    let mut posted = 0;
    for wr in wrs {
        if let Err(refusal) = push(queue, wr) {
            refused = Some(refusal);
            break;
        }
        posted += 1;
    }
    if posted > 0
        && let Err(errno) = announce(queue, posted)
    {
        return Err(PostError { posted, kind: PostErrorKind::Doorbell(errno as i32) });
    }
    refused.map_or(Ok(()), |kind| Err(PostError { posted, kind }))
}
