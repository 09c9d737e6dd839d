//! What `ffi/install.sh` lays down is enough for a program that knows nothing of this repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::programs::*;

/// An installation that was moved after it was made.
fn installed(name: &str, options: &[&str]) -> PathBuf {
    let (made, moved) = (folder("package").join("made").join(name), folder("package").join(name));
    for old in [&made, &moved] {
        let _ = std::fs::remove_dir_all(old);
    }
    let mut command = Command::new(root().join("ffi/install.sh"));
    run(command.env("CARGO_TARGET_DIR", target()).args(options).arg(&made));
    std::fs::rename(&made, &moved).expect("a folder that can be moved");
    moved
}

/// Builds a program with what pkg-config says.
fn build_by_pkg_config(prefix: &Path, package: &str, source: &str) -> PathBuf {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(["--cflags", "--libs", package]);
    let flags = String::from_utf8(run(&mut command).stdout).expect("text");
    let program = folder("package").join(prefix.file_name().expect("a name")).join(package);
    let mut command = Command::new("gcc");
    command.arg(root().join(source)).args(flags.split_whitespace()).arg("-o").arg(&program);
    run(&mut command);
    program
}

#[test]
fn an_installed_library_is_found_by_pkg_config_and_cmake_wherever_it_was_moved() {
    // Built already: the profile is that of the tests themselves.
    library();
    let prefix = installed("host", &["--profile", "dev"]);
    let shared = prefix.join("lib/libossicle.so.0.1");
    let exported = symbols(&["-D", "--defined-only", "--without-symbol-versions"], &shared);
    assert_eq!(
        exported.iter().filter(|name| *name != "OSSICLE_0.1").cloned().collect::<Vec<_>>(),
        Vec::from_iter(declared())
    );
    let names = String::from_utf8(run(Command::new("readelf").arg("-d").arg(&shared)).stdout).expect("text");
    assert!(names.contains("Library soname: [libossicle.so.0.1]"), "{names}");
    let globals = symbols(&["-g", "--defined-only"], &prefix.join("lib/libossicle.a"));
    assert!(globals.iter().all(|name| name.starts_with("ossicle")), "{globals:?}");
    let licences = std::fs::read_to_string(prefix.join("share/doc/ossicle/DEPENDENCIES")).expect("the licences");
    let texts = licences.split("\n---- ").skip(1);
    assert!(texts.clone().count() > 10 && texts.into_iter().all(|text| text.len() > 500), "a licence lacks its text");

    if has("pkg-config") {
        for package in ["ossicle", "ossicle-static"] {
            let program = build_by_pkg_config(&prefix, package, "examples/c/hello.c");
            let output = run(Command::new(program).env("LD_LIBRARY_PATH", prefix.join("lib")).arg(short_model()));
            assert!(output.stderr.is_empty());
        }
    }
    if has("cmake") {
        let build = folder("package").join("cmake");
        let _ = std::fs::remove_dir_all(&build);
        let mut command = Command::new("cmake");
        command.arg("-S").arg(root().join("tests/package")).arg("-B").arg(&build);
        command.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())).arg(format!("-DMODEL={}", short_model()));
        run(&mut command);
        run(Command::new("cmake").arg("--build").arg(&build));
        run(Command::new("ctest").current_dir(&build).arg("--output-on-failure"));
    }
}

#[test]
fn an_installed_freestanding_library_needs_nothing_of_the_system() {
    freestanding_library();
    let prefix = installed("freestanding", &["--freestanding"]);
    let wanted = symbols(&["-u"], &prefix.join("lib/libossicle.a"));
    let wanted: Vec<_> = wanted.iter().filter(|name| !name.ends_with(':')).collect();
    assert_eq!(wanted, ["bcmp", "memcmp", "memcpy", "memmove", "memset", "ossicle_panic"]);
    if has("pkg-config") {
        let program = build_by_pkg_config(&prefix, "ossicle-static", "examples/c/static_arena.c");
        run(Command::new(program).arg(short_model()));
    }
}
