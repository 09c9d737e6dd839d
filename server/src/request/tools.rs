//! The tools of a request, and which of them may be called.

use ossicle_core::harmony::builtin::PYTHON;
use ossicle_core::harmony::conversation::FUNCTIONS;
use serde_json::{Value, json};

use super::Warnings;
use super::field::Field;
use super::format::check_schema;
use crate::error::ApiError;

/// What an application's tool takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind {
    /// An object, by a schema.
    Function,
    /// Text.
    Custom,
    /// Source code, which the server runs.
    Code,
}

/// A tool of the application.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// What it takes.
    pub kind: ToolKind,
    /// The namespace as the model is told it: [`FUNCTIONS`], or the one that the request gives.
    pub namespace: String,
    /// Its name within.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The JSON schema of its argument, as JSON text.
    pub parameters: Option<String>,
    /// Whether the argument must keep to the schema.
    pub strict: bool,
}

impl Tool {
    /// The name by which the model calls it.
    pub fn recipient(&self) -> String {
        recipient(Some(&self.namespace), &self.name)
    }

    /// Whether the model calls it by this name.
    fn is(&self, recipient: &str) -> bool {
        let name = match &*self.namespace {
            "" => Some(recipient),
            namespace => recipient.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('.')),
        };
        name == Some(&*self.name)
    }

    /// The namespace, if the request gives one.
    pub fn given_namespace(&self) -> Option<&str> {
        Some(&*self.namespace).filter(|namespace| *namespace != FUNCTIONS)
    }

    /// Python, which the model knows.
    fn python() -> Self {
        Self {
            kind: ToolKind::Code,
            namespace: String::new(),
            name: PYTHON.name.into(),
            description: String::new(),
            parameters: None,
            strict: false,
        }
    }
}

/// The name by which the model calls a tool.
pub fn recipient(namespace: Option<&str>, name: &str) -> String {
    match namespace.unwrap_or(FUNCTIONS) {
        "" => name.to_owned(),
        namespace => format!("{namespace}.{name}"),
    }
}

/// All tools of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tools {
    /// In the order of the request.
    pub list: Vec<Tool>,
    /// The namespaces that the request describes.
    pub descriptions: Vec<(String, String)>,
}

/// Most tools of a request.
const MOST_TOOLS: usize = 1024;
/// Most of them whose arguments keep to their schemas, each of which takes megabytes.
const MOST_STRICT: usize = 128;

impl Tools {
    /// The tool that the model calls by this name.
    pub fn find(&self, recipient: &str) -> Option<&Tool> {
        self.list.iter().find(|tool| tool.is(recipient))
    }

    /// Reads `tools`. Types that this server does not have are left out, with a warning.
    pub fn read(field: &Field<'_>, has_python: bool, warnings: &mut Warnings) -> Result<Self, ApiError> {
        let mut tools = Self::default();
        for field in field.list()?.unwrap_or_default() {
            match field.get("type").required_text()? {
                "namespace" => {
                    let name = name(&field.get("name"))?;
                    if let Some(description) = field.get("description").text()? {
                        tools.descriptions.push((name.to_owned(), description.to_owned()));
                    }
                    for field in field.get("tools").list()?.unwrap_or_default() {
                        tools.add(&field, name, warnings)?;
                    }
                }
                "code_interpreter" if has_python => {
                    if tools.find(PYTHON.name).is_none() {
                        tools.list.push(Tool::python());
                    }
                }
                _ => tools.add(&field, FUNCTIONS, warnings)?,
            }
        }
        Ok(tools)
    }

    /// Reads one function or custom tool.
    pub fn add(&mut self, field: &Field<'_>, namespace: &str, warnings: &mut Warnings) -> Result<(), ApiError> {
        let kind = match field.get("type").required_text()? {
            "function" => ToolKind::Function,
            "custom" => ToolKind::Custom,
            other => {
                warnings.add(format!("tools: those of type {other:?} are not available and were left out"));
                return Ok(());
            }
        };
        self.add_as(field, kind, namespace, warnings)
    }

