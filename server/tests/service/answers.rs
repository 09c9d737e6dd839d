//! What clients are answered, whole, in events and later.

use std::thread;
use std::time::Duration;

use ossicle_server::{Script, Settings};
use serde_json::{Value, json};

use crate::client::{CALL, HELLO, Options, endless, last_text, look, saying, serve};
use crate::stream_rules::check;

#[test]
fn a_stream_a_whole_response_and_the_stored_one_say_the_same() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    let whole = client.respond(json!({ "model": "any", "input": "Hi" }));
    assert_eq!(whole["output"][0]["content"][0]["text"], "Think.");
    assert_eq!(whole["output"][1]["content"][0]["text"], "Hello.");
    assert_eq!((&whole["status"], &whole["model"]), (&json!("completed"), &json!("openai/gpt-oss-20b")));
    let usage = &whole["usage"];
    assert!(usage["output_tokens_details"]["reasoning_tokens"].as_u64() > Some(0), "{usage}");
    assert!(
        usage["input_tokens"].as_u64() > Some(100) && usage["total_tokens"].as_u64() > usage["input_tokens"].as_u64()
    );

    let events = client.events(json!({ "input": "Hi" }));
    check(&events);
    let streamed = &events.last().expect("events")["response"];
    assert_eq!(streamed["output"][1]["content"], whole["output"][1]["content"]);
    let id = streamed["id"].as_str().expect("an id");
    assert_eq!(client.get(&format!("/v1/responses/{id}")), (200, streamed.clone()));
    let (_, items) = client.get(&format!("/v1/responses/{id}/input_items"));
    assert_eq!(items["data"][0]["content"][0]["text"], "Hi");
    assert_eq!((&items["object"], &items["has_more"]), (&json!("list"), &json!(false)));
}

#[test]
fn a_tool_is_called_answered_and_the_conversation_goes_on_from_what_was_computed() {
    let script: Script = Box::new(|task| Some(if last_text(task) == "Rain." { HELLO } else { CALL }.to_owned()));
    let client = serve(Options { script: Some(script), ..Options::default() });
    let events = client.events(json!({ "input": "Weather?", "tools": [look()] }));
    check(&events);
    assert!(events.iter().any(|event| event["type"] == "response.function_call_arguments.delta"));
    let first = &events.last().expect("events")["response"];
    let kinds: Vec<_> = first["output"].as_array().expect("output").iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    let call = &first["output"][2];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("look"), &json!("{\"place\":\"here\"}")));

    let output = json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "Rain." });
    let stored = json!({ "previous_response_id": first["id"], "input": [output], "tools": [look()] });
    let second = client.respond(stored);
    assert_eq!(second["output"][1]["content"][0]["text"], "Hello.");
    // The same, with the conversation sent back whole.
    let mut input = vec![json!({ "role": "user", "content": "Weather?" })];
    input.extend(first["output"].as_array().expect("output").iter().cloned());
    input.push(output);
    let third = client.respond(json!({ "input": input, "tools": [look()], "store": false }));
    for response in [&second, &third] {
        let usage = &response["usage"];
        let cached = usage["input_tokens_details"]["cached_tokens"].as_u64().expect("a number");
        let before = first["usage"]["total_tokens"].as_u64().expect("a number");
        // All but the token that ended the call, and that after which the next is drawn.
        assert!(cached + 3 >= before, "{cached} of {before}: {usage}");
    }
    assert_eq!(second["usage"]["input_tokens"], third["usage"]["input_tokens"]);
    let count = json!({ "input": input, "tools": [look()] });
    let (_, count) = client.post("/v1/responses/input_tokens", count);
    assert_eq!(count["input_tokens"], second["usage"]["input_tokens"]);
}

#[test]
fn items_can_be_referred_to_and_reasoning_can_travel_encrypted() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    let first = client.respond(json!({ "input": "Hi", "include": ["reasoning.encrypted_content"] }));
    let reasoning = &first["output"][0];
    let encrypted = reasoning["encrypted_content"].as_str().expect("encrypted");
    assert!(!encrypted.contains("Think"));
    let count = |input: Value| {
        let (status, count) = client.post("/v1/responses/input_tokens", json!({ "input": input }));
        assert_eq!(status, 200, "{count}");
        count["input_tokens"].clone()
    };
    let plain = count(json!([{ "role": "user", "content": "Hi" }, reasoning, { "role": "user", "content": "?" }]));
    let sealed = json!({ "type": "reasoning", "summary": [], "encrypted_content": encrypted });
    assert_eq!(count(json!([{ "role": "user", "content": "Hi" }, sealed, { "role": "user", "content": "?" }])), plain);
    let reference = json!({ "type": "item_reference", "id": reasoning["id"] });
    assert_eq!(
        count(json!([{ "role": "user", "content": "Hi" }, reference, { "role": "user", "content": "?" }])),
        plain
    );
}

