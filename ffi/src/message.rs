//! Chapter 10, first part: conversations as C structs.

use ossicle_core::harmony::builtin::{BROWSER, PYTHON};
use ossicle_core::harmony::conversation::{
    Content, ContentType, DeveloperContent, Effort, FUNCTIONS, Message, Namespace, OwnTokens, ResponseFormat, Role,
    SystemContent, Tool,
};
use ossicle_core::harmony::history::History;
use ossicle_core::region::Carver;

use crate::input::{Array, Versioned, argument, ossicle_text, slice_of};
use crate::status::Result;

/// The user.
pub const OSSICLE_ROLE_USER: u32 = 0;
/// Who the model is, and how it is set up.
pub const OSSICLE_ROLE_SYSTEM: u32 = 1;
/// Instructions and tools of the application.
pub const OSSICLE_ROLE_DEVELOPER: u32 = 2;
/// The model.
pub const OSSICLE_ROLE_ASSISTANT: u32 = 3;
/// A tool, by its name.
pub const OSSICLE_ROLE_TOOL: u32 = 4;

/// The default: medium.
pub const OSSICLE_EFFORT_DEFAULT: u32 = 0;
/// Little reasoning.
pub const OSSICLE_EFFORT_LOW: u32 = 1;
/// Reasoning as a rule.
pub const OSSICLE_EFFORT_MEDIUM: u32 = 2;
/// Much reasoning.
pub const OSSICLE_EFFORT_HIGH: u32 = 3;

/// The model may search the web, if the host answers its calls of `browser.search`, `browser.open` and `browser.find`.
pub const OSSICLE_TOOL_BROWSER: u32 = 1;
/// The model may run Python, if the host answers its calls of `python`.
pub const OSSICLE_TOOL_PYTHON: u32 = 2;

/// Past reasoning is left out as OpenAI's guide says: what led to earlier answers goes, what a tool call waits for stays.
pub const OSSICLE_HISTORY_DOCUMENTED: u32 = 0;
/// Past reasoning is left out as OpenAI's library does it.
pub const OSSICLE_HISTORY_LIBRARY: u32 = 1;
/// All reasoning stays.
pub const OSSICLE_HISTORY_KEEP_ALL: u32 = 2;

/// What a system message says. Of a text, null stands for the default, and an empty text leaves it out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_system {
    /// sizeof (ossicle_system).
    pub struct_size: u32,
    /// OSSICLE_EFFORT_*.
    pub effort: u32,
    /// OSSICLE_TOOL_* of the tools that the model was trained with, added up.
    pub tools: u32,
    /// 0.
    pub reserved: u32,
    /// Who the model is. OpenAI asks to keep the default; a persona goes into the instructions of the developer.
    pub identity: ossicle_text,
    /// The month that the training data ends with, as `YYYY-MM`; by default that of the published models.
    pub knowledge_cutoff: ossicle_text,
    /// Today, as `YYYY-MM-DD`; by default left out.
    pub current_date: ossicle_text,
}

/// A function that the model may call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_tool {
    /// sizeof (ossicle_tool).
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Its name, without `functions.`.
    pub name: ossicle_text,
    /// What it does.
    pub description: ossicle_text,
    /// The JSON schema of its argument; null if it has none.
    pub parameters: ossicle_text,
}

/// A format that the model is asked to answer in.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_response_format {
    /// sizeof (ossicle_response_format).
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// What it is called.
    pub name: ossicle_text,
    /// What it is for; may be null.
    pub description: ossicle_text,
    /// Its JSON schema.
    pub schema: ossicle_text,
}

/// What a developer message says.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_developer {
    /// sizeof (ossicle_developer).
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// What other chat formats call the system prompt; may be null.
    pub instructions: ossicle_text,
    /// Functions, in the order in which they are shown: by name. A turn is told too which of them may be called.
    pub tools: *const ossicle_tool,
    /// How many.
    pub tool_count: usize,
    /// Formats that the model is asked to answer in.
    pub response_formats: *const ossicle_response_format,
    /// How many.
    pub response_format_count: usize,
}

