//! The `bareverbs` command line.

fn main() {}
