//! The header is the library's.

use std::path::Path;

use cbindgen::{Builder, Config};

/// With OSSICLE_WRITE_HEADER set, writes it instead.
#[test]
fn the_committed_header_is_what_the_sources_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let config = Config::from_file(root.join("ffi/cbindgen.toml")).expect("a configuration");
    let bindings = Builder::new().with_crate(root.join("ffi")).with_config(config).generate().expect("a header");
    let mut header = Vec::new();
    bindings.write(&mut header);
    let header = String::from_utf8(header).expect("text");
    let path = root.join("include/ossicle.h");
    if std::env::var_os("OSSICLE_WRITE_HEADER").is_some() {
        std::fs::write(&path, header).expect("a writable header");
    } else {
        assert!(
            std::fs::read_to_string(&path).expect("the header") == header,
            "include/ossicle.h is out of date: OSSICLE_WRITE_HEADER=1 cargo test -p ossicle-ffi --test header"
        );
    }
}