#[test]
fn withheld_reasoning_reaches_nobody() {
    let settings = Settings { withhold_reasoning: true, ..Options::default().settings };
    let client = serve(Options { settings, script: saying(HELLO), ..Options::default() });
    let events = client.events(json!({ "input": "Hi" }));
    check(&events);
    let (_, chat) = client.post("/v1/chat/completions", json!({ "messages": [{ "role": "user", "content": "Hi" }] }));
    assert!(!format!("{events:?}{chat}").contains("Think."));
    assert_eq!(chat["choices"][0]["message"]["content"], "Hello.");
    let previous = &events.last().expect("events")["response"]["id"];
    client.respond(json!({ "input": "And?", "previous_response_id": previous }));
}

#[test]
fn chat_completions_answer_whole_and_in_chunks() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    let (status, whole) = client.post("/v1/chat/completions", body.clone());
    let message = &whole["choices"][0]["message"];
    assert_eq!((status, &message["content"], &message["reasoning"]), (200, &json!("Hello."), &json!("Think.")));
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let mut body = body;
    body["stream"] = true.into();
    let mut response = client.send("/v1/chat/completions", &body);
    let text = response.body_mut().read_to_string().expect("text");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let chunks = text.split("\n\n").filter_map(|frame| serde_json::from_str(frame.strip_prefix("data: ")?).ok());
    let content: String =
        chunks.filter_map(|chunk: Value| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect();
    assert_eq!(content, "Hello.");
}

#[test]
fn an_answer_that_is_cut_off_is_incomplete() {
    let client = serve(Options { script: saying(endless()), ..Options::default() });
    let events = client.events(json!({ "input": "Hi", "max_output_tokens": 12 }));
    check(&events);
    let last = events.last().expect("events");
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(last["response"]["usage"]["output_tokens"], 12);
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 12 });
    assert_eq!(client.post("/v1/chat/completions", body).1["choices"][0]["finish_reason"], "length");
}

#[test]
fn too_long_a_conversation_is_refused_or_begins_later() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    let say = |text: &str| json!({ "role": "user", "content": text });
    let mut input = vec![say(&"long ago ".repeat(200)); 20];
    input.push(say("Now?"));
    let (status, error) = client.post("/v1/responses", json!({ "input": input }));
    assert_eq!((status, &error["error"]["code"]), (400, &json!("context_length_exceeded")));
    let response = client.respond(json!({ "input": input, "truncation": "auto" }));
    assert_eq!(response["status"], "completed");
    let (status, _) = client.post("/v1/responses", json!({ "input": "long ".repeat(9000), "truncation": "auto" }));
    assert_eq!(status, 400);
}

#[test]
fn whatever_a_random_model_says_the_stream_keeps_its_rules() {
    let client = serve(Options::default());
    for seed in 0..12 {
        let choice = ["auto", "required", "none"][seed % 3];
        let tools = json!([look(), { "type": "custom", "name": "patch" }]);
        let events = client.events(json!({
            "input": "Hi", "seed": seed, "max_output_tokens": 150, "tools": tools, "tool_choice": choice,
            "include": ["message.output_text.logprobs"], "top_logprobs": 2,
        }));
        check(&events);
        let response = &events.last().expect("events")["response"];
        let kinds: Vec<_> = response["output"].as_array().expect("output").iter().map(|item| &item["type"]).collect();
        let calls = kinds.iter().filter(|kind| kind.as_str().is_some_and(|kind| kind.ends_with("_call"))).count();
        match choice {
            "none" => assert_eq!(calls, 0),
            "required" if response["status"] == "completed" => assert_eq!(calls, 1, "{kinds:?}"),
            _ => {}
        }
    }
}

