//! The command line of `serf-haproxy`.
fn main() {}
