//! On random conversations Ossicle renders and parses as openai-harmony 0.0.8 does.
//!
//! The library needs the vocabulary in a file: it is written from the crate tiktoken-rs into a temporary folder.

use std::fmt::Write;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use openai_harmony::chat::{Conversation, Message, Role};
use openai_harmony::{HarmonyEncoding, HarmonyEncodingName, ParseOptions, load_harmony_encoding};
use ossicle_core::harmony::render::Form;
use ossicle_core::harmony::{SpecialTokens, Vocabulary, conversation};
use ossicle_host::harmony::{parse, render_request};
use ossicle_tests::harmony::{O200K_HARMONY, ORDINARY_TOKENS};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

const SPECIAL: SpecialTokens = SpecialTokens::O200K_HARMONY;

static LIBRARY: LazyLock<HarmonyEncoding> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("ossicle-peers-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut lines = String::new();
    for token in 0..ORDINARY_TOKENS {
        let bytes = BASE64_STANDARD.encode(O200K_HARMONY.token_bytes(token).expect("an ordinary token"));
        writeln!(lines, "{bytes} {token}").expect("text");
    }
    std::fs::write(folder.join("o200k_base.tiktoken"), lines).expect("the vocabulary");
    // SAFETY: nothing here reads the environment but through the standard library, which locks it.
    unsafe { std::env::set_var("TIKTOKEN_ENCODINGS_BASE", &folder) };
    let encoding = load_harmony_encoding(HarmonyEncodingName::HarmonyGptOss).expect("the encoding");
    std::fs::remove_dir_all(&folder).expect("the folder is there");
    encoding
});

fn text() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "hello",
        " world",
        "\n",
        "\n\n",
        " ",
        "日本語",
        "null",
        "\"",
        "\\",
        "{\"a\": 1}",
        "\r\n",
        "<|end|>",
        "<|start|>",
        "// x",
        "é",
        "😀",
        "'s",
        "\t",
        "3.14",
        "\u{1}",
        "\u{300}",
    ];
    vec(prop_oneof![4 => select(WORDS).prop_map(str::to_owned), 1 => ".{0,4}"], 0..6).prop_map(|words| words.concat())
}

fn maybe<T: std::fmt::Debug + Clone>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::weighted(0.4, value)
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1000_i32..1000, -30_i32..30).prop_map(|(digits, exponent)| json!(f64::from(digits) * 10_f64.powi(exponent))),
        proptest::num::f64::NORMAL.prop_map(|value| json!(value)),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![text().prop_map(Value::from), number(), any::<bool>().prop_map(Value::from), Just(Value::Null)]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((text(), inner), 0..3).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Schemas with all keywords that the library reads, in any combination, some of the wrong type.
fn schema() -> impl Strategy<Value = Value> {
    const TYPES: &[&str] = &["object", "string", "number", "integer", "boolean", "array", "null", "weird"];
    let kind = prop_oneof![
        6 => select(TYPES).prop_map(Value::from),
        1 => vec(select(TYPES), 0..3).prop_map(|names| json!(names)),
        1 => value(),
    ];
    let leaf = (maybe(kind), maybe(text()), maybe(value()), maybe(vec(value(), 0..3)), maybe(any::<bool>())).prop_map(
        |(kind, description, default, members, nullable)| {
            let mut schema = Map::new();
            let mut add = |key: &str, value: Option<Value>| {
                if let Some(value) = value {
                    schema.insert(key.to_owned(), value);
                }
            };
            add("type", kind);
            add("description", description.map(Value::from));
            add("default", default);
            add("enum", members.map(Value::from));
            add("nullable", nullable.map(Value::from));
            schema
        },
    );
    leaf.prop_map(Value::Object).prop_recursive(4, 24, 4, move |inner| {
        let extra = (maybe(text()), maybe(vec(value(), 0..3)), maybe(vec(inner.clone(), 0..4)), maybe(inner.clone()));
        let object = (vec((text(), inner.clone()), 0..4), maybe(vec(text(), 0..3)), any::<bool>());
        (inner, extra, object, select(TYPES)).prop_map(|(schema, extra, object, kind)| {
            let Value::Object(mut schema) = schema else { return schema };
            let (title, examples, one_of, items) = extra;
            let (properties, required, is_object) = object;
            let mut required = required.unwrap_or_default();
            if is_object {
                required.extend(properties.first().map(|(key, _)| key.clone()));
                schema.insert("type".into(), "object".into());
                schema.insert("properties".into(), Value::Object(properties.into_iter().collect()));
                schema.insert("required".into(), json!(required));
            } else {
                schema.insert("type".into(), kind.into());
            }
            let extra = [
                ("title", title.map(Value::from)),
                ("examples", examples.map(Value::from)),
                ("oneOf", one_of.map(Value::from)),
                ("items", items),
            ];
            for (key, value) in extra {
                if let Some(value) = value {
                    schema.insert(key.into(), value);
                }
            }
            Value::Object(schema)
        })
    })
}