#[test]
fn answers_and_arguments_keep_to_their_schemas() {
    let client = serve(Options::default());
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["kind", "count"],
        "properties": { "kind": { "enum": ["bone", "ear"] }, "count": { "type": "integer", "minimum": 1, "maximum": 20 } },
    });
    let holds = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(["bone", "ear"].contains(&value["kind"].as_str().expect("a kind")), "{text}");
        assert!((1..=20).contains(&value["count"].as_i64().expect("a count")), "{text}");
    };
    let format = json!({ "type": "json_schema", "name": "thing", "schema": schema, "strict": true });
    let tool = json!({ "type": "function", "name": "count", "parameters": schema, "strict": true });
    let reasoning = json!({ "max_tokens": 20 });
    for seed in 0..6 {
        let response = client.respond(json!({
            "input": "Hi", "seed": seed, "text": { "format": format }, "reasoning": reasoning,
        }));
        assert_eq!(response["status"], "completed");
        let answer = response["output"].as_array().expect("output").last().expect("an answer");
        holds(answer["content"][0]["text"].as_str().expect("text"));

        let events = client.events(json!({
            "input": "Hi", "seed": seed, "tools": [tool], "tool_choice": "required", "reasoning": reasoning,
        }));
        check(&events);
        let call = events.last().expect("events")["response"]["output"].as_array().expect("output").last().cloned();
        holds(call.expect("a call")["arguments"].as_str().expect("text"));
    }
    let body = json!({
        "messages": [], "seed": 1, "reasoning": reasoning,
        "response_format": { "type": "json_schema", "json_schema": { "name": "thing", "schema": schema, "strict": true } },
    });
    holds(client.post("/v1/chat/completions", body).1["choices"][0]["message"]["content"].as_str().expect("text"));
    // What cannot be held is refused if it must be, and told if not.
    let odd = json!({ "type": "object", "propertyNames": { "pattern": "(?=a)b" }, "not": {} });
    let format =
        |strict: bool| json!({ "format": { "type": "json_schema", "name": "x", "schema": odd, "strict": strict } });
    let (status, error) = client.post("/v1/responses", json!({ "input": "Hi", "text": format(true) }));
    assert_eq!((status, &error["error"]["param"]), (400, &json!("text.format.schema")), "{error}");
}

