//! The fastnode binary.
fn main() {}
