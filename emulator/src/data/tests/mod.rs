//! The data path as a driver sees it: requests posted, completions and bytes compared.

mod cq;
mod errors;
mod faults;
mod guest;
mod nonsense;
mod other;
mod rc;
mod strict;
mod unsupported;
