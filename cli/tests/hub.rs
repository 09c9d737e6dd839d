//! Models come from a hub whole and verified, go on where they were interrupted, and are found by their names. The hub is a mirror on this
//! machine that serves the fixtures.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Default)]
struct Mirror {
    files: BTreeMap<String, Vec<u8>>,
    /// Breaks off after so many bytes, once.
    breaks_at: Option<usize>,
    /// Says of each file the checksum of nothing.
    lies: bool,
    /// "METHOD PATH RANGE TOKEN" of each request.
    seen: Vec<String>,
}

type Shared = Arc<Mutex<Mirror>>;

/// Serves a mirror, and returns its address.
fn serve(mirror: &Shared) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mirror = mirror.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = answer(&stream.expect("a connection"), &mirror);
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: &TcpStream, mirror: &Shared) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().expect("a request")?;
    let (mut range, mut token) = (None, String::new());
    for line in lines {
        let line = line?;
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "" => break,
            "range" => range = Some(value.to_owned()),
            "authorization" => token = value.to_owned(),
            _ => {}
        }
    }
    let mut mirror = mirror.lock().expect("a mirror");
    let path = request.split(' ').nth(1).expect("a path").to_owned();
    mirror.seen.push(format!("{path} {} {token}", range.as_deref().unwrap_or("-")));
    if path.starts_with("/api/models/owner/model/revision/main") {
        let names: Vec<_> = mirror.files.keys().map(|name| format!("{{\"rfilename\":\"{name}\"}}")).collect();
        let text = format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{}]}}", names.join(","));
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n";
        return write!(stream, "{head}Content-Length: {}\r\n\r\n{text}", text.len());
    }
    let name = path.strip_prefix("/owner/model/resolve/main/").unwrap_or("");
    let Some(bytes) = mirror.files.get(name).cloned() else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    };
    let (first, last) =
        range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-')).unwrap_or(("0", ""));
    let (first, last) = (first.parse::<usize>().unwrap_or(0), last.parse().unwrap_or(bytes.len() - 1));
    let sum = if mirror.lies { Sha256::digest(b"") } else { Sha256::digest(&bytes) };
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nETag: \"{sum}\"\r\nX-Repo-Commit: {COMMIT}\r\n\
         Content-Range: bytes {first}-{last}/{}\r\nContent-Length: {}\r\n\r\n",
        bytes.len(),
        last + 1 - first
    )?;
    let end = match mirror.breaks_at {
        Some(size) if last > size => {
            mirror.breaks_at = None;
            size
        }
        _ => last + 1,
    };
    stream.write_all(&bytes[first..end])
}

