//! A conversation as the tokens of a prompt.
//!
//! Each part of a header and each part of a content is encoded on its own, always as ordinary text. Special tokens stand
//! where the format puts them and nowhere else.

use core::fmt;

use super::conversation::{
    Content, ContentType, DeveloperContent, FINAL, FUNCTIONS, Message, Namespace, OwnTokens, Role, SystemContent,
};
use super::history::{Facts, Filter, History};
use super::text::Text;
use super::{SpecialTokens, Vocabulary, type_text};
use crate::error::Result;
use crate::file::json;

/// Where the official library and what the model was trained on differ, which of them to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// What the model was trained on and writes itself.
    #[default]
    Trained,
    /// `openai-harmony` 0.0.8, token by token.
    Library,
}

/// What follows the last message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    #[default]
    Nothing,
    /// `<|start|>` and a role, whose message the model is to write.
    NextMessage(Role),
    /// Nothing, but a last message of the assistant on the final channel ends with `<|return|>`, as it does when the model
    /// writes it.
    Training,
}

/// Renders conversations.
#[derive(Clone, Copy, Debug)]
pub struct Renderer<'v, V> {
    /// Turns text into tokens.
    pub vocabulary: &'v V,
    /// The tokens around text.
    pub special: SpecialTokens,
    /// Which form headers and types have.
    pub form: Form,
    /// What happens to past reasoning.
    pub history: History,
}

impl<'v, V: Vocabulary> Renderer<'v, V> {
    /// With the default form and history.
    pub fn new(vocabulary: &'v V, special: SpecialTokens) -> Self {
        Self { vocabulary, special, form: Form::default(), history: History::default() }
    }

    /// Gives `emit` the tokens of the conversation. `scratch` is memory to put texts together in; [`Self::scratch_size`]
    /// says how many bytes of it this conversation takes.
    ///
    /// # Errors
    /// A [`RenderError`], if the conversation cannot be rendered or `scratch` is too small. Tokens may have been given
    /// before that; they are of no use then.
    pub fn render(
        &self,
        messages: &[Message],
        ending: Ending,
        scratch: &mut [u8],
        emit: &mut dyn FnMut(u32),
    ) -> Result<()> {
        let function_tools = has_function_tools(messages);
        let filter = Filter::over(self.history, messages.iter().map(Facts::of_message));
        let mut rendering = Rendering { renderer: self, scratch, need: None, emit };
        for (index, message) in messages.iter().enumerate() {
            if filter.keeps(index, Facts::of_message(message)) {
                let is_last = index + 1 == messages.len();
                rendering.message(index, message, function_tools, is_last && ending == Ending::Training)?;
            }
        }
        if let Ending::NextMessage(role) = ending {
            (rendering.emit)(self.special.start);
            rendering.encode(role.name());
        }
        Ok(())
    }

    /// Gives `emit` the tokens of a single message, which has the number `index` in errors. `function_tools` says whether the
    /// conversation has function tools, which the system message mentions.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_message(
        &self,
        index: usize,
        message: &Message,
        function_tools: bool,
        scratch: &mut [u8],
        emit: &mut dyn FnMut(u32),
    ) -> Result<()> {
        Rendering { renderer: self, scratch, need: None, emit }.message(index, message, function_tools, false)
    }

    /// The size of the scratch memory that rendering takes, in bytes: that of the longest text put together, usually the
    /// developer message with its tools.
    ///
    /// # Errors
    /// A [`RenderError`], if the conversation cannot be rendered.
    pub fn scratch_size(&self, messages: &[Message]) -> Result<usize> {
        let function_tools = has_function_tools(messages);
        let filter = Filter::over(self.history, messages.iter().map(Facts::of_message));
        let mut size = 0;
        for (index, message) in messages.iter().enumerate() {
            if filter.keeps(index, Facts::of_message(message)) {
                let mut nothing = |_| {};
                let mut rendering = Rendering { renderer: self, scratch: &mut [], need: Some(0), emit: &mut nothing };
                rendering.message(index, message, function_tools, false)?;
                size = size.max(rendering.need.unwrap_or(0));
            }
        }
        Ok(size)
    }
}

