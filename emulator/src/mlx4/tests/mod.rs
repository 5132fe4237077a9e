//! The data path as a driver sees it: requests posted, completions and bytes compared.
//!
//! | file | what is tested |
//! |---|---|
//! | `rc` | send, write, read, atomics, immediate and inline data, solicited events, fences, MTU and PSNs, BlueFlame |
//! | `other` | UD and its groups, shared receive queues with their limit, XRC, windows, invalidation, registration |
//! | `cq` | arming, moderation, resizing, overruns, both sizes of entries |
//! | `errors` | protection, access, lengths, RNR and other retries, flushes, draining, transitions |
//! | `faults` | packets lost, duplicated, delayed, damaged; gaps in UC |
//! | `strict`, `segments`, `doorbells` | what is a violation |
//! | `trace` | the trace |
//! | `unsupported` | features that the card does not have |
//! | `nonsense` | random requests |

mod cq;
mod doorbells;
mod errors;
mod faults;
mod guest;
mod nonsense;
mod other;
mod rc;
mod segments;
mod strict;
mod trace;
mod unsupported;
