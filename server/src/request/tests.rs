use serde_json::{Value, json};

use super::chat::ChatRequest;
use super::{BuiltInTools, Context, Item, Request, Task};
use crate::error::ApiError;
use crate::seal::Seal;
use ossicle_core::harmony::conversation::Effort;

fn read_with(built_in: BuiltInTools, history: &[Value], body: Value) -> Result<Request, ApiError> {
    let seal = Seal::random();
    let stored = json!({ "id": "msg_1", "type": "message", "role": "user", "content": "Stored." });
    let items = |ids: &[&str]| {
        let found = ids.iter().filter(|id| **id == "msg_1");
        found.map(|id| ((*id).to_owned(), stored.clone())).collect()
    };
    let context = Context { seal: &seal, owner: "", built_in, history, items: &items, items_size: 1000 };
    Request::read(&body, &context)
}

fn read_after(history: &[Value], body: Value) -> Result<Request, ApiError> {
    read_with(BuiltInTools { python: true, browser: false }, history, body)
}

fn read(body: Value) -> Result<Request, ApiError> {
    read_after(&[], body)
}

fn param(result: Result<Request, ApiError>) -> Option<String> {
    let error = result.expect_err("the request is wrong");
    assert_eq!(error.status, 400);
    error.param
}

#[test]
fn a_string_is_a_message_of_the_user_and_defaults_are_those_of_the_api() {
    let request = read(json!({ "model": "gpt-oss-20b", "input": "Hi" })).expect("a request");
    assert_eq!(request.input[0]["content"], json!([{ "type": "input_text", "text": "Hi" }]));
    assert!(request.store && !request.stream && !request.background && !request.include_encrypted);
    assert_eq!(request.task.effort, Effort::Medium);
    assert_eq!((request.task.settings.temperature, request.task.settings.top_p), (1.0, 1.0));
    for (key, value) in [
        ("truncation", json!("disabled")),
        ("tool_choice", json!("auto")),
        ("parallel_tool_calls", json!(true)),
        ("text", json!({ "format": { "type": "text" }, "verbosity": "medium" })),
        ("metadata", json!({})),
        ("max_output_tokens", Value::Null),
    ] {
        assert_eq!(request.echo[key], value, "{key}");
    }
    assert_eq!(request.warnings.0, [""; 0]);
}

#[test]
fn errors_name_the_field() {
    let say = |content: Value| json!({ "input": [{ "role": "user", "content": content }] });
    for (body, expected) in [
        (json!({}), "input"),
        (json!({ "input": 1 }), "input"),
        (json!({ "input": "", "model": 1 }), "model"),
        (json!({ "input": ["Hi"] }), "input[0]"),
        (json!({ "input": [{ "role": "robot", "content": "" }] }), "input[0].role"),
        (say(json!([{ "type": "input_text" }])), "input[0].content[0].text"),
        (say(json!([{ "type": "input_image", "image_url": "data:" }])), "input[0].content[0].type"),
        (json!({ "input": "", "temperature": 3 }), "temperature"),
        (json!({ "input": "", "temperature": "1" }), "temperature"),
        (json!({ "input": "", "max_output_tokens": 0 }), "max_output_tokens"),
        (json!({ "input": "", "reasoning": { "effort": "enormous" } }), "reasoning.effort"),
        (json!({ "input": "", "tools": [{ "type": "function" }] }), "tools[0].name"),
        (json!({ "input": "", "tools": [{ "type": "function", "name": "a b" }] }), "tools[0].name"),
        (json!({ "input": "", "tool_choice": { "type": "function", "name": "f" } }), "tool_choice.name"),
        (json!({ "input": "", "tool_choice": "required" }), "tool_choice"),
        (json!({ "input": "", "text": { "format": { "type": "xml" } } }), "text.format.type"),
        (json!({ "input": "", "reasoning": [null] }), "reasoning"),
        (json!({ "input": "", "text": "json" }), "text"),
        (json!({ "input": "", "conversation": "conv_1" }), "conversation"),
        (json!({ "input": "", "metadata": { "a": 1 } }), "metadata"),
        (json!({ "input": "", "background": true, "store": false }), "store"),
        (json!({ "input": "", "include": ["x", 1] }), "include[1]"),
        (json!({ "input": [{ "type": "item_reference", "id": "msg_2" }] }), "input[0].id"),
        (
            json!({ "input": [{ "type": "function_call_output", "call_id": "call_1", "output": "" }] }),
            "input[0].call_id",
        ),
        (
            json!({ "input": [{ "type": "reasoning", "summary": [], "encrypted_content": "forged" }] }),
            "input[0].encrypted_content",
        ),
    ] {
        assert_eq!(param(read(body.clone())).as_deref(), Some(expected), "{body}");
    }
    assert_eq!(param(read(json!([]))), None);
}

