use ossicle_core::schema::{JsonPath, Unsupported};
use ossicle_host::schema::{Arena, explain};
use serde_json::Value;

use super::Warnings;
use super::field::Field;
use crate::error::ApiError;

/// What an answer must look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Format {
    /// Any text.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// What meets a schema.
    JsonSchema {
        /// What it is called.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The schema, as JSON text.
        schema: String,
        /// Whether all of it must be enforced.
        strict: bool,
    },
}

impl Format {
    /// Reads `text.format`, or `response_format` of Chat Completions, which wraps the schema.
    pub fn read(field: &Field<'_>, warnings: &mut Warnings) -> Result<Self, ApiError> {
        if field.value().is_none() {
            return Ok(Self::Text);
        }
        let kind = field.get("type");
        match kind.required_text()? {
            "text" => Ok(Self::Text),
            "json_object" => Ok(Self::JsonObject),
            "json_schema" => {
                let wrapped = field.get("json_schema");
                let field = if wrapped.value().is_some() { &wrapped } else { field };
                let schema = field.get("schema");
                let strict = field.get("strict").boolean()?.unwrap_or(false);
                let object = schema.object()?.ok_or_else(|| schema.refuse("a JSON schema"))?;
                let text = Value::Object(object.clone()).to_string();
                check_schema(&schema, &text, strict, warnings)?;
                Ok(Self::JsonSchema {
                    name: field.get("name").required_text()?.to_owned(),
                    description: field.get("description").text()?.map(str::to_owned),
                    schema: text,
                    strict,
                })
            }
            _ => Err(kind.refuse("text, json_object or json_schema")),
        }
    }
}

/// Whether answers can be held to this schema: all of it if `strict`, else to what is understood of it.
pub fn check_schema(field: &Field<'_>, text: &str, strict: bool, warnings: &mut Warnings) -> Result<(), ApiError> {
    let arena = Arena::new();
    let compiled = arena.schema(text, unsupported(strict));
    let schema = compiled
        .map_err(|error| field.unsupported(&format!("the schema cannot be enforced: {}", explain(&error, text))))?;
    for warning in schema.warnings() {
        let place = JsonPath { text, offset: warning.offset };
        warnings.add(format!("{}: {} at {place} is not enforced", field.path(), warning.keyword));
    }
    Ok(())
}

/// What happens to keywords that cannot be enforced.
pub fn unsupported(strict: bool) -> Unsupported {
    if strict { Unsupported::Refuse } else { Unsupported::Ignore }
}