/// One message. All texts that are null are left out.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ossicle_message {
    /// sizeof (ossicle_message).
    pub struct_size: u32,
    /// OSSICLE_ROLE_*.
    pub role: u32,
    /// What it says, as it is.
    pub text: ossicle_text,
    /// The name of the tool that answers: `functions.f`; for other roles, which of several.
    pub name: ossicle_text,
    /// Whom it is for: the tool that is called, or `assistant` for what a tool answers.
    pub recipient: ossicle_text,
    /// `analysis`, `commentary` or `final`, for what the model wrote and for what tools answer.
    pub channel: ossicle_text,
    /// What the text is written in: `json`, `code`.
    pub content_type: ossicle_text,
    /// Not 0: the model means to keep to the content type strictly.
    pub constrained: u32,
    /// Not 0: the role is missing in `own_tokens`, because it stood at the end of the prompt.
    pub own_tokens_after_role: u32,
    /// The parts of a system message; only in messages of that role.
    pub system: *const ossicle_system,
    /// The parts of a developer message; only in messages of that role.
    pub developer: *const ossicle_developer,
    /// What the model itself wrote as this message, which then stands in place of the header and text above: the tokens
    /// after `<|start|>` and before the one that ended it. Null if there are none.
    pub own_tokens: *const u32,
    /// How many.
    pub own_token_count: usize,
}

// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_system {}
// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_tool {}
// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_response_format {}
// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_developer {}
// SAFETY: pointers that may be null, and numbers.
unsafe impl Versioned for ossicle_message {}

/// Messages as the core has them. The texts are the caller's, the lists are carved; while measuring there are none.
///
/// # Safety
/// As the header says of the messages.
pub(crate) unsafe fn carve_messages<'r>(
    carver: &mut Carver<'r>,
    messages: Array<ossicle_message>,
) -> Result<&'r [Message<'r>]> {
    // SAFETY: the index is below the length.
    each(carver, messages.len, |carver, index| unsafe { carve_message(carver, messages.get(index)?) })
}

/// A carved list whose elements can fail at the border too.
fn each<'r, T>(
    carver: &mut Carver<'r>,
    len: usize,
    mut make: impl FnMut(&mut Carver<'r>, usize) -> Result<T>,
) -> Result<&'r [T]> {
    let mut failure = None;
    let made = carver.carve_each(len, |carver, index| {
        make(carver, index).map_err(|found| {
            failure = Some(found);
            ossicle_core::error::Error::State("")
        })
    });
    match (made, failure) {
        (_, Some(failure)) => Err(failure),
        (made, None) => Ok(made?),
    }
}

/// # Safety
/// As the header says of the message.
unsafe fn carve_message<'r>(carver: &mut Carver<'r>, message: ossicle_message) -> Result<Message<'r>> {
    // SAFETY: as the caller promises.
    let (text, system, developer, tokens) = unsafe {
        (
            message.text.read()?.map(Content::Text),
            carve_system(message.system)?.map(Content::System),
            carve_developer(carver, message.developer)?.map(Content::Developer),
            slice_of(message.own_tokens, message.own_token_count)?,
        )
    };
    let mut parts = [system, developer, text].into_iter().flatten();
    let count = parts.clone().count();
    let content = carver.try_from_fn(count, |_| Ok(parts.next().unwrap_or(Content::Text(""))))?;
    // SAFETY: as the caller promises.
    let (name, recipient, channel, content_type) = unsafe {
        (message.name.read()?, message.recipient.read()?, message.channel.read()?, message.content_type.read()?)
    };
    Ok(Message {
        role: role_of(message.role)?,
        name,
        recipient,
        channel,
        content_type: content_type.map(|name| match message.constrained {
            0 => ContentType::Plain(name),
            _ => ContentType::Constrained(name),
        }),
        content,
        own_tokens: (!message.own_tokens.is_null())
            .then_some(OwnTokens { tokens, after_role: message.own_tokens_after_role != 0 }),
    })
}

pub(crate) fn role_of(role: u32) -> Result<Role> {
    match role {
        OSSICLE_ROLE_USER => Ok(Role::User),
        OSSICLE_ROLE_SYSTEM => Ok(Role::System),
        OSSICLE_ROLE_DEVELOPER => Ok(Role::Developer),
        OSSICLE_ROLE_ASSISTANT => Ok(Role::Assistant),
        OSSICLE_ROLE_TOOL => Ok(Role::Tool),
        _ => argument("a role from OSSICLE_ROLE_USER to OSSICLE_ROLE_TOOL"),
    }
}