#[test]
fn what_is_unknown_is_left_out_with_a_warning() {
    let request = read(json!({
        "input": [{ "type": "local_shell_call", "id": "x" }, { "role": "user", "content": "Hi" }],
        "include": ["file_search_call.results"],
        "tools": [
            { "type": "web_search", "search_context_size": "low" },
            { "type": "image_generation" },
            { "type": "function", "name": "f", "parameters": { "type": "object" }, "strict": false },
            { "type": "namespace", "name": "mcp", "description": "Far.", "tools": [
                { "type": "function", "name": "g" },
            ] },
            { "type": "custom", "name": "patch", "format": { "type": "grammar", "definition": "start: x" } },
        ],
        "client_metadata": {},
    }))
    .expect("a request");
    assert_eq!(request.task.settings.tool_choice.callable, ["functions.f", "mcp.g", "functions.patch"]);
    assert_eq!(request.warnings.0.len(), 5, "{:?}", request.warnings);
    assert_eq!(request.task.items.len(), 1);
    assert_eq!(request.echo["tools"].as_array().map(Vec::len), Some(5));
}

#[test]
fn a_web_search_is_three_tools_of_the_browser() {
    let browse = |body: Value| read_with(BuiltInTools { python: false, browser: true }, &[], body);
    let functions = ["browser.search", "browser.open", "browser.find"];
    for kind in ["web_search", "web_search_2025_08_26", "web_search_preview", "browser_search"] {
        let filters = json!({ "allowed_domains": ["isle.example"] });
        let tools = json!([{ "type": kind, "filters": filters }, { "type": "function", "name": "f" }]);
        let choice = json!({ "type": kind });
        let request = browse(json!({ "input": "Hi", "tools": tools, "tool_choice": choice })).expect("a request");
        assert_eq!(request.task.settings.tool_choice.callable, functions);
        assert!(request.task.settings.tool_choice.required && request.warnings.0.is_empty());
        assert_eq!(request.task.tools.domains, ["isle.example"]);
        let choice = json!({ "type": "allowed_tools", "mode": "auto", "tools": [{ "type": kind }] });
        let request = browse(json!({ "input": "Hi", "tools": tools, "tool_choice": choice })).expect("a request");
        assert_eq!(request.task.settings.tool_choice.callable, functions);
    }
    let result = |name: &str| json!([{ "name": name, "arguments": "{}", "output": "[0] boats" }]);
    let item = |name: &str| json!([{ "type": "web_search_call", "id": "ws_1", "results": result(name) }]);
    let request = browse(json!({ "input": item("browser.open") })).expect("a request");
    assert_eq!(request.task.items.len(), 2);
    for name in ["python", "browser.close", "functions.f"] {
        assert_eq!(param(browse(json!({ "input": item(name) }))).as_deref(), Some("input[0].results[0].name"));
    }
    let offline = json!([{ "type": "web_search", "external_web_access": false }]);
    let request = browse(json!({ "input": "Hi", "tools": offline })).expect("a request");
    assert_eq!((request.task.tools.list.len(), request.warnings.0.len()), (0, 1));
    let search = json!({ "type": "namespace", "name": "browser", "tools": [{ "type": "function", "name": "open" }] });
    for tools in [json!([search, { "type": "web_search" }]), json!([{ "type": "web_search" }, search])] {
        assert!(browse(json!({ "input": "Hi", "tools": tools })).is_err());
    }
}

