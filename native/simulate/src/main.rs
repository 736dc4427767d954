//! Prints how batching policies compare, and draws it.

fn main() {}