    /// Reads the definition of a tool whose type is known.
    pub fn add_as(
        &mut self,
        field: &Field<'_>,
        kind: ToolKind,
        namespace: &str,
        warnings: &mut Warnings,
    ) -> Result<(), ApiError> {
        let parameters = field.get("parameters");
        let grammar = field.get("format").get("definition");
        let mut description = field.get("description").text()?.unwrap_or("").to_owned();
        let schema_text = match kind {
            ToolKind::Code => None,
            ToolKind::Function => parameters.object()?.map(|_| parameters.value().unwrap_or(&Value::Null).to_string()),
            ToolKind::Custom => {
                if let Some(definition) = grammar.text()? {
                    // What the model cannot be held to, it is told.
                    description = format!("{description}\nThe input follows this grammar:\n{definition}");
                    warnings.add("tools: grammars are told to the model, but not enforced".into());
                }
                Some(json!({ "type": "string" }).to_string())
            }
        };
        let strict = field.get("strict").boolean()?.unwrap_or(false);
        if let (true, Some(schema), ToolKind::Function) = (strict, &schema_text, kind) {
            check_schema(&field.get("parameters"), schema, strict, warnings)?;
        }
        let tool = Tool {
            kind,
            namespace: namespace.to_owned(),
            name: name(&field.get("name"))?.to_owned(),
            description,
            parameters: schema_text,
            strict,
        };
        if self.find(&tool.recipient()).is_some() {
            return Err(field.get("name").refuse("a name that no other tool has"));
        }
        if self.list.len() == MOST_TOOLS {
            return Err(field.refuse(&format!("at most {MOST_TOOLS} tools")));
        }
        if tool.strict && self.list.iter().filter(|tool| tool.strict).count() == MOST_STRICT {
            return Err(field.refuse(&format!("at most {MOST_STRICT} strict tools")));
        }
        self.list.push(tool);
        Ok(())
    }
}

/// A name that can stand in a header.
fn name<'a>(field: &Field<'a>) -> Result<&'a str, ApiError> {
    let name = field.required_text()?;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if name.is_empty() || name.len() > 128 || !is_plain {
        return Err(field.refuse("1 to 128 letters, digits, underscores, dashes and dots"));
    }
    Ok(name)
}

/// Which tools may be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolChoice {
    /// Those that may be, by the names by which the model calls them.
    pub callable: Vec<String>,
    /// Whether one of them must be.
    pub required: bool,
}

impl ToolChoice {
    /// Reads `tool_choice`.
    pub fn read(field: &Field<'_>, tools: &Tools, warnings: &mut Warnings) -> Result<Self, ApiError> {
        let all = || tools.list.iter().map(Tool::recipient).collect::<Vec<_>>();
        let Some(value) = field.value() else { return Ok(Self { callable: all(), required: false }) };
        let choice = if value.is_string() {
            let words = [("auto", (true, false)), ("none", (false, false)), ("required", (true, true))];
            let (any, required) = field.choice(&words)?.unwrap_or((true, false));
            Self { callable: if any { all() } else { Vec::new() }, required }
        } else {
            match field.get("type").required_text()? {
                "function" | "custom" => {
                    // Chat Completions wraps the name.
                    let wrapped = field.get(field.get("type").required_text()?);
                    let named = if wrapped.value().is_some() { wrapped } else { field.clone() };
                    Self { callable: vec![known(&named, tools)?], required: true }
                }
                "code_interpreter" if tools.find(PYTHON.name).is_some() => {
                    Self { callable: vec![PYTHON.name.into()], required: true }
                }
                "allowed_tools" => {
                    let wrapped = field.get("allowed_tools");
                    let field = if wrapped.value().is_some() { &wrapped } else { field };
                    let required = field.get("mode").choice(&[("auto", false), ("required", true)])?.unwrap_or(false);
                    let mut callable = Vec::new();
                    for tool in field.get("tools").list()?.unwrap_or_default() {
                        let kind = tool.get("type").required_text()?;
                        let wrapped = tool.get(kind);
                        let named = if wrapped.value().is_some() { wrapped } else { tool.clone() };
                        match kind {
                            "function" | "custom" => callable.push(known(&named, tools)?),
                            "code_interpreter" if tools.find(PYTHON.name).is_some() => {
                                callable.push(PYTHON.name.into())
                            }
                            other => warnings.add(format!("tool_choice: there are no tools of type {other:?}")),
                        }
                    }
                    Self { callable, required }
                }
                other => {
                    warnings.add(format!("tool_choice: there are no tools of type {other:?}"));
                    Self { callable: all(), required: false }
                }
            }
        };
        if choice.required && choice.callable.is_empty() {
            return Err(field.refuse("at least one tool that can be called"));
        }
        Ok(choice)
    }
}

fn known(field: &Field<'_>, tools: &Tools) -> Result<String, ApiError> {
    let name = field.get("name");
    let recipient = recipient(field.get("namespace").text()?, name.required_text()?);
    match tools.find(&recipient) {
        Some(_) => Ok(recipient),
        None => Err(name.refuse("the name of a tool of this request")),
    }
}
