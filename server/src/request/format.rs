use super::field::Field;
use crate::error::ApiError;

/// What an answer must look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Any text.
    #[default]
    Text,
}

impl Format {
    /// Reads `text.format`, or `response_format` of Chat Completions.
    pub fn read(field: &Field<'_>) -> Result<Self, ApiError> {
        if field.value().is_none() {
            return Ok(Self::Text);
        }
        let kind = field.get("type");
        match kind.required_text()? {
            "text" => Ok(Self::Text),
            "json_object" | "json_schema" => {
                Err(kind.unsupported("this server does not constrain answers to JSON; use text, or a function tool"))
            }
            _ => Err(kind.refuse("text, json_object or json_schema")),
        }
    }
}
