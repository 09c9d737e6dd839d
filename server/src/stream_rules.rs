//! What clients rely on in a stream of events.

use std::collections::BTreeMap;

use serde_json::Value;

/// Holds a whole stream against the rules. Panics where it breaks one.
pub fn check(events: &[Value]) {
    let name = |event: &Value| event["type"].as_str().expect("a type").to_owned();
    let names: Vec<String> = events.iter().map(name).collect();
    let is_last =
        |name: &&String| ["response.completed", "response.incomplete", "response.failed"].contains(&name.as_str());
    assert_eq!(names[0], "response.created");
    let is_queued = names[1] == "response.queued";
    let begun = &names[1 + usize::from(is_queued)];
    // What waits may end before it has begun.
    assert!(begun == "response.in_progress" || is_queued && is_last(&begun), "{names:?}");
    assert_eq!(events[0]["response"]["status"], if is_queued { "queued" } else { "in_progress" });
    assert_eq!(names.iter().filter(is_last).count(), 1, "exactly one event ends the stream: {names:?}");
    assert!(is_last(&names.last().expect("events")), "{names:?}");

    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut open: Option<(u64, Value)> = None;
    let mut has_part = false;
    let mut done = Vec::new();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
        let name = &*names[number];
        match name {
            "response.output_item.added" => {
                assert!(open.is_none(), "one item at a time: {names:?}");
                assert_eq!(event["output_index"], done.len());
                open = Some((done.len() as u64, event["item"]["id"].clone()));
            }
            "response.output_item.done" => {
                let (index, id) = open.take().expect("an item is open");
                assert!(!has_part, "its part is done before: {names:?}");
                assert_eq!((&event["output_index"], &event["item"]["id"]), (&index.into(), &id));
                done.push(event["item"].clone());
                texts.clear();
            }
            "response.content_part.added" => has_part = true,
            "response.content_part.done" => has_part = false,
            _ if event.get("item_id").is_some() => {
                let (index, id) = open.as_ref().expect("an item is open");
                assert_eq!((&event["output_index"], &event["item_id"]), (&(*index).into(), id));
                assert_eq!(event.get("content_index").is_some(), has_part, "{name}");
                let (kind, step) = name.rsplit_once('.').expect("a kind and a step");
                if ["response.code_interpreter_call", "response.web_search_call", "response.output_text.annotation"]
                    .contains(&kind)
                {
                    continue;
                }
                let text = texts.entry(kind.to_owned()).or_default();
                if step == "delta" {
                    let delta = event["delta"].as_str().expect("a delta");
                    assert!(!delta.is_empty());
                    text.push_str(delta);
                } else {
                    let whole = ["text", "arguments", "input", "code"].iter().find_map(|key| event.get(key));
                    assert_eq!(whole, Some(&Value::from(&**text)), "deltas add up");
                }
            }
            _ => {}
        }
    }
    assert!(open.is_none(), "every item is done: {names:?}");
    assert_eq!(events.last().expect("events")["response"]["output"], Value::from(done));
}
