//! `ossicle convert`: the same numbers in another layout.

mod files;
mod layouts;
mod merge;
#[cfg(unix)]
mod resume;
