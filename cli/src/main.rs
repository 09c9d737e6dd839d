//! The `ossicle` command.
fn main() {}