/// Whether a developer message defines functions, which the system message then mentions.
pub fn has_function_tools(messages: &[Message]) -> bool {
    messages.iter().flat_map(|message| message.content).any(|content| match content {
        Content::Developer(developer) => {
            developer.tools.iter().any(|namespace| namespace.name == FUNCTIONS && !namespace.tools.is_empty())
        }
        _ => false,
    })
}

struct Rendering<'r, V> {
    renderer: &'r Renderer<'r, V>,
    scratch: &'r mut [u8],
    /// If only the size of the scratch memory is asked for: what it takes so far.
    need: Option<usize>,
    emit: &'r mut dyn FnMut(u32),
}

impl<V: Vocabulary> Rendering<'_, V> {
    fn message(&mut self, index: usize, message: &Message, function_tools: bool, ends_turn: bool) -> Result<()> {
        let special = self.renderer.special;
        (self.emit)(special.start);
        match message.own_tokens {
            Some(own) => self.own_tokens(index, message, own)?,
            None => {
                self.header(index, message)?;
                (self.emit)(special.message);
                for content in message.content {
                    self.content(index, message.role, content, function_tools)?;
                }
            }
        }
        let is_call = message.role == Role::Assistant
            && message.recipient.is_some_and(|name| name != ALL || self.renderer.form == Form::Library);
        let is_answer = message.role == Role::Assistant && message.channel == Some(FINAL);
        (self.emit)(match (is_answer && ends_turn, is_call) {
            (true, _) => special.return_,
            (false, true) => special.call,
            (false, false) => special.end,
        });
        Ok(())
    }

    fn own_tokens(&mut self, index: usize, message: &Message, own: OwnTokens) -> Result<()> {
        let special = self.renderer.special;
        let ends = [special.start, special.end, special.call, special.return_, special.end_of_text];
        if let Some(position) = own.tokens.iter().position(|token| ends.contains(token)) {
            return Err(RenderError::OwnTokens { message: index, position }.into());
        }
        if own.after_role {
            self.role(index, message)?;
        }
        own.tokens.iter().for_each(|&token| (self.emit)(token));
        Ok(())
    }

    fn role(&mut self, index: usize, message: &Message) -> Result<()> {
        match (message.role, message.name) {
            (Role::Tool, Some(name)) => self.encode(name),
            (Role::Tool, None) => return Err(RenderError::ToolWithoutName { message: index }.into()),
            (role, name) => {
                self.encode(role.name());
                if let Some(name) = name {
                    self.join(&[":", name])?;
                }
            }
        }
        Ok(())
    }

    fn header(&mut self, index: usize, message: &Message) -> Result<()> {
        self.role(index, message)?;
        let recipient = message.recipient.filter(|&name| name != ALL);
        // The model writes whom it calls after the channel; the library puts it before.
        let trained = self.renderer.form == Form::Trained && message.role == Role::Assistant;
        let (before, after) = match message.channel {
            Some(_) if trained => (None, recipient),
            _ => (recipient, None),
        };
        if let Some(recipient) = before {
            self.join(&[" to=", recipient])?;
        }
        if let Some(channel) = message.channel {
            (self.emit)(self.renderer.special.channel);
            self.encode(channel);
        }
        if let Some(recipient) = after {
            self.join(&[" to=", recipient])?;
        }
        match message.content_type {
            None => {}
            Some(ContentType::Plain(name)) => self.join(&[" ", name])?,
            Some(ContentType::Constrained(name)) => {
                self.encode(" ");
                (self.emit)(self.renderer.special.constrain);
                self.encode(name);
            }
        }
        Ok(())
    }

    fn content(&mut self, index: usize, role: Role, content: &Content, function_tools: bool) -> Result<()> {
        match content {
            Content::Text(text) => {
                self.encode(text);
                Ok(())
            }
            Content::System(_) if role != Role::System => {
                Err(RenderError::SystemContent { message: index, role }.into())
            }
            Content::Developer(_) if role != Role::Developer => {
                Err(RenderError::DeveloperContent { message: index, role }.into())
            }
            Content::System(system) => {
                let form = self.renderer.form;
                self.assemble(|text| system_text(text, system, function_tools, form, index))
            }
            Content::Developer(developer) => {
                let form = self.renderer.form;
                self.assemble(|text| developer_text(text, developer, form, index))
            }
        }
    }

    /// One text out of several.
    fn join(&mut self, parts: &[&str]) -> Result<()> {
        self.assemble(|text| {
            parts.iter().for_each(|part| text.push(part));
            Ok(())
        })
    }

    /// Encodes what `write` writes as one text.
    fn assemble(&mut self, write: impl FnOnce(&mut Text) -> Result<()>) -> Result<()> {
        let have = self.scratch.len();
        let mut text = Text::new(self.scratch);
        write(&mut text)?;
        if let Some(need) = &mut self.need {
            *need = text.len().max(*need);
            return Ok(());
        }
        match text.as_str() {
            Some(text) => self.renderer.vocabulary.encode_ordinary(text, self.emit),
            None => return Err(RenderError::ScratchTooSmall { need: text.len(), have }.into()),
        }
        Ok(())
    }

    fn encode(&mut self, text: &str) {
        if self.need.is_none() {
            self.renderer.vocabulary.encode_ordinary(text, self.emit);
        }
    }
}

