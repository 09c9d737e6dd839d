//! A model as the judge, as gpt-oss-safeguard is asked: the policy is what the developer says, the text to be judged is what the
//! user says, and the answer is a label.

use std::borrow::Cow;

use serde_json::Value;

use super::{Subject, Verdict};

/// What the model is asked: the text, of a call with its tool.
pub fn question<'a>(subject: &Subject<'a>) -> Cow<'a, str> {
    match subject {
        Subject::ToolCall { tool, argument } => format!("{tool}: {argument}").into(),
        _ => subject.text().into(),
    }
}

/// What its answer means: `0` passes and `1` does not; in JSON, that is what `violation` says, and `rationale` or `policy_category`
/// is the reason. Whatever else comes, stops.
pub fn label(answer: &str) -> Verdict {
    let answer: Value = serde_json::from_str(answer.trim()).unwrap_or_default();
    let (label, why) = match &answer {
        Value::Object(object) => (object.get("violation"), object.get("rationale").or(object.get("policy_category"))),
        label => (Some(label), None),
    };
    match label {
        Some(Value::Bool(false)) => Verdict::Allow,
        Some(label) if *label == 0 => Verdict::Allow,
        Some(label) if *label == 1 || *label == true => {
            Verdict::Stop(why.and_then(Value::as_str).unwrap_or("the policy").to_owned())
        }
        _ => Verdict::Stop("the policy gave no verdict".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::label;

    #[test]
    fn a_label_decides_and_whatever_is_none_stops() {
        for allowed in ["0", " 0\n", r#"{"violation": 0}"#, r#"{"violation": false, "rationale": "fine"}"#] {
            assert_eq!(label(allowed), Verdict::Allow, "{allowed}");
        }
        for (stopped, why) in [
            ("1", "the policy"),
            (r#"{"violation": 1, "policy_category": "D2"}"#, "D2"),
            (r#"{"violation": true, "rationale": "a threat", "policy_category": "D2"}"#, "a threat"),
            ("", "the policy gave no verdict"),
            ("2", "the policy gave no verdict"),
            ("01", "the policy gave no verdict"),
            ("no violation", "the policy gave no verdict"),
            ("[0]", "the policy gave no verdict"),
            ("{}", "the policy gave no verdict"),
        ] {
            assert_eq!(label(stopped), Verdict::Stop(why.into()), "{stopped}");
        }
    }
}
