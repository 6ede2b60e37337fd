//! The `liveperson-bridge` command.

fn main() {}
