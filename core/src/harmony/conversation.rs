//! What a prompt is made of. Everything is borrowed.

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who the model is, and how it is set up.
    System,
    /// Instructions and function tools of the application.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool, by its name.
    Tool,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::System, Self::Developer, Self::User, Self::Assistant, Self::Tool];

    /// As it stands in a header.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// The role with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// The channels that the model was trained on.
pub const CHANNELS: [&str; 3] = [ANALYSIS, COMMENTARY, FINAL];
/// Reasoning, and calls of the built-in tools. Not for end users.
pub const ANALYSIS: &str = "analysis";
/// Calls of function tools, and what the model tells the user before it calls them.
pub const COMMENTARY: &str = "commentary";
/// The answer.
pub const FINAL: &str = "final";

/// The content types that the model was trained to write as a word.
pub const PLAIN_TYPES: [&str; 2] = ["json", "code"];

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Who wrote it.
    pub role: Role,
    /// The name of the tool; for other roles, which of several.
    pub name: Option<&'a str>,
    /// Whom it is for: the tool that is called, or `assistant` for what a tool answers.
    pub recipient: Option<&'a str>,
    /// One of [`CHANNELS`] for what the model writes and for what tools answer.
    pub channel: Option<&'a str>,
    /// What the content is written in.
    pub content_type: Option<ContentType<'a>>,
    /// The parts, each of which is encoded on its own.
    pub content: &'a [Content<'a>],
    /// The model's own tokens, which then stand in the prompt in place of the header and content above.
    pub own_tokens: Option<OwnTokens<'a>>,
}

impl<'a> Message<'a> {
    /// A message without name, recipient, channel and content type.
    pub fn new(role: Role, content: &'a [Content<'a>]) -> Self {
        Self { role, name: None, recipient: None, channel: None, content_type: None, content, own_tokens: None }
    }
}

/// What the content of a message is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType<'a> {
    /// A word in the header, such as `json` or `code`.
    Plain(&'a str),
    /// The same after `<|constrain|>`: the model means to keep to it strictly.
    Constrained(&'a str),
}

impl<'a> ContentType<'a> {
    /// The word itself.
    pub fn name(self) -> &'a str {
        match self {
            Self::Plain(name) | Self::Constrained(name) => name,
        }
    }
}

/// What the model itself wrote as one message, to stand in later prompts exactly as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnTokens<'a> {
    /// What came after `<|start|>` and before the token that ended the message.
    pub tokens: &'a [u32],
    /// Whether the role is missing in `tokens`, because it stood at the end of the prompt.
    pub after_role: bool,
}

/// A part of a message.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Text as it is.
    Text(&'a str),
    /// The parts of a system message. Allowed in messages of that role only.
    System(SystemContent<'a>),
    /// The parts of a developer message. Allowed in messages of that role only.
    Developer(DeveloperContent<'a>),
}

/// How long the model is to reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Little.
    Low,
    /// As a rule.
    Medium,
    /// Much.
    High,
}

impl Effort {
    /// As it stands in the system message.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What a system message says. A part that is `None` or empty is left out.
#[derive(Clone, Copy, Debug)]
pub struct SystemContent<'a> {
    /// Who the model is. The vendor asks to keep the default; a persona goes into the developer's instructions.
    pub identity: Option<&'a str>,
    /// The month that the training data ends with, as `YYYY-MM`.
    pub knowledge_cutoff: Option<&'a str>,
    /// Today, as `YYYY-MM-DD`.
    pub current_date: Option<&'a str>,
    /// How long to reason.
    pub effort: Option<Effort>,
    /// The built-in tools, in the order in which they are shown: by name.
    pub tools: &'a [Namespace<'a>],
    /// The channels that the model may write to.
    pub channels: &'a [&'a str],
    /// Whether the model is told that every message must have a channel.
    pub channel_required: bool,
}

impl Default for SystemContent<'_> {
    fn default() -> Self {
        Self {
            identity: Some("You are ChatGPT, a large language model trained by OpenAI."),
            knowledge_cutoff: Some("2024-06"),
            current_date: None,
            effort: Some(Effort::Medium),
            tools: &[],
            channels: &CHANNELS,
            channel_required: true,
        }
    }
}

/// What a developer message says. A part that is `None` or empty is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeveloperContent<'a> {
    /// What other chat formats call the system prompt.
    pub instructions: Option<&'a str>,
    /// The tools of the application, functions as a rule, in the order in which they are shown: by name.
    pub tools: &'a [Namespace<'a>],
    /// The formats that the model is asked to answer in.
    pub response_formats: &'a [ResponseFormat<'a>],
}

/// The namespace of the tools that an application defines.
pub const FUNCTIONS: &str = "functions";

/// Tools that share a prefix.
#[derive(Clone, Copy, Debug)]
pub struct Namespace<'a> {
    /// What their names begin with, without the dot.
    pub name: &'a str,
    /// What they are for.
    pub description: Option<&'a str>,
    /// The tools, in the order in which they are shown. Without any, the namespace itself is a tool that takes plain text.
    pub tools: &'a [Tool<'a>],
}

/// One function.
#[derive(Clone, Copy, Debug)]
pub struct Tool<'a> {
    /// Its name within the namespace.
    pub name: &'a str,
    /// What it does.
    pub description: &'a str,
    /// The JSON schema of its argument, as JSON text.
    pub parameters: Option<&'a str>,
}

/// A format that the model is asked to answer in.
#[derive(Clone, Copy, Debug)]
pub struct ResponseFormat<'a> {
    /// What it is called.
    pub name: &'a str,
    /// What it is for.
    pub description: Option<&'a str>,
    /// Its JSON schema, as JSON text.
    pub schema: &'a str,
}
