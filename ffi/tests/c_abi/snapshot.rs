//! The binary interface is the committed one: `ffi/abi.txt` has every constant, every struct to the byte, every function.
//!
//! Programs that were compiled with an earlier 0.1 go on working while lines are only added. A line that changes or goes needs
//! another minor version, and with it another SONAME.

use std::fmt::Write;
use std::process::Command;

use crate::programs::*;

/// With OSSICLE_WRITE_ABI set, writes it instead.
#[test]
fn the_binary_interface_is_the_committed_one() {
    let found = snapshot(&text_of("include/ossicle.h"));
    if std::env::var_os("OSSICLE_WRITE_ABI").is_some() {
        std::fs::write(root().join("ffi/abi.txt"), found).expect("a writable file");
        return;
    }
    let committed = text_of("ffi/abi.txt");
    let gone: Vec<_> = committed.lines().filter(|line| !found.lines().any(|other| other == *line)).collect();
    assert!(gone.is_empty(), "not compatible with what was: {gone:#?}");
    assert!(
        found == committed,
        "ffi/abi.txt lacks what is new: OSSICLE_WRITE_ABI=1 cargo test -p ossicle-ffi snapshot"
    );
}

/// What a program is compiled with: asked of the C compiler, which alone knows sizes and offsets.
fn snapshot(header: &str) -> String {
    let lines: Vec<_> = header.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut text = String::from("# Made from include/ossicle.h on a machine with 64-bit pointers: see snapshot.rs.\n");
    let mut program = String::from("#include <ossicle.h>\n#include <stdio.h>\nint main(void) {\n");
    for line in &lines {
        match line.strip_prefix("#define ").and_then(|definition| definition.split_once(' ')) {
            Some((name, value)) if !name.starts_with("OSSICLE_VERSION") => {
                writeln!(text, "{name} = {value}").expect("room")
            }
            _ => {}
        }
    }
    let mut fields = Vec::new();
    for line in &lines {
        if let Some(name) = line.strip_prefix("} ").and_then(|line| line.strip_suffix(';')) {
            writeln!(program, r#"printf("{name}: %zu bytes\n", sizeof({name}));"#).expect("room");
            for field in fields.drain(..) {
                let (kind, name_of_field) = split_declaration(field);
                let size = format!("sizeof((({name} *)0)->{name_of_field})");
                let offset = format!("offsetof({name}, {name_of_field})");
                writeln!(
                    program,
                    r#"printf("{name}.{name_of_field}: at %zu, %zu bytes, {kind}\n", {offset}, {size});"#
                )
                .expect("room");
            }
        } else if let Some(field) = line.strip_prefix("    ").and_then(|line| line.strip_suffix(';')) {
            fields.push(field);
        } else {
            fields.clear();
        }
    }
    program += "return 0;\n}\n";
    let source = folder("snapshot").join("snapshot.c");
    std::fs::write(&source, program).expect("a file");
    let binary = source.with_extension("");
    run(Command::new("gcc").arg("-I").arg(root().join("include")).arg(&source).arg("-o").arg(&binary));
    text += &String::from_utf8(run(&mut Command::new(binary)).stdout).expect("text");
    text += &prototypes(&lines);
    text
}

/// The type and the name of a field such as `const char *text[3]`.
fn split_declaration(field: &str) -> (&str, &str) {
    let field = field.split('[').next().unwrap_or(field);
    let name = field.rfind([' ', '*']).map_or(0, |place| place + 1);
    (field[..name].trim_end(), &field[name..])
}

/// The functions and the types of callbacks, each on a line.
fn prototypes(lines: &[&str]) -> String {
    let mut text = String::new();
    let mut parts: Vec<&str> = Vec::new();
    for line in lines {
        let begins = line.contains('(') && line.starts_with(|first: char| first.is_ascii_lowercase());
        if begins || !parts.is_empty() {
            parts.push(line.trim());
        }
        if line.ends_with(';') && !parts.is_empty() {
            writeln!(text, "{}", parts.join(" ")).expect("room");
            parts.clear();
        }
    }
    text
}
