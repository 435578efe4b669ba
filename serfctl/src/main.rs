//! Command line for looking into a Serf cluster.
fn main() {}