/// A cache of its own, gone at the end.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ossicle-hub-{}-{name}", std::process::id())))
    }

    fn run(&self, endpoint: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ossicle"));
        for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        {
            command.env_remove(name);
        }
        command.env("HF_HOME", &self.0).env("HF_TOKEN", "secret").env("HF_ENDPOINT", endpoint);
        if endpoint.is_empty() {
            command.env("HF_HUB_OFFLINE", "1");
        }
        command.args(arguments).output().expect("the command")
    }

    fn succeeds(&self, endpoint: &str, arguments: &[&str]) -> String {
        let output = self.run(endpoint, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn fails(&self, endpoint: &str, arguments: &[&str]) -> String {
        let output = self.run(endpoint, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(path)
}

fn mirror(folder: &str, others: &[&str]) -> Shared {
    let mut mirror = Mirror::default();
    for entry in fs::read_dir(data(folder)).expect("the fixture").flatten() {
        let name = entry.file_name().into_string().expect("UTF-8");
        mirror.files.insert(name, fs::read(entry.path()).expect("a file"));
    }
    for name in others {
        mirror.files.insert((*name).to_owned(), b"not wanted".to_vec());
    }
    Arc::new(Mutex::new(mirror))
}

#[test]
fn a_checkpoint_is_fetched_once_and_then_known_by_its_name() {
    let shared =
        mirror("tiny-a/hf", &["README.md", "original/model.safetensors", "metal/model.bin", "chat_template.jinja"]);
    let (endpoint, home) = (serve(&shared), Home::new("checkpoint"));
    let missing = home.fails(&endpoint, &["info", "owner/model"]);
    assert!(missing.contains("ossicle pull owner/model"), "{missing}");

    let folder = home.succeeds(&endpoint, &["pull", "owner/model"]);
    let mut names: Vec<_> =
        fs::read_dir(folder.trim()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert!(shared.lock().expect("a mirror").seen.iter().all(|request| request.ends_with("Bearer secret")));
    assert!(home.succeeds("", &["info", "owner/model"]).contains("layers"));

    let before = shared.lock().expect("a mirror").seen.len();
    assert_eq!(home.succeeds(&endpoint, &["pull", "owner/model"]), folder);
    assert_eq!(shared.lock().expect("a mirror").seen.len(), before + 1, "only what there is was asked");
    assert_eq!(home.succeeds("", &["pull", "owner/model"]), folder, "without a network, too");
    assert!(home.succeeds("", &["list"]).contains("owner/model"));
    home.succeeds("", &["rm", "owner/model"]);
    assert_eq!(home.succeeds("", &["list"]), "");
    assert!(home.fails("", &["pull", "owner/model"]).contains("HF_HUB_OFFLINE"));
    assert!(home.fails("", &["rm", "owner/model"]).contains("not in the cache"));
}

#[test]
fn what_breaks_off_is_gone_on_with() {
    let shared = mirror("tiny-a/gguf", &[]);
    shared.lock().expect("a mirror").breaks_at = Some(100_000);
    let (endpoint, home) = (serve(&shared), Home::new("broken"));
    let choice = home.fails(&endpoint, &["pull", "owner/model"]);
    assert!(choice.contains("tiny-a.gguf") && choice.contains("tiny-a-q8_0.gguf"), "{choice}");

    let path = home.succeeds(&endpoint, &["pull", "owner/model", "--file", "tiny-a.gguf"]);
    assert_eq!(fs::read(path.trim()).expect("a file"), fs::read(data("tiny-a/gguf/tiny-a.gguf")).expect("the fixture"));
    let seen = shared.lock().expect("a mirror").seen.clone();
    assert!(seen.iter().any(|request| request.contains("bytes=100000-")), "{seen:?}");
    home.succeeds("", &["run", "--model", "owner/model", "--max-tokens", "3", "--reasoning-tokens", "0", "Hello"]);
}

#[test]
fn what_has_another_checksum_is_removed() {
    let shared = mirror("tiny-a/gguf", &[]);
    shared.lock().expect("a mirror").lies = true;
    let (endpoint, home) = (serve(&shared), Home::new("lies"));
    let refused = home.fails(&endpoint, &["pull", "owner/model", "--file", "tiny-a.gguf"]);
    assert!(refused.contains("SHA-256"), "{refused}");
    shared.lock().expect("a mirror").lies = false;
    home.succeeds(&endpoint, &["pull", "owner/model", "--file", "tiny-a.gguf"]);
}

#[test]
fn a_server_calls_a_model_by_the_name_of_its_repository() {
    let home = Home::new("safeguard");
    let place = home.0.join("hub/models--openai--gpt-oss-safeguard-20b");
    fs::create_dir_all(place.join("snapshots").join(COMMIT)).expect("a folder");
    fs::create_dir_all(place.join("refs")).expect("a folder");
    fs::write(place.join("refs/main"), COMMIT).expect("a file");
    let file = place.join("snapshots").join(COMMIT).join("model.gguf");
    fs::copy(data("tiny-a/gguf/tiny-a.gguf"), file).expect("the fixture");
    let mut server = Command::new(env!("CARGO_BIN_EXE_ossicle"))
        .env("HF_HOME", &home.0)
        .args(["serve", "--port", "0", "--model", "openai/gpt-oss-safeguard-20b"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command");
    let mut line = String::new();
    BufReader::new(server.stderr.take().expect("a pipe")).read_line(&mut line).expect("a line");
    server.kill().expect("a process");
    server.wait().expect("its end");
    assert!(line.starts_with("gpt-oss-safeguard-20b answers at"), "{line}");
}

#[test]
fn names_lead_nowhere_else() {
    let home = Home::new("names");
    for name in
        ["model", "../model", "owner/..", "owner/model/more", "owner/.model", "owner/model@../main", "owner/mo del"]
    {
        assert!(home.fails("", &["pull", name]).contains("expected OWNER/NAME"), "{name}");
        assert!(!home.run("", &["rm", name]).status.success(), "{name}");
    }
}