fn tools() -> impl Strategy<Value = Value> {
    let tool = (text(), text(), maybe(schema())).prop_map(
        |(name, description, parameters)| json!({"name": name, "description": description, "parameters": parameters}),
    );
    let namespace = (text(), maybe(text()), vec(tool, 0..3));
    let name = select(&["functions", "browser", "python", "a", "é"][..]);
    vec((name, namespace), 0..3).prop_map(|namespaces| {
        let entries = namespaces.into_iter().map(|(key, (odd, description, tools))| {
            // The library looks for the key `functions`, Ossicle for the name; here they are the same.
            let name = if key == "functions" { key.to_owned() } else { format!("{key}{odd}") };
            (key.to_owned(), json!({"name": name, "description": description, "tools": tools}))
        });
        Value::Object(entries.collect())
    })
}

fn content() -> impl Strategy<Value = Value> {
    let effort = select(&["Low", "Medium", "High"][..]);
    let channels = (vec(text(), 0..3), any::<bool>())
        .prop_map(|(channels, required)| json!({"valid_channels": channels, "channel_required": required}));
    let system = (maybe(text()), maybe(effort), maybe(tools()), maybe(text()), maybe(text()), maybe(channels))
        .prop_map(|(identity, effort, tools, date, cutoff, channels)| {
            json!([{"type": "system_content", "model_identity": identity, "reasoning_effort": effort, "tools": tools,
                "conversation_start_date": date, "knowledge_cutoff": cutoff, "channel_config": channels}])
        });
    let developer = (maybe(text()), maybe(tools())).prop_map(
        |(instructions, tools)| json!([{"type": "developer_content", "instructions": instructions, "tools": tools}]),
    );
    prop_oneof![
        6 => text().prop_map(Value::from),
        2 => vec(text(), 0..3).prop_map(|texts| texts.into_iter().map(|text| json!({"type": "text", "text": text})).collect()),
        1 => system,
        1 => developer,
    ]
}

