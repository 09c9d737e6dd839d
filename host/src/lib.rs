//! What Ossicle asks of an operating system.