#[test]
fn a_response_in_the_background_can_be_polled_and_cancelled() {
    let script: Script = Box::new(|task| Some(if last_text(task) == "Hi" { HELLO.to_owned() } else { endless() }));
    let client = serve(Options { is_slow: true, script: Some(script), ..Options::default() });
    let queued = client.respond(json!({ "input": "Hi", "background": true }));
    assert_eq!(queued["status"], "queued");
    let path = format!("/v1/responses/{}", queued["id"].as_str().expect("an id"));
    let done = loop {
        let (status, response) = client.get(&path);
        assert_eq!(status, 200);
        if !["queued", "in_progress"].contains(&response["status"].as_str().expect("a status")) {
            break response;
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((&done["status"], &done["output"][1]["content"][0]["text"]), (&json!("completed"), &json!("Hello.")));

    let events = client.events(json!({ "input": "Hi", "background": true }));
    check(&events);
    let names: Vec<_> = events.iter().take(3).map(|event| &event["type"]).collect();
    assert_eq!(names, ["response.created", "response.queued", "response.in_progress"]);

    let endless = client.respond(json!({ "input": "On and on", "background": true }));
    client.wait_for("requests_running", 1);
    let goes_on = json!({ "input": "And?", "previous_response_id": endless["id"] });
    assert_eq!(client.post("/v1/responses", goes_on).1["error"]["param"], "previous_response_id");
    let path = format!("/v1/responses/{}", endless["id"].as_str().expect("an id"));
    let (_, cancelled) = client.post(&format!("{path}/cancel"), json!({}));
    assert_eq!(cancelled["status"], "cancelled");
    client.wait_for("requests_running", 0);
    assert_eq!(client.get(&path).1["status"], "cancelled");

    let deleted = client.respond(json!({ "input": "On and on", "background": true }));
    client.wait_for("requests_running", 1);
    let path = format!("/v1/responses/{}", deleted["id"].as_str().expect("an id"));
    assert_eq!(client.delete(&path), (200, json!({ "id": deleted["id"], "object": "response", "deleted": true })));
    client.wait_for("requests_running", 0);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(client.get(&path).0, 404);
}

#[test]
fn what_is_stored_can_be_deleted_and_makes_room() {
    let settings = Settings { store_size: 20_000, ..Options::default().settings };
    let client = serve(Options { settings, script: saying(HELLO), ..Options::default() });
    let path = |response: &Value| format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    let unstored = client.respond(json!({ "input": "Hi", "store": false }));
    assert_eq!(client.get(&path(&unstored)).0, 404);
    let goes_on = json!({ "input": "Hi", "previous_response_id": unstored["id"] });
    let (status, error) = client.post("/v1/responses", goes_on);
    assert_eq!((status, &error["error"]["code"]), (400, &json!("previous_response_not_found")));

    let stored = client.respond(json!({ "input": "Hi" }));
    assert_eq!(client.delete(&path(&stored)).1["deleted"], true);
    assert_eq!(client.get(&path(&stored)).0, 404);

    let all: Vec<_> = (0..20).map(|_| client.respond(json!({ "input": "Hi" }))).collect();
    let there: Vec<_> = all.iter().map(|response| client.get(&path(response)).0 == 200).collect();
    assert!(!there[0] && there[19] && there.iter().filter(|there| **there).count() < 20, "{there:?}");
}

#[test]
fn a_file_carries_conversations_over_a_restart() {
    let path = std::env::temp_dir().join(format!("ossicle-restart-{}", std::process::id()));
    let begin = || {
        let settings = Settings { store: Some(path.clone()), ..Options::default().settings };
        serve(Options { settings, script: saying(HELLO), ..Options::default() })
    };
    let first = begin().respond(json!({ "input": "Hi", "include": ["reasoning.encrypted_content"] }));
    let client = begin();
    let second = client.respond(json!({ "input": "And?", "previous_response_id": first["id"] }));
    assert!(second["usage"]["input_tokens"].as_u64() > first["usage"]["input_tokens"].as_u64());
    let encrypted = &first["output"][0]["encrypted_content"];
    client.respond(json!({ "input": [{ "type": "reasoning", "summary": [], "encrypted_content": encrypted }] }));
    // What nobody waits for is complete before the server ends.
    let queued = client.respond(json!({ "input": "Hi", "background": true }));
    drop(client);
    let client = begin();
    assert_eq!(
        client.get(&format!("/v1/responses/{}", queued["id"].as_str().expect("an id"))).1["status"],
        "completed"
    );
    drop(client);
    std::fs::remove_file(&path).expect("the file");
}

#[test]
fn clients_find_the_model_and_the_servers_numbers() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    assert_eq!(client.get("/v1/models").1["data"][0]["id"], "openai/gpt-oss-20b");
    assert_eq!(client.get("/v1/models/openai/gpt-oss-20b").0, 200);
    assert_eq!(client.get("/v1/models/gpt-oss:20b").0, 200);
    assert_eq!(client.get("/v1/models/gpt-4").1["error"]["code"], "model_not_found");
    let (_, tags) = client.get("/api/tags");
    assert!(tags["models"].as_array().expect("models").iter().any(|model| model["name"] == "gpt-oss:20b"));
    assert!(client.get("/api/version").1["version"].is_string());
    let mut page = client.agent.get(client.url("/")).call().expect("an answer");
    let policy = page.headers()["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'"));
    assert!(page.body_mut().read_to_string().expect("text").starts_with("<!doctype html>"));
    let warned = client.send("/v1/responses", &json!({ "input": "Hi", "tools": [{ "type": "web_search" }] }));
    assert!(warned.headers()["ossicle-warning"].to_str().expect("text").contains("web_search"));
    assert_eq!(client.metric("requests_total"), 1);
    client.wait_for("requests_running", 0);
    assert!(client.metric("output_tokens_total") > 0);
}

#[test]
fn the_published_document_names_routes_that_exist() {
    let client = serve(Options { script: saying(HELLO), ..Options::default() });
    let (_, document) = client.get("/openapi.json");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let url = client.url(&path.replace("{id}", "x"));
        for method in methods.as_object().expect("methods").keys() {
            let answer = match &**method {
                "get" => client.agent.get(&url).call(),
                "delete" => client.agent.delete(&url).call(),
                _ => client.agent.post(&url).header("content-type", "application/json").send("{}"),
            };
            let mut answer = answer.expect("an answer");
            let text = answer.body_mut().read_to_string().expect("text");
            assert!(answer.status() != 405 && !text.contains("no such route"), "{method} {path}: {text}");
        }
    }
}
