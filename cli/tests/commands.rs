//! The commands do what their help says.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn data(path: &str) -> String {
    format!("{}/../tests/data/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn tiny() -> String {
    data("tiny-a/gguf/tiny-a.gguf")
}

/// A place for a file, which is gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ossicle-commands-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = fs::remove_file(&self.0);
    }
}

fn ossicle(arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ossicle"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command");
    child.stdin.take().expect("a pipe").write_all(input.as_ref()).expect("a short input");
    child.wait_with_output().expect("output")
}

fn succeeds(arguments: &[&str], input: &str) -> String {
    let output = ossicle(arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(arguments: &[&str], input: &str) -> Value {
    serde_json::from_str(&succeeds(arguments, input)).expect("JSON")
}

#[test]
fn run_gives_one_answer_and_the_same_for_the_same_seed() {
    let arguments =
        ["run", "--model", &tiny(), "--seed", "1", "--max-tokens", "30", "--reasoning-tokens", "0", "Hello"];
    let answer = succeeds(&arguments, "");
    assert!(!answer.trim().is_empty());
    assert_eq!(answer, succeeds(&[&arguments[..], &["--threads", "1", "--kernels", "portable"]].concat(), ""));
    let from_input = succeeds(&arguments[..arguments.len() - 1], "Hello");
    assert_eq!(answer, from_input, "without a prompt, standard input is the prompt");
}

#[test]
fn run_tells_all_of_it_in_json_and_reasoning_apart() {
    let arguments = ["run", "--model", &tiny(), "--seed", "4", "--max-tokens", "40", "--json", "Hello"];
    let result = json(&arguments, "");
    assert!(result["usage"]["output_tokens"].as_u64().is_some_and(|tokens| (1..=43).contains(&tokens)), "{result}");
    assert!(result["stop"].is_string() && result["reasoning"].is_string() && result["calls"].is_array(), "{result}");
}

#[test]
fn reasoning_is_shown_only_when_asked_for() {
    for seed in ["1", "2", "3", "4", "5", "6"] {
        let common = ["--model", &tiny(), "--seed", seed, "--max-tokens", "40"];
        let told = json(&[&["run", "--json"], &common[..]].concat(), "Hello");
        let reasoning = told["reasoning"].as_str().expect("text");
        if reasoning.is_empty() {
            continue;
        }
        for command in ["run", "chat"] {
            let hidden = ossicle(&[&[command], &common[..]].concat(), "Hello");
            let shown = ossicle(&[&[command, "--show-reasoning"], &common[..]].concat(), "Hello");
            assert_eq!(hidden.stdout, shown.stdout);
            assert!(!String::from_utf8_lossy(&hidden.stderr).contains(reasoning));
            assert!(String::from_utf8_lossy(&shown.stderr).contains(reasoning));
        }
        return;
    }
    panic!("one of these seeds reasons");
}

#[test]
fn chat_answers_each_line() {
    let arguments = ["chat", "--model", &tiny(), "--seed", "1", "--max-tokens", "10", "--reasoning-tokens", "0"];
    let answers = succeeds(&arguments, "Hello\n\nAnd then?\n");
    assert!(answers.lines().count() >= 2, "{answers}");
}

#[test]
fn chat_goes_on_after_a_line_that_is_refused() {
    let model = tiny();
    let arguments = ["chat", "--model", &model, "--system", "I", "--context", "400", "--max-tokens", "40"];
    let arguments = [&arguments[..], &["--reasoning-tokens", "0"]].concat();
    let long = "x ".repeat(500);
    let output = ossicle(&arguments, [long.as_bytes(), b"\n\xff\nHello\n"].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(told.matches("[error: ").count(), 2, "{told}");
    assert!(told.contains("UTF-8") && told.contains("tokens in the context"), "{told}");
    assert!(!String::from_utf8_lossy(&output.stdout).trim().is_empty());
}

#[test]
fn run_in_json_tells_that_it_failed_too() {
    let arguments = ["run", "--model", &tiny(), "--system", "I", "--context", "400", "--json"];
    let output = ossicle(&arguments, "x ".repeat(500));
    assert_eq!(output.status.code(), Some(1));
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&result["stop"], &result["answer"]), (&"error".into(), &"".into()), "{result}");
    assert!(result["error"].as_str().is_some_and(|error| error.contains("tokens in the context")), "{result}");
}

#[test]
fn an_interrupt_ends_the_turn_of_a_chat_and_not_the_program() {
    use std::io::Read;

    let mut child = Command::new(env!("CARGO_BIN_EXE_ossicle"))
        .args(["chat", "--model", &tiny(), "--system", "I", "--temperature", "0", "--reasoning-tokens", "0"])
        .args(["--max-tokens", "2000", "--draft-tokens", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command");
    child.stdin.take().expect("a pipe").write_all(b"Hello\nAnd then?\n").expect("a short input");
    // Once something is told, the first turn is under way.
    child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("an answer");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    let output = child.wait_with_output().expect("output");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(interrupted.success() && output.status.success(), "{told}");
    assert_eq!(told.lines().next(), Some("[cancelled]"), "{told}");
    let answers = String::from_utf8_lossy(&output.stdout);
    assert!(answers.trim_end().lines().count() > 1, "the second line is answered too: {answers}");
}

#[test]
fn tools_that_no_header_can_name_are_refused() {
    for name in ["", "a b", "{", &"f".repeat(247)] {
        let tools = Scratch::new("tools.json");
        fs::write(tools.path(), serde_json::json!([{ "name": name }]).to_string()).expect("a file");
        let output = ossicle(&["run", "--model", &tiny(), "--tools", tools.path(), "Hello"], "");
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("1 to 246 bytes"), "{name}");
    }
}

#[test]
fn info_says_what_a_model_is_and_what_it_takes() {
    for path in [tiny(), data("tiny-a/hf"), data("tiny-a/original"), data("tiny-b/hf-sharded")] {
        let facts = json(&["info", &path, "--json", "--tensors", "--check", "--context", "4096"], "");
        assert_eq!(facts["layers"], 4, "{path}");
        let [int8, standard, precise] =
            ["bytes_int8_cache", "bytes", "bytes_precise"].map(|name| facts["session"][name].as_u64());
        assert!(int8 < standard && standard < precise);
        assert!(facts["tensors"].as_array().is_some_and(|tensors| tensors.len() > 40));
        assert!(succeeds(&["info", &path], "").contains("bytes per decoded token"));
    }
    let parameters = |path: &str| json(&["info", &data(path), "--json"], "")["parameters"].clone();
    assert_eq!(parameters("tiny-a/hf"), parameters("tiny-a/gguf/tiny-a.gguf"));
}

#[test]
fn adapters_count_as_much_as_is_said() {
    let tokens = Scratch::new("adapted.json");
    fs::write(tokens.path(), "[1, 2, 3]").expect("a file");
    let logits = |adapters: &[&str]| {
        let (out, model) = (Scratch::new("adapted.npy"), tiny());
        let mut arguments = vec!["logits", "--model", &model, "--tokens", tokens.path(), "--out", out.path()];
        adapters.iter().for_each(|adapter| arguments.extend(["--adapter", adapter]));
        succeeds(&arguments, "");
        fs::read(out.path()).expect("logits")
    };
    let [peft, gguf] = ["adapters/attention", "adapters/everything.gguf"].map(data);
    let scaled = |scale: &str| format!("{peft}:{scale}");
    assert!(logits(&[]) == logits(&[&scaled("0")]));
    assert!(logits(&[&scaled("1")]) == logits(&[&peft]) && logits(&[&peft]) != logits(&[]));
    assert!(logits(&[&peft, &gguf]) != logits(&[&peft]));
    let wrong = ossicle(&["run", "--adapter", &data("tiny-a"), "Hello"], "");
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("adapter_config.json"));
}

#[test]
fn logits_are_a_numpy_file_with_a_row_for_each_token() {
    let (tokens, out) = (Scratch::new("tokens.json"), Scratch::new("logits.npy"));
    let manifest: Value =
        serde_json::from_slice(&fs::read(data("tiny-a/ref/manifest.json")).expect("the fixture")).expect("JSON");
    fs::write(&tokens.0, manifest["sequences"]["s64"]["tokens"].to_string()).expect("room");
    let expected = fs::read(data("tiny-a/ref/s64.logits.npy")).expect("the fixture");
    let model = tiny();
    let arguments =
        ["logits", "--model", &model, "--precision", "precise", "--tokens", tokens.path(), "--out", out.path()];
    succeeds(&arguments, "");
    let found = fs::read(&out.0).expect("the file");
    assert_eq!(found.len(), expected.len());
    assert_eq!(found[..128], expected[..128], "the header is NumPy's own");
    let numbers = |bytes: &[u8]| -> Vec<f32> {
        bytes[128..].chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four"))).collect()
    };
    for (found, expected) in numbers(&found).iter().zip(numbers(&expected)) {
        assert!((found - expected).abs() < 1e-3);
    }
}

#[test]
fn bench_measures_and_synth_writes_the_same_bytes_for_the_same_seed() {
    let files = [Scratch::new("a.gguf"), Scratch::new("b.gguf")];
    for file in &files {
        succeeds(&["synth", "--geometry", "tiny", "--seed", "3", "--out", file.path()], "");
    }
    assert!(fs::read(&files[0].0).expect("a file") == fs::read(&files[1].0).expect("a file"));
    let result = json(&["bench", "--model", files[0].path(), "--prompt", "5", "--generate", "3", "--json"], "");
    for key in ["prefill_tokens_per_second", "decode_tokens_per_second", "memory_bandwidth_bytes_per_second"] {
        assert!(result[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {result}");
    }
}

#[test]
fn a_profile_has_every_stage_and_their_bytes_are_the_matrices_and_the_cache_that_a_token_reads() {
    let arguments = ["bench", "--model", &tiny(), "--prompt", "5", "--generate", "4", "--json", "--profile"];
    let (result, facts) = (json(&arguments, ""), json(&["info", &tiny(), "--json", "--tensors"], ""));
    let stages = |part: &str| result[part].as_array().expect("stages").clone();
    let names =
        "AttentionNorm QueryKeyValue Cache Attention AttentionOutput Router GateUp Activation Down Combine Unembedding";
    for part in ["prompt_stages", "decode_stages"] {
        let found: Vec<_> =
            stages(part).iter().map(|stage| stage["stage"].as_str().expect("a name").to_owned()).collect();
        assert_eq!(found, names.split(' ').collect::<Vec<_>>(), "{part}");
    }
    let fact = |name: &str| facts[name].as_u64().expect("a number");
    let matrices = facts["tensors"].as_array().expect("tensors").iter().map(|tensor| {
        let (name, bytes) = (tensor["name"].as_str().expect("a name"), tensor["bytes"].as_u64().expect("a size"));
        match name.strip_suffix(".weight") {
            Some(name) if name.ends_with("_exps") => bytes * fact("experts_per_token") / fact("experts"),
            Some(name) if name != "token_embd" && tensor["shape"][1] != 1 => bytes,
            _ => 0,
        }
    });
    // Keys and values in f16, of five positions and half of the four that follow.
    let cache = fact("layers") * 7 * 2 * fact("key_value_heads") * fact("head_dim") * 2;
    let read: u64 = stages("decode_stages").iter().map(|stage| stage["bytes"].as_u64().expect("a size")).sum();
    assert_eq!(read, matrices.sum::<u64>() + cache);
}

#[test]
fn what_fails_is_told_on_standard_error_with_exit_code_1_and_wrong_usage_with_2() {
    let bad = Scratch::new("bad.gguf");
    fs::write(&bad.0, b"GGUF\x03\0\0\0").expect("room");
    for (arguments, code, text) in [
        (vec!["info", "/no/such/file.gguf"], 1, "/no/such/file.gguf"),
        (vec!["info", bad.path()], 1, "byte 8"),
        (vec!["run", "--model", bad.path(), "x"], 1, "bad.gguf"),
        (vec!["run", "--model", &tiny(), "--top-p", "2", "x"], 1, "top_p"),
        (vec!["bench", "--model", &tiny(), "--kernels", "abacus"], 1, "portable"),
        (vec!["bench", "--no-such-option"], 2, "--no-such-option"),
        (vec!["frobnicate"], 2, "frobnicate"),
    ] {
        let output = ossicle(&arguments, "");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(text) && !error.contains("panicked"), "{arguments:?}: {error}");
    }
    for command in ["run", "chat", "info", "logits", "bench", "synth", "harmony", "tokenize"] {
        assert!(succeeds(&[command, "--help"], "").contains("Usage"), "{command}");
    }
}

#[test]
fn serve_answers_over_http_until_it_is_interrupted() {
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpStream;

    let script = Scratch::new("script");
    fs::write(script.path(), r#"["<|channel|>final<|message|>Hello.<|return|>"]"#).expect("a file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ossicle"))
        .args(["serve", "--model", &tiny(), "--port", "0", "--threads", "1", "--context", "2000"])
        .args(["--script", script.path()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command");
    let mut line = String::new();
    BufReader::new(child.stderr.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    let body = r#"{"input":"Hi"}"#;
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head =
        "POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Hello."), "{answer}");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(interrupted.success() && child.wait().expect("an end").success());
    assert_eq!(ossicle(&["serve", "--model", &tiny(), "--script", &tiny()], "").status.code(), Some(1));
}
