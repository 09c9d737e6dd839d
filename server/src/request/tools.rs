//! The tools of a request, and which of them may be called.

use ossicle_core::harmony::builtin::{BROWSER, PYTHON};
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
    /// An object, for the server's browser.
    Browser,
}

impl ToolKind {
    /// Whether the server carries out the calls.
    pub fn is_built_in(self) -> bool {
        matches!(self, Self::Code | Self::Browser)
    }
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

    /// One that the model knows.
    fn built_in(kind: ToolKind, namespace: &str, name: &str) -> Self {
        let [namespace, name] = [namespace, name].map(str::to_owned);
        Self { kind, namespace, name, description: String::new(), parameters: None, strict: false }
    }
}

/// What the server has for those who ask for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltInTools {
    /// Python, by the type `code_interpreter`.
    pub python: bool,
    /// A browser, by the types of a web search.
    pub browser: bool,
}

/// What clients call a web search.
fn is_web_search(kind: &str) -> bool {
    kind == "browser_search"
        || ["web_search", "web_search_preview"].iter().any(|name| {
            // Some have a date behind their name.
            kind.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("_2"))
        })
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
    /// The domains that the browser may see; none for any.
    pub domains: Vec<String>,
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
    pub fn read(field: &Field<'_>, built_in: BuiltInTools, warnings: &mut Warnings) -> Result<Self, ApiError> {
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
                "code_interpreter" if built_in.python => {
                    if !tools.has(ToolKind::Code) {
                        tools.list.push(Tool::built_in(ToolKind::Code, "", PYTHON.name));
                    }
                }
                kind if built_in.browser && is_web_search(kind) => tools.add_browser(&field, warnings)?,
                _ => tools.add(&field, FUNCTIONS, warnings)?,
            }
        }
        Ok(tools)
    }

    /// Whether there is one of this kind.
    pub fn has(&self, kind: ToolKind) -> bool {
        self.list.iter().any(|tool| tool.kind == kind)
    }

    fn add_browser(&mut self, field: &Field<'_>, warnings: &mut Warnings) -> Result<(), ApiError> {
        if !field.get("external_web_access").boolean()?.unwrap_or(true) {
            warnings.add("tools: there is no web search without access to the web, and it was left out".to_owned());
            return Ok(());
        }
        for domain in field.get_object("filters")?.get("allowed_domains").list()?.unwrap_or_default() {
            self.domains.push(domain.required_text()?.to_ascii_lowercase());
        }
        if self.has(ToolKind::Browser) {
            return Ok(());
        }
        for function in BROWSER.tools {
            let tool = Tool::built_in(ToolKind::Browser, BROWSER.name, function.name);
            if self.find(&tool.recipient()).is_some() {
                return Err(field.refuse(&format!("no other tool with the name {}", tool.recipient())));
            }
            self.list.push(tool);
        }
        Ok(())
    }

    /// The names by which the model calls those of a kind.
    fn recipients(&self, kind: ToolKind) -> Vec<String> {
        self.list.iter().filter(|tool| tool.kind == kind).map(Tool::recipient).collect()
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
        let mut description = field.get("description").text()?.unwrap_or("").to_owned();
        let schema_text = match kind {
            ToolKind::Code | ToolKind::Browser => None,
            ToolKind::Function => parameters.object()?.map(|_| parameters.value().unwrap_or(&Value::Null).to_string()),
            ToolKind::Custom => {
                let format = field.get_object("format")?;
                // Chat Completions have it a level deeper.
                let nested = format.get_object("grammar")?;
                let grammar = if nested.value().is_some() { nested } else { format };
                if let Some(definition) = grammar.get("definition").text()? {
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
                kind if built_in(kind).is_some_and(|kind| tools.has(kind)) => {
                    Self { callable: built_in(kind).map_or(Vec::new(), |kind| tools.recipients(kind)), required: true }
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
                            kind if built_in(kind).is_some_and(|kind| tools.has(kind)) => {
                                callable.extend(built_in(kind).into_iter().flat_map(|kind| tools.recipients(kind)));
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

/// What the server has under this type.
fn built_in(kind: &str) -> Option<ToolKind> {
    match kind {
        "code_interpreter" => Some(ToolKind::Code),
        kind if is_web_search(kind) => Some(ToolKind::Browser),
        _ => None,
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
