//! Chapter 13, fifth part: the tools that a chat carries out by itself.

use std::borrow::ToOwned;
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec::Vec;

#[cfg(feature = "browser")]
use ::ossicle_host::browser::{Browser, Citations, OpenWeb, Pages, SearchEngine};
use ::ossicle_host::python::{Limits, Sandbox};
use ::ossicle_host::tools::{Tools, is_of_browser};

use crate::input::{argument, ossicle_text, slice_of};
use crate::message::{OSSICLE_TOOL_BROWSER, OSSICLE_TOOL_PYTHON};
#[cfg(feature = "browser")]
use crate::status::OSSICLE_ERROR_ARGUMENT;
use crate::status::{Failure, OSSICLE_ERROR_TOOL, Result};

/// Tools of a chat, and what the model has been shown by them.
pub(crate) struct Equipment {
    tools: Tools,
    /// The names by which the model calls them.
    recipients: Vec<String>,
    pages: Pages,
}

impl Equipment {
    /// OSSICLE_TOOL_*, added up, and who searches, with a key.
    pub fn new(wanted: u32, engine: Option<&str>, key: Option<&str>) -> Result<Option<Self>> {
        if wanted & !(OSSICLE_TOOL_BROWSER | OSSICLE_TOOL_PYTHON) != 0 {
            return argument("a sum of OSSICLE_TOOL_BROWSER and OSSICLE_TOOL_PYTHON");
        }
        let mut tools = Tools::default();
        if wanted & OSSICLE_TOOL_BROWSER != 0 {
            let Some(engine) = engine else { return argument("a search engine for the browser") };
            browse(&mut tools, engine, key)?;
        } else if engine.or(key).is_some() {
            return argument("a search engine and its key with OSSICLE_TOOL_BROWSER only");
        }
        if wanted & OSSICLE_TOOL_PYTHON != 0 {
            Sandbox::check().map_err(|error| Failure::Host(OSSICLE_ERROR_TOOL, error.to_string()))?;
            tools.python = Some(Box::new(Sandbox::new(Limits::default())));
        }
        let recipients = tools.recipients();
        Ok((wanted != 0).then(|| Self { tools, recipients, pages: Pages::default() }))
    }

    /// The tools that may be called: these, and those that the program names.
    ///
    /// # Safety
    /// As the header says of the texts.
    pub unsafe fn with(&self, given: *const ossicle_text, count: usize) -> Result<Vec<ossicle_text>> {
        // SAFETY: as the caller promises.
        let given = unsafe { slice_of(given, count) }?;
        Ok(given.iter().copied().chain(self.recipients.iter().map(|name| ossicle_text::of(name))).collect())
    }

    /// What a call is answered with, if it is of one of these.
    pub fn call(&mut self, tool: &str, argument: &str, is_cancelled: &dyn Fn() -> bool) -> Option<String> {
        self.tools.call(tool, argument, is_cancelled)
    }

    /// Takes notice of what the model is told that a tool answered.
    pub fn note(&mut self, tool: &str, text: &str) {
        if is_of_browser(tool) {
            self.pages.add(text);
        }
    }
}

/// What of an answer's text is told: what it cites becomes links.
pub(crate) struct Citing(Option<Citations>);

impl Citing {
    /// `is_free`: whether anything but what the model writes may be told.
    pub fn new(is_free: bool) -> Self {
        Self(is_free.then(Citations::default))
    }

    /// Takes a part of a text; what of it can be told.
    pub fn take(&mut self, text: &str, equipment: &Equipment) -> String {
        match &mut self.0 {
            Some(citations) => citations.take(text, &equipment.pages).0,
            None => text.to_owned(),
        }
    }

    /// The text is over: what was held after all.
    pub fn finish(&mut self) -> String {
        self.0.as_mut().map(Citations::finish).unwrap_or_default()
    }
}

#[cfg(feature = "browser")]
fn browse(tools: &mut Tools, engine: &str, key: Option<&str>) -> Result<()> {
    let engine = SearchEngine::with_key(engine, key);
    let engine = engine.map_err(|error| Failure::Host(OSSICLE_ERROR_ARGUMENT, error))?;
    tools.browser = Some(Browser::new(Box::new(OpenWeb::new(engine))));
    Ok(())
}

#[cfg(not(feature = "browser"))]
fn browse(_: &mut Tools, _: &str, _: Option<&str>) -> Result<()> {
    Err(Failure::Border(OSSICLE_ERROR_TOOL, "expected a library that is built with the feature `browser`"))
}

/// In the place of the browser's: nothing is shown, and nothing cited.
#[cfg(not(feature = "browser"))]
#[derive(Default)]
struct Pages;

#[cfg(not(feature = "browser"))]
impl Pages {
    fn add(&mut self, _: &str) {}
}

#[cfg(not(feature = "browser"))]
#[derive(Default)]
struct Citations;

#[cfg(not(feature = "browser"))]
impl Citations {
    fn take(&mut self, text: &str, _: &Pages) -> (String, ()) {
        (text.to_owned(), ())
    }

    fn finish(&mut self) -> String {
        String::new()
    }
}

#[cfg(all(test, feature = "browser"))]
mod tests {
    use super::{Citing, Equipment, Pages, Tools};

    #[test]
    fn what_is_cited_of_pages_that_were_shown_becomes_a_link_where_the_answer_is_free() {
        let mut equipment =
            Equipment { tools: Tools::default(), recipients: super::Vec::new(), pages: Pages::default() };
        equipment.note("python", "[0] No page (http://other.example/)");
        equipment.note("browser.open", "[0] Harbour (http://harbour.example/)");
        let told = |is_free| {
            let mut citing = Citing::new(is_free);
            let parts = ["At noon【0†", "L1】, not【"].map(|text| citing.take(text, &equipment));
            parts.concat() + &citing.finish()
        };
        assert_eq!(told(true), "At noon ([harbour.example](http://harbour.example/)) , not【");
        assert_eq!(told(false), "At noon【0†L1】, not【");
    }
}
