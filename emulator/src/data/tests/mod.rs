//! The data path as a driver sees it: requests posted, completions and bytes compared.

mod guest;
mod rc;