pub(crate) fn role_number(role: Role) -> u32 {
    match role {
        Role::User => OSSICLE_ROLE_USER,
        Role::System => OSSICLE_ROLE_SYSTEM,
        Role::Developer => OSSICLE_ROLE_DEVELOPER,
        Role::Assistant => OSSICLE_ROLE_ASSISTANT,
        Role::Tool => OSSICLE_ROLE_TOOL,
    }
}

pub(crate) fn history_of(history: u32) -> Result<History> {
    match history {
        OSSICLE_HISTORY_DOCUMENTED => Ok(History::Documented),
        OSSICLE_HISTORY_LIBRARY => Ok(History::Library),
        OSSICLE_HISTORY_KEEP_ALL => Ok(History::KeepAll),
        _ => argument("a history from OSSICLE_HISTORY_DOCUMENTED to OSSICLE_HISTORY_KEEP_ALL"),
    }
}

/// # Safety
/// As the header says of the struct.
unsafe fn carve_system<'r>(system: *const ossicle_system) -> Result<Option<SystemContent<'r>>> {
    if system.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let system = unsafe { ossicle_system::read(system) }?;
    let default = SystemContent::default();
    let effort = match system.effort {
        OSSICLE_EFFORT_DEFAULT => default.effort,
        OSSICLE_EFFORT_LOW => Some(Effort::Low),
        OSSICLE_EFFORT_MEDIUM => Some(Effort::Medium),
        OSSICLE_EFFORT_HIGH => Some(Effort::High),
        _ => return argument("an effort from OSSICLE_EFFORT_DEFAULT to OSSICLE_EFFORT_HIGH"),
    };
    let tools: &[Namespace<'static>] = match system.tools {
        0 => &[],
        OSSICLE_TOOL_BROWSER => &[BROWSER],
        OSSICLE_TOOL_PYTHON => &[PYTHON],
        3 => &[BROWSER, PYTHON],
        _ => return argument("a sum of OSSICLE_TOOL_BROWSER and OSSICLE_TOOL_PYTHON"),
    };
    let or = |given: Option<&'r str>, default: Option<&'r str>| match given {
        None => default,
        Some("") => None,
        some => some,
    };
    // SAFETY: as the caller promises.
    let (identity, cutoff, date) =
        unsafe { (system.identity.read()?, system.knowledge_cutoff.read()?, system.current_date.read()?) };
    Ok(Some(SystemContent {
        identity: or(identity, default.identity),
        knowledge_cutoff: or(cutoff, default.knowledge_cutoff),
        current_date: or(date, default.current_date),
        effort,
        tools,
        ..default
    }))
}

/// # Safety
/// As the header says of the struct.
unsafe fn carve_developer<'r>(
    carver: &mut Carver<'r>,
    developer: *const ossicle_developer,
) -> Result<Option<DeveloperContent<'r>>> {
    if developer.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let developer = unsafe { ossicle_developer::read(developer) }?;
    // SAFETY: as the caller promises.
    let (instructions, tools, formats) = unsafe {
        (
            developer.instructions.read()?,
            Array::of(developer.tools, developer.tool_count)?,
            Array::of(developer.response_formats, developer.response_format_count)?,
        )
    };
    let has_tools = tools.len > 0;
    let tools = each(carver, tools.len, |_, index| {
        // SAFETY: the index is below the length; as the caller promises.
        let (name, description, parameters) = unsafe {
            let tool: ossicle_tool = tools.get(index)?;
            (tool.name.read()?, tool.description.read()?, tool.parameters.read()?)
        };
        let Some(name) = name else { return argument("a name for each tool") };
        Ok(Tool { name, description: description.unwrap_or_default(), parameters })
    })?;
    let namespaces =
        carver.try_from_fn(usize::from(has_tools), |_| Ok(Namespace { name: FUNCTIONS, description: None, tools }))?;
    let response_formats = each(carver, formats.len, |_, index| {
        // SAFETY: the index is below the length; as the caller promises.
        let (name, description, schema) = unsafe {
            let format: ossicle_response_format = formats.get(index)?;
            (format.name.read()?, format.description.read()?, format.schema.read()?)
        };
        let (Some(name), Some(schema)) = (name, schema) else {
            return argument("a name and a schema for each response format");
        };
        Ok(ResponseFormat { name, description, schema })
    })?;
    Ok(Some(DeveloperContent { instructions, tools: namespaces, response_formats }))
}