#[test]
fn every_form_of_tool_choice_is_understood() {
    let tools = json!([{ "type": "function", "name": "f" }, { "type": "custom", "name": "g" }]);
    let choice = |choice: Value| {
        let request = read(json!({ "input": "", "tools": tools, "tool_choice": choice })).expect("a request");
        let choice = request.task.settings.tool_choice;
        (choice.callable.join(" "), choice.required)
    };
    let both = "functions.f functions.g".to_owned();
    assert_eq!(choice(Value::Null), (both.clone(), false));
    assert_eq!(choice(json!("auto")), (both.clone(), false));
    assert_eq!(choice(json!("none")), (String::new(), false));
    assert_eq!(choice(json!("required")), (both.clone(), true));
    assert_eq!(choice(json!({ "type": "function", "name": "f" })), ("functions.f".into(), true));
    assert_eq!(choice(json!({ "type": "custom", "name": "g" })), ("functions.g".into(), true));
    let allowed = |mode: &str| json!({ "type": "allowed_tools", "mode": mode, "tools": [{ "type": "custom", "name": "g" }, { "type": "mcp" }] });
    assert_eq!(choice(allowed("auto")), ("functions.g".into(), false));
    assert_eq!(choice(allowed("required")), ("functions.g".into(), true));
    assert_eq!(choice(json!({ "type": "web_search" })), (both, false));
}

#[test]
fn a_conversation_can_be_sent_back() {
    let first = read(json!({
        "input": [
            { "type": "message", "role": "developer", "content": [{ "type": "input_text", "text": "Be brief." }] },
            { "role": "user", "content": "Weather?" },
            { "type": "reasoning", "id": "rs_1", "summary": [], "content": [{ "type": "reasoning_text", "text": "Hm." }] },
            { "type": "reasoning", "id": "rs_2", "summary": [] },
            { "type": "message", "role": "assistant", "phase": "commentary", "content": "I look." },
            { "type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}", "status": "completed" },
            { "type": "function_call_output", "call_id": "call_1", "output": [{ "type": "input_text", "text": "Rain" }] },
            { "type": "item_reference", "id": "msg_1" },
        ],
    }))
    .expect("a request");
    assert_eq!(first.task.items.len(), 7);
    assert_eq!(first.task.items[2], Item::Reasoning(vec!["Hm.".into()]));
    assert_eq!(
        first.task.items[5],
        Item::CallOutput { recipient: "functions.look".into(), parts: vec!["Rain".into()] }
    );
    // An answer to a call of an earlier response.
    let body = json!({
        "previous_response_id": "resp_1",
        "input": [{ "type": "function_call_output", "call_id": "call_1", "output": "Sun" }],
    });
    let second = read_after(&first.input, body).expect("a request");
    assert_eq!(second.task.items.len(), 8);
    assert_eq!(second.input.len(), 1);
}

#[test]
fn calls_that_were_cut_off_are_left_out_with_what_answers_them() {
    let call = |id: &str, status: &str| json!({ "type": "function_call", "call_id": id, "name": "f", "arguments": "{", "status": status });
    let output = |id: &str| json!({ "type": "function_call_output", "call_id": id, "output": "Rain" });
    let code =
        |outputs: Value| json!({ "type": "code_interpreter_call", "id": "ci_1", "code": "1", "outputs": outputs });
    let items = |input: Value| read(json!({ "input": input })).expect("a request").task.items.len();
    assert_eq!(items(json!([call("a", "incomplete"), call("b", "completed"), output("a"), output("b")])), 2);
    assert_eq!(items(json!([code(Value::Null), code(json!([])), code(json!([{ "type": "logs", "logs": "1" }]))])), 4);
}

