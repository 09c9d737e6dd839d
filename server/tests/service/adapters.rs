//! What clients are answered by a model with adapters.

use serde_json::{Value, json};

use crate::client::{Options, Place, serve};

/// What a server with these adapters answers, twice: then what the model had begun with is kept.
fn answer(adapters: &[(&'static str, f32)]) -> Value {
    let options = Options { adapters: adapters.to_vec(), prefix_cache: Some(Place::Memory), ..Options::default() };
    let client = serve(options);
    let ask = || {
        let asked = json!({ "input": "Hello", "temperature": 0, "max_output_tokens": 48 });
        let output = client.respond(asked)["output"].take();
        Value::from_iter(output.as_array().expect("a list").iter().map(|item| item["content"].clone()))
    };
    let answer = ask();
    assert_eq!(ask(), answer);
    answer
}

#[test]
fn a_served_model_answers_as_its_adapters_say() {
    let plain = answer(&[]);
    assert!(plain.to_string().len() > 20, "{plain}");
    assert_eq!(answer(&[("attention", 0.0)]), plain, "one that counts nothing changes nothing");
    let [attention, everything] = [answer(&[("attention", 1.0)]), answer(&[("everything", 1.0)])];
    assert!(attention != plain && everything != plain && attention != everything);
    assert!(answer(&[("attention", -1.0)]) != attention, "what each counts matters");
    let both = answer(&[("attention", 1.0), ("everything", 1.0)]);
    assert!(both != attention && both != everything);
    assert_eq!(answer(&[("attention", 1.0), ("everything", 0.0)]), attention);
}