fn message() -> impl Strategy<Value = Value> {
    let role = select(&["system", "developer", "user", "assistant", "assistant", "tool"][..]);
    let name = maybe(prop_oneof![Just("functions.f".to_owned()), text()]);
    let recipient = maybe(prop_oneof![select(&["all", "functions.f"][..]).prop_map(str::to_owned), text()]);
    let channel = maybe(prop_oneof![5 => select(&conversation::CHANNELS[..]).prop_map(str::to_owned), 1 => text()]);
    const TYPES: &[&str] = &["json", "<|constrain|>json", "<|constrain|>", "<|constrain|> x", " <|constrain|>"];
    (role, name, recipient, channel, maybe(select(TYPES)), content()).prop_map(
        |(mut role, name, recipient, channel, content_type, content)| {
            // Most of what would be refused is put right.
            match content[0]["type"].as_str() {
                Some("system_content") if role != "user" => role = "system",
                Some("developer_content") if role != "user" => role = "developer",
                _ => {}
            }
            let mut message = Map::new();
            message.insert("role".into(), role.into());
            let name = name.or_else(|| (role == "tool").then(|| "python".to_owned()));
            let fields = [("name", name), ("recipient", recipient), ("channel", channel)];
            for (key, value) in fields.into_iter().chain([("content_type", content_type.map(str::to_owned))]) {
                if let Some(value) = value {
                    message.insert(key.into(), value.into());
                }
            }
            message.insert("content".into(), content);
            Value::Object(message)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn random_conversations_are_rendered_as_the_library_does(messages in vec(message(), 0..5)) {
        let conversation = json!({"messages": messages});
        let theirs: Conversation = serde_json::from_value(conversation.clone()).expect("a conversation of the library");
        // Without options, it drops nothing.
        let theirs = LIBRARY.render_conversation(&theirs.messages, None).map_err(|error| error.to_string());
        let request = json!({"conversation": conversation, "auto_drop_analysis": false});
        prop_assert_eq!(render_request(&request, Form::Library, &*O200K_HARMONY, SPECIAL), theirs);
    }

    /// With the library's default options. It keeps their type to itself, but takes one that has no name here.
    #[test]
    fn analysis_is_dropped_from_random_conversations_as_the_library_does(
        messages in vec(
            (select(&["assistant", "assistant", "assistant", "user", "tool"][..]),
                prop_oneof![1 => Just(None), 4 => select(&conversation::CHANNELS[..]).prop_map(Some)],
                maybe(select(&["functions.f", "assistant"][..])), text()), 0..9),
        next_role in maybe(Just("assistant")),
    ) {
        let messages: Vec<Value> = messages.into_iter().map(|(role, channel, recipient, content)| {
            let name = (role == "tool").then_some("functions.f");
            json!({"role": role, "name": name, "channel": channel, "recipient": recipient, "content": content})
        }).collect();
        let conversation = json!({"messages": messages});
        let theirs: Conversation = serde_json::from_value(conversation.clone()).expect("a conversation of the library");
        let options = Default::default();
        let theirs = match next_role {
            Some(_) => LIBRARY.render_conversation_for_completion(&theirs.messages, Role::Assistant, Some(&options)),
            None => LIBRARY.render_conversation(&theirs.messages, Some(&options)),
        };
        let request = json!({"conversation": conversation, "auto_drop_analysis": true, "next_role": next_role});
        prop_assert_eq!(
            render_request(&request, Form::Library, &*O200K_HARMONY, SPECIAL),
            theirs.map_err(|error| error.to_string())
        );
    }

    /// What the assistant writes, in both orders of recipient and channel.
    #[test]
    fn random_messages_of_the_assistant_are_parsed_as_the_library_does(
        messages in vec(
            (select(&conversation::CHANNELS[..]), maybe(select(&["functions.f", "python"][..])),
                maybe(select(&["json", "<|constrain|>json"][..])), text()), 1..4),
        form in select(&[Form::Trained, Form::Library][..]),
    ) {
        let messages: Vec<Value> = messages.into_iter().map(|(channel, recipient, content_type, content)| {
            // Without a recipient, the library takes the content type for one.
            let content_type = content_type.filter(|_| recipient.is_some());
            json!({"role": "assistant", "channel": channel, "recipient": recipient, "content_type": content_type,
                "content": content})
        }).collect();
        let request = json!({"conversation": {"messages": messages}, "auto_drop_analysis": false});
        let tokens = render_request(&request, form, &*O200K_HARMONY, SPECIAL).expect("a conversation");
        let options = ParseOptions { strict: true };
        let theirs: Vec<Message> = LIBRARY
            .parse_messages_from_completion_tokens_with_options(tokens[2..].iter().copied(), Some(Role::Assistant), options)
            .expect("well-formed messages");
        let ours = parse(&tokens[2..], Some(conversation::Role::Assistant), &*O200K_HARMONY, SPECIAL);
        prop_assert_eq!(&ours["diagnostics"], &json!([]));
        let ours = ours["messages"].as_array().expect("messages");
        prop_assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let theirs = serde_json::to_value(theirs).expect("JSON");
            let content_type = theirs.get("content_type").and_then(Value::as_str);
            let content_type = content_type.map(|name| name.strip_prefix("<|constrain|>").unwrap_or(name));
            prop_assert_eq!(ours.get("content_type").and_then(Value::as_str), content_type);
            prop_assert_eq!(ours.get("recipient"), theirs.get("recipient"));
            prop_assert_eq!(ours.get("channel"), theirs.get("channel"));
            let text = theirs["content"].as_str().or_else(|| theirs["content"][0]["text"].as_str());
            prop_assert_eq!(ours["content"].as_str(), text);
        }
    }
}
