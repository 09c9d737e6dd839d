use std::ops::RangeInclusive;

use serde_json::Value;

use crate::error::ApiError;

/// A field of a request, with its path for errors. What is `null` counts as absent.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    value: Option<&'a Value>,
    path: String,
}

type Result<T> = std::result::Result<T, ApiError>;

/// Most elements of a list.
pub const LONGEST_LIST: usize = 16_384;

impl<'a> Field<'a> {
    /// The whole request.
    pub fn root(value: &'a Value) -> Self {
        Self { value: Some(value), path: String::new() }
    }

    /// An element of the list at `path`.
    pub fn element(value: &'a Value, path: &str, index: usize) -> Self {
        Self { value: Some(value), path: format!("{path}[{index}]") }
    }

    /// A member of the object.
    pub fn get(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { value: self.value.and_then(|value| value.get(key)).filter(|value| !value.is_null()), path }
    }

    /// A member that is an object, if it is there.
    pub fn get_object(&self, key: &str) -> Result<Self> {
        let field = self.get(key);
        field.object()?;
        Ok(field)
    }

    pub fn value(&self) -> Option<&'a Value> {
        self.value
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn refuse(&self, expected: &str) -> ApiError {
        let place = if self.path.is_empty() { "The request" } else { &self.path };
        match self.value {
            None => ApiError {
                code: Some("missing_required_parameter"),
                ..self.error(format!("{place}: expected {expected}"))
            },
            Some(value) => self.error(format!("{place}: expected {expected}, found {}", shown(value))),
        }
    }

    pub fn unsupported(&self, what: &str) -> ApiError {
        ApiError::unsupported(&self.path, format!("{}: {what}", self.path))
    }

    fn error(&self, message: String) -> ApiError {
        ApiError::invalid(&self.path, message)
    }

    pub fn text(&self) -> Result<Option<&'a str>> {
        self.value.map(|value| value.as_str().ok_or_else(|| self.refuse("a string"))).transpose()
    }

    pub fn required_text(&self) -> Result<&'a str> {
        self.text()?.ok_or_else(|| self.refuse("a string"))
    }

    pub fn boolean(&self) -> Result<Option<bool>> {
        self.value.map(|value| value.as_bool().ok_or_else(|| self.refuse("true or false"))).transpose()
    }

    pub fn number(&self, range: RangeInclusive<f64>) -> Result<Option<f64>> {
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        let number = |value: &Value| value.as_f64().filter(|number| range.contains(number));
        self.value.map(|value| number(value).ok_or_else(|| self.refuse(&expected()))).transpose()
    }

    pub fn integer(&self, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let expected = || match *range.end() {
            u64::MAX => format!("a whole number from {} on", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        let integer = |value: &Value| value.as_u64().filter(|number| range.contains(number));
        self.value.map(|value| integer(value).ok_or_else(|| self.refuse(&expected()))).transpose()
    }

    pub fn list(&self) -> Result<Option<Vec<Field<'a>>>> {
        let Some(value) = self.value else { return Ok(None) };
        let list = value.as_array().ok_or_else(|| self.refuse("a list"))?;
        if list.len() > LONGEST_LIST {
            return Err(self.error(format!(
                "{}: expected at most {LONGEST_LIST} elements, found {}",
                self.path,
                list.len()
            )));
        }
        Ok(Some(list.iter().enumerate().map(|(index, value)| Self::element(value, &self.path, index)).collect()))
    }

    pub fn object(&self) -> Result<Option<&'a serde_json::Map<String, Value>>> {
        self.value.map(|value| value.as_object().ok_or_else(|| self.refuse("an object"))).transpose()
    }

    /// One of these words.
    pub fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.text()? else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        let expected = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| self.refuse(&format!("one of {}", expected())))
    }
}

/// A value, for an error: short ones as they are.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match value {
        _ if text.len() <= 60 => text,
        Value::String(_) => "another string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        _ => "another value".to_owned(),
    }
}