/// A recipient that means everyone, and so is not written.
const ALL: &str = "all";

/// Blocks of text with a blank line between them.
struct Blocks<'t, 's> {
    text: &'t mut Text<'s>,
    is_first: bool,
}

impl<'s> Blocks<'_, 's> {
    fn next(&mut self) -> &mut Text<'s> {
        if !self.is_first {
            self.text.push("\n\n");
        }
        self.is_first = false;
        self.text
    }
}

fn system_text(
    text: &mut Text,
    system: &SystemContent,
    function_tools: bool,
    form: Form,
    message: usize,
) -> Result<()> {
    let mut blocks = Blocks { text, is_first: true };
    let lines = [
        ("", system.identity),
        ("Knowledge cutoff: ", system.knowledge_cutoff),
        ("Current date: ", system.current_date),
    ];
    for (place, (label, value)) in lines.into_iter().filter(|(_, value)| value.is_some()).enumerate() {
        let text = match place {
            0 => blocks.next(),
            _ => {
                blocks.text.push("\n");
                &mut *blocks.text
            }
        };
        text.push(label);
        text.push(value.unwrap_or(""));
    }
    if let Some(effort) = system.effort {
        let text = blocks.next();
        text.push("Reasoning: ");
        text.push(effort.name());
    }
    tools_text(&mut blocks, system.tools, form, message)?;
    if !system.channels.is_empty() {
        let text = blocks.next();
        text.push("# Valid channels: ");
        for (place, channel) in system.channels.iter().enumerate() {
            text.push(if place > 0 { ", " } else { "" });
            text.push(channel);
        }
        text.push(".");
        if system.channel_required {
            text.push(" Channel must be included for every message.");
        }
        if function_tools {
            text.push("\nCalls to these tools must go to the commentary channel: 'functions'.");
        }
    }
    Ok(())
}

fn developer_text(text: &mut Text, developer: &DeveloperContent, form: Form, message: usize) -> Result<()> {
    let mut blocks = Blocks { text, is_first: true };
    if let Some(instructions) = developer.instructions {
        blocks.next().push("# Instructions");
        blocks.next().push(instructions);
    }
    tools_text(&mut blocks, developer.tools, form, message)?;
    if !developer.response_formats.is_empty() {
        blocks.next().push("# Response Formats");
    }
    for format in developer.response_formats {
        let text = blocks.next();
        text.push("## ");
        text.push(format.name);
        let text = blocks.next();
        if let Some(description) = format.description {
            comment(text, description);
        }
        let schema = json::parse(format.schema.as_bytes()).map_err(|error| RenderError::Schema {
            message,
            tool: None,
            offset: error.offset,
            expected: error.expected,
        })?;
        type_text::write_json(text, schema);
    }
    Ok(())
}

