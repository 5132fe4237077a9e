//! `cargo xtask`: build, boot, test and measure bareverbs.

fn main() {}