#[test]
fn a_small_request_does_not_become_large() {
    let reference = json!({ "type": "item_reference", "id": "msg_1" });
    assert_eq!(read(json!({ "input": vec![&reference; 10] })).expect("a request").input.len(), 10);
    assert_eq!(param(read(json!({ "input": vec![&reference; 100] }))).as_deref(), Some("input"));
    assert_eq!(
        param(read(json!({ "input": vec![json!({ "role": "user", "content": "" }); 20_000] }))).as_deref(),
        Some("input")
    );
    let tool = |index: usize| json!({ "type": "function", "name": format!("f{index}"), "strict": false });
    let tools: Vec<_> = (0..1025).map(tool).collect();
    assert_eq!(param(read(json!({ "input": "", "tools": tools }))).as_deref(), Some("tools[1024]"));
    let odd: Vec<_> = (0..10_000).map(|index| json!({ "type": format!("odd{index}") })).collect();
    let request = read(json!({ "input": odd, "tools": odd, "include": ["x"] })).expect("a request");
    assert!(request.warnings.0.len() <= 16);
    let call = |index: usize| json!({ "id": format!("c{index}"), "function": { "name": "f", "arguments": "" } });
    let calls: Vec<_> = (0..10_000).map(call).collect();
    let message = json!({ "role": "assistant", "content": "", "tool_calls": calls });
    assert!(ChatRequest::read(&json!({ "messages": [message] })).is_ok());
    let error = ChatRequest::read(&json!({ "messages": [message, message] })).expect_err("too many");
    assert_eq!(error.param.as_deref(), Some("messages"));
}

#[test]
fn encrypted_reasoning_is_opened_for_its_owner() {
    let seal = Seal::random();
    let reasoning = json!({ "type": "reasoning", "summary": [], "encrypted_content": seal.close("me", "Hm.") });
    let body = json!({ "input": [reasoning, { "role": "user", "content": "?" }] });
    let read = |owner| Request::read(&body, &Context { owner, ..Context::alone(&seal) });
    assert_eq!(read("me").expect("a request").task.items[0], Item::Reasoning(vec!["Hm.".into()]));
    assert_eq!(read("you").expect_err("another's").code, Some("invalid_encrypted_content"));
}

#[test]
fn chat_completions_become_the_same_items() {
    let request = ChatRequest::read(&json!({
        "model": "m",
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "Weather?" }] },
            { "role": "assistant", "reasoning": "Hm.", "content": null, "tool_calls": [
                { "id": "call_1", "type": "function", "function": { "name": "look", "arguments": "{}" } },
            ] },
            { "role": "tool", "tool_call_id": "call_1", "content": "Rain" },
        ],
        "tools": [{ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } }],
        "tool_choice": { "type": "function", "function": { "name": "look" } },
        "reasoning_effort": "high", "stop": "end", "max_completion_tokens": 9, "seed": 3, "logprobs": true,
        "logit_bias": { "7": -100, "3": 1.5 }, "stream_options": { "include_usage": true },
        "frequency_penalty": 0.5,
    }))
    .expect("a request");
    let settings = &request.task.settings;
    assert_eq!(request.task.items.len(), 5);
    assert_eq!(settings.tool_choice.callable, ["functions.look"]);
    assert_eq!((settings.max_tokens, settings.seed, settings.log_probabilities), (Some(9), Some(3), Some(0)));
    assert_eq!(settings.logit_bias, [(3, 1.5), (7, f32::NEG_INFINITY)]);
    assert_eq!(settings.stop, ["end"]);
    assert_eq!(request.task.effort, Effort::High);
    assert!(request.stream_usage && request.warnings.0.len() == 1);
    let error = ChatRequest::read(&json!({ "messages": [{ "role": "tool", "tool_call_id": "x", "content": "" }] }));
    assert_eq!(error.expect_err("no such call").param.as_deref(), Some("messages[0].tool_call_id"));
    for (key, value) in
        [("model", json!({})), ("n", json!(2)), ("reasoning", json!([null])), ("stream_options", json!("usage"))]
    {
        let error = ChatRequest::read(&json!({ "messages": [], key: value })).expect_err(key);
        assert_eq!(error.param.as_deref(), Some(key));
    }
}

#[test]
fn a_grammar_is_told_to_the_model_wherever_the_interface_has_it() {
    let told = |request: &Task| request.tools.list[0].description.contains("start: x");
    let format = json!({ "type": "grammar", "definition": "start: x" });
    let tools = json!([{ "type": "custom", "name": "patch", "format": format }]);
    assert!(told(&read(json!({ "input": "", "tools": tools })).expect("a request").task));
    let format = json!({ "type": "grammar", "grammar": { "syntax": "lark", "definition": "start: x" } });
    let tools = json!([{ "type": "custom", "custom": { "name": "patch", "format": format } }]);
    assert!(told(&ChatRequest::read(&json!({ "messages": [], "tools": tools })).expect("a request").task));
}