fn tools_text(blocks: &mut Blocks, namespaces: &[Namespace], form: Form, message: usize) -> Result<()> {
    if !namespaces.is_empty() {
        blocks.next().push("# Tools");
    }
    let mut index = 0;
    for namespace in namespaces {
        let text = blocks.next();
        text.push("## ");
        text.push(namespace.name);
        text.push("\n");
        for line in namespace.description.unwrap_or("").lines() {
            text.push(if namespace.tools.is_empty() { "\n" } else { "\n// " });
            text.push(line);
        }
        if namespace.tools.is_empty() {
            continue;
        }
        text.push("\nnamespace ");
        text.push(namespace.name);
        text.push(" {\n\n");
        for tool in namespace.tools {
            comment(text, tool.description);
            text.push("type ");
            text.push(tool.name);
            text.push(" = (");
            if let Some(parameters) = tool.parameters {
                let schema = json::parse(parameters.as_bytes()).map_err(|error| RenderError::Schema {
                    message,
                    tool: Some(index),
                    offset: error.offset,
                    expected: error.expected,
                })?;
                text.push("_: ");
                type_text::write(text, schema, form);
            }
            text.push(") => any;\n\n");
            index += 1;
        }
        text.push("} // namespace ");
        text.push(namespace.name);
    }
    Ok(())
}

/// Each line after two slashes.
fn comment(text: &mut Text, lines: &str) {
    for line in lines.lines() {
        text.push("// ");
        text.push(line);
        text.push("\n");
    }
}

/// Why a conversation cannot be rendered. Messages are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenderError {
    /// A message of a tool has no name.
    ToolWithoutName {
        /// Which message.
        message: usize,
    },
    /// The parts of a system message stand in a message of another role.
    SystemContent {
        /// Which message.
        message: usize,
        /// Its role.
        role: Role,
    },
    /// The parts of a developer message stand in a message of another role.
    DeveloperContent {
        /// Which message.
        message: usize,
        /// Its role.
        role: Role,
    },
    /// A schema is not JSON.
    Schema {
        /// Which message.
        message: usize,
        /// Which tool of the message, over all its namespaces, from 0; `None` for a response format.
        tool: Option<usize>,
        /// Where in the schema, in bytes.
        offset: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// A message's own tokens hold one that begins or ends a message.
    OwnTokens {
        /// Which message.
        message: usize,
        /// Which token, from 0.
        position: usize,
    },
    /// The scratch memory is too small. Sizes in bytes.
    ScratchTooSmall {
        /// What the text at hand takes.
        need: usize,
        /// What there is.
        have: usize,
    },
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToolWithoutName { message } => write!(f, "message {message}: a tool message needs the tool's name"),
            Self::SystemContent { message, role } => {
                write!(f, "message {message}: system content in a message of the {}", role.name())
            }
            Self::DeveloperContent { message, role } => {
                write!(f, "message {message}: developer content in a message of the {}", role.name())
            }
            Self::Schema { message, tool: Some(tool), offset, expected } => {
                write!(f, "message {message}, parameters of tool {tool}, byte {offset}: expected {expected}")
            }
            Self::Schema { message, tool: None, offset, expected } => {
                write!(f, "message {message}, schema of a response format, byte {offset}: expected {expected}")
            }
            Self::OwnTokens { message, position } => {
                write!(f, "message {message}: own token {position} begins or ends a message")
            }
            Self::ScratchTooSmall { need, have } => {
                write!(f, "the scratch memory has {have} bytes; a text takes {need}")
            }
        }
    }
}

impl core::error::Error for RenderError {}
