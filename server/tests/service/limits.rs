//! Whom the server does not wait for, and whom it does not let in.

use std::io::BufReader;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ossicle_server::{Script, Settings};
use serde_json::json;

use crate::client::{HELLO, Options, endless, last_text, read, read_until, saying, serve};

#[test]
fn a_client_that_leaves_frees_the_model() {
    let client = serve(Options { sessions: 1, is_slow: true, script: saying(endless()), ..Options::default() });
    let reader = client.begin("Hi");
    client.wait_for("requests_running", 1);
    drop(reader);
    client.wait_for("requests_running", 0);
    // Without a stream just the same.
    let connection = client.write("/v1/responses", &json!({ "input": "Hi" }));
    client.wait_for("requests_running", 1);
    drop(connection);
    client.wait_for("requests_running", 0);
}

#[test]
fn a_client_that_does_not_read_does_not_hold_the_model() {
    let script: Script = Box::new(|task| Some(if last_text(task) == "Hi" { HELLO.to_owned() } else { endless() }));
    let client = serve(Options { sessions: 1, script: Some(script), ..Options::default() });
    let lazy = client.begin("On and on");
    assert_eq!(client.respond(json!({ "input": "Hi" }))["status"], "completed");
    drop(lazy);
}

#[test]
fn whoever_comes_when_the_queue_is_full_is_told_to_come_back() {
    let client =
        serve(Options { sessions: 1, queue: 1, is_slow: true, script: saying(endless()), ..Options::default() });
    let running = client.begin("First");
    let waiting = client.send("/v1/responses", &json!({ "input": "Second", "stream": true }));
    assert_eq!(waiting.status(), 200);
    let refused = client.send("/v1/responses", &json!({ "input": "Third" }));
    assert_eq!(refused.status(), 429);
    assert!(refused.headers()["retry-after"].to_str().expect("text").parse::<u64>().expect("seconds") >= 1);
    assert_eq!(read(refused).1["error"]["code"], "rate_limit_exceeded");
    assert_eq!(client.metric("requests_refused_total"), 1);
    // When the first leaves, the second is answered.
    drop(running);
    assert!(read_until(&mut BufReader::new(waiting.into_body().into_reader()), ".delta"));
}

#[test]
fn a_short_answer_does_not_wait_for_a_long_one() {
    let script: Script = Box::new(|task| Some(if last_text(task) == "Hi" { HELLO.to_owned() } else { endless() }));
    let client = serve(Options { is_slow: true, script: Some(script), ..Options::default() });
    let mut long = client.begin("On and on");
    assert_eq!(client.respond(json!({ "input": "Hi" }))["status"], "completed");
    client.wait_for("requests_running", 1);
    assert!(read_until(&mut long, ".delta"));
}

#[test]
fn keys_keep_strangers_out_and_clients_apart() {
    let settings = Settings { api_keys: vec!["one".into(), "two".into()], ..Options::default().settings };
    let client = serve(Options { settings, script: saying(HELLO), ..Options::default() });
    let (status, error) = client.post("/v1/responses", json!({ "input": "Hi" }));
    assert_eq!((status, &error["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(client.with_key("three").get("/v1/models").0, 401);
    assert_eq!(client.get("/health"), (200, json!({ "status": "ok" })));
    let (one, two) = (client.with_key("one"), client.with_key("two"));
    let response = one.respond(json!({ "input": "Hi", "include": ["reasoning.encrypted_content"] }));
    let path = format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    assert_eq!((one.get(&path).0, two.get(&path).0), (200, 404));
    assert_eq!(two.post(&format!("{path}/cancel"), json!({})).0, 404);
    let goes_on = json!({ "input": "Hi", "previous_response_id": response["id"] });
    assert_eq!((one.post("/v1/responses", goes_on.clone()).0, two.post("/v1/responses", goes_on).0), (200, 400));
    let encrypted = &response["output"][0]["encrypted_content"];
    let sealed = json!({ "input": [{ "type": "reasoning", "summary": [], "encrypted_content": encrypted }] });
    assert_eq!((one.post("/v1/responses", sealed.clone()).0, two.post("/v1/responses", sealed).0), (200, 400));
}

#[test]
fn pages_of_other_sites_do_not_get_through() {
    let settings = Settings { origins: vec!["https://good.example".into()], ..Options::default().settings };
    let client = serve(Options { settings, ..Options::default() });
    let ask = |name: &str, value: &str| {
        client.agent.get(client.url("/v1/models")).header(name, value).call().expect("an answer")
    };
    assert_eq!(ask("host", "evil.example").status(), 403);
    assert_eq!(ask("host", "localhost:1").status(), 200);
    assert_eq!(ask("origin", "https://evil.example").status(), 403);
    let good = ask("origin", "https://good.example");
    assert_eq!(good.headers()["access-control-allow-origin"], "https://good.example");
    assert!(ask("accept", "*/*").headers().get("access-control-allow-origin").is_none());
    let own = format!("http://{}", client.address);
    assert_eq!(ask("origin", &own).status(), 200);
    let plain = client.agent.post(client.url("/v1/responses")).header("content-type", "text/plain");
    assert_eq!(plain.send("{\"input\":\"Hi\"}").expect("an answer").status(), 415);
}

#[test]
fn requests_beyond_the_limits_are_refused_in_the_form_of_the_api() {
    let settings = Settings { body_size: 10_000, ..Options::default().settings };
    let client = serve(Options { settings, ..Options::default() });
    let (status, error) = client.post("/v1/responses", json!({ "input": "x".repeat(20_000) }));
    assert_eq!((status, &error["error"]["type"]), (413, &json!("invalid_request_error")));
    let send = |text: &str| {
        let request = client.agent.post(client.url("/v1/responses")).header("content-type", "application/json");
        read(request.send(text).expect("an answer"))
    };
    assert_eq!(send("{").0, 400);
    assert_eq!(send(&format!("{{\"input\":{}{}}}", "[".repeat(1000), "]".repeat(1000))).0, 400);
    assert_eq!(client.post("/v1/responses", json!({ "input": 1 })).1["error"]["param"], "input");
    assert_eq!(client.get("/v1/nothing").0, 404);
    assert_eq!(client.get("/v1/responses").0, 405);
    assert_eq!(client.get("/v1/responses/resp_0").0, 404);
    assert_eq!(client.get("/v1/responses/%ff").1["error"]["type"], "invalid_request_error");
    assert_eq!(client.get("/v1/responses/x/input_items?limit=%ff").1["error"]["type"], "invalid_request_error");
}

#[test]
fn a_server_stops_when_told() {
    let settings = Settings { grace: Duration::from_millis(50), ..Options::default().settings };
    let client = serve(Options { settings, is_slow: true, script: saying(endless()), ..Options::default() });
    let mut reader = client.begin("On and on");
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(read_until(&mut reader, "response.failed")));
    let whole = client.with_key("");
    let whole = thread::spawn(move || whole.post("/v1/responses", json!({ "input": "On and on" })).0);
    client.wait_for("requests_running", 2);
    drop(client);
    // The answer under way ends with a word, not in the middle.
    assert!(ended.recv().expect("the stream ended"));
    assert_eq!(whole.join().expect("an answer"), 503);
}
