//! What was computed of a conversation is not computed again, whoever has its session meanwhile, and whether or not the server has
//! been started anew.

use std::path::PathBuf;

use ossicle_server::{Script, Settings};
use serde_json::{Value, json};

use crate::client::*;

fn begin(prefix_cache: Option<Place>) -> Client {
    serve(Options { sessions: 1, prefix_cache, ..Options::default() })
}

/// The answer to a conversation with these instructions that has come so far; the same each time.
fn ask(client: &Client, instructions: &str, so_far: &mut Vec<Value>, question: &str) -> Value {
    so_far.push(json!({ "role": "user", "content": question }));
    let response = client.respond(json!({
        "instructions": instructions, "input": so_far, "seed": 3, "max_output_tokens": 60, "store": false
    }));
    so_far.extend(response["output"].as_array().expect("items").iter().cloned());
    response
}

fn cached(response: &Value) -> u64 {
    response["usage"]["input_tokens_details"]["cached_tokens"].as_u64().expect("a number")
}

fn input(response: &Value) -> u64 {
    response["usage"]["input_tokens"].as_u64().expect("a number")
}

/// The beginning of a message of the assistant, which is behind the last message of a prompt.
const BEGINNING: u64 = 12;

fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ossicle-prefixes-{}-{name}", std::process::id()))
}

#[test]
fn conversations_that_share_a_session_are_not_computed_again() {
    let client = begin(Some(Place::Memory));
    let instructions = ["You help. ".repeat(20), "You joke. ".repeat(20)];
    let mut conversations = [vec![], vec![]];
    let mut before = [0, 0];
    for round in 0..4 {
        for (index, conversation) in conversations.iter_mut().enumerate() {
            let question = format!("Number {round} is a question with many words. ").repeat(3);
            let response = ask(&client, &instructions[index], conversation, &question);
            if round > 0 {
                assert!(cached(&response) + BEGINNING >= before[index], "{round}: {response}");
            }
            before[index] = input(&response);
        }
    }
    assert!(client.metric("restored_tokens_total") > 0);
}

#[test]
fn a_folder_carries_prefixes_over_a_restart() {
    let path = folder("restart");
    let instructions = "You help. ".repeat(20);
    let mut conversation = vec![];
    let first = ask(&begin(Some(Place::Folder(path.clone()))), &instructions, &mut conversation, &"Why? ".repeat(40));
    let client = begin(Some(Place::Folder(path.clone())));
    let other = ask(&client, &instructions, &mut vec![], "What?");
    assert!(cached(&other) > 200 && cached(&other) < input(&first), "{other}");
    assert_eq!(client.metric("restored_tokens_total"), cached(&other));
    let second = ask(&client, &instructions, &mut conversation, "And now?");
    assert!(cached(&second) + BEGINNING >= input(&first), "{second}");
    drop(client);
    std::fs::remove_dir_all(path).expect("the folder");
}

#[test]
fn what_all_sessions_have_is_kept_when_the_server_stops() {
    let path = folder("stop");
    let begin =
        || serve(Options { sessions: 4, prefix_cache: Some(Place::Folder(path.clone())), ..Options::default() });
    let mut conversations: Vec<_> = (0..4).map(|number| (format!("{number}! ").repeat(20), vec![], 0)).collect();
    let client = begin();
    for (instructions, conversation, end) in &mut conversations {
        *end = input(&ask(&client, instructions, conversation, &"Why? ".repeat(40)));
    }
    drop(client);
    let client = begin();
    for (instructions, conversation, end) in &mut conversations {
        let response = ask(&client, instructions, conversation, "And now?");
        assert!(cached(&response) + BEGINNING >= *end, "{response}");
    }
    drop(client);
    std::fs::remove_dir_all(path).expect("the folder");
}

#[test]
fn of_judgements_the_policy_is_kept_and_no_prompt() {
    let path = folder("judged");
    let policy = "Say 0. ".repeat(20);
    let script: Script = Box::new({
        let policy = policy.clone();
        move |task| {
            let text = if task.instructions.as_ref() == Some(&policy) { "0" } else { "Well." };
            Some(format!("<|channel|>final<|message|>{text}<|return|>"))
        }
    });
    let settings = Settings { model_policy: Some(policy), ..Options::default().settings };
    let place = Some(Place::Folder(path.clone()));
    let client =
        serve(Options { settings, sessions: 1, prefix_cache: place, script: Some(script), ..Options::default() });
    let response = ask(&client, &"You help. ".repeat(20), &mut vec![], &"Why? ".repeat(40));
    assert_eq!(response["output"][0]["content"][0]["text"], "Well.", "{response}");
    drop(client);
    let entries = std::fs::read_dir(&path).expect("the folder");
    assert_eq!(entries.count(), 3, "the policy, the instructions, and the prompt after these");
    std::fs::remove_dir_all(path).expect("the folder");
}

#[test]
fn answers_do_not_depend_on_what_is_kept() {
    let path = folder("same");
    let answers = |place: Option<Place>| {
        let is_kept = place.is_some();
        let (client, mut said) = (begin(place), vec![]);
        let mut conversations = [vec![], vec![]];
        for question in ["Why? ".repeat(40), "And now? ".repeat(30), "Once more.".to_owned()] {
            for conversation in &mut conversations {
                let response = ask(&client, &"You help. ".repeat(20), conversation, &question);
                let content = |item: &Value| item["content"].clone();
                said.push(response["output"].as_array().expect("items").iter().map(content).collect::<Vec<_>>());
                conversation.push(json!({ "role": "user", "content": said.len().to_string() }));
            }
        }
        assert_eq!(client.metric("restored_tokens_total") > 0, is_kept);
        said
    };
    let expected = answers(None);
    for place in [Place::Memory, Place::Folder(path.clone()), Place::Folder(path.clone())] {
        assert_eq!(answers(Some(place)), expected);
    }
    std::fs::remove_dir_all(path).expect("the folder");
}
