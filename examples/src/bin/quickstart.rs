//! Placeholder of the walking skeleton.
fn main() {}
