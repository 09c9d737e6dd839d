//! The tools that the model was trained with, as one conversation has them.

use ossicle_core::harmony::builtin::{BROWSER, PYTHON};
use ossicle_core::harmony::conversation::Namespace;

#[cfg(feature = "browser")]
use crate::browser::{Browser, Web};
use crate::python::Interpreter;

/// What the model is told in place of what a tool answers, if there is no room for that.
pub const TOO_LONG: &str = "Error: the result is longer than what is left of the context.";

/// Calls that are carried out in an answer, where nobody says how many: a model that repeats itself must come to an end.
pub const MOST_CALLS: usize = 64;

/// Whether the model calls the browser by this name.
pub fn is_of_browser(recipient: &str) -> bool {
    recipient.split('.').next() == Some(BROWSER.name)
}

/// Python and a browser, or one of them, or none.
#[derive(Default)]
pub struct Tools {
    /// Runs what the model writes to `python`.
    pub python: Option<Box<dyn Interpreter + Send>>,
    /// Carries out the calls of `browser`.
    #[cfg(feature = "browser")]
    pub browser: Option<Browser<Box<dyn Web + Send>>>,
}

impl Tools {
    /// As the system message tells the model of them.
    pub fn namespaces(&self) -> Vec<Namespace<'static>> {
        let python = self.python.as_ref().map(|_| PYTHON);
        #[cfg(feature = "browser")]
        let browser = self.browser.as_ref().map(|_| BROWSER);
        #[cfg(not(feature = "browser"))]
        let browser = None;
        browser.into_iter().chain(python).collect()
    }

    /// The names by which the model calls them.
    pub fn recipients(&self) -> Vec<String> {
        let of = |Namespace { name, tools, .. }: Namespace<'_>| match tools {
            [] => vec![name.to_owned()],
            tools => tools.iter().map(|tool| format!("{name}.{}", tool.name)).collect(),
        };
        self.namespaces().into_iter().flat_map(of).collect()
    }

    /// Carries out a call: what it is answered with. None if it is of another tool. It is asked whether it `is_cancelled` while the
    /// tool works, and then nobody waits for the answer any more.
    pub fn call(&mut self, tool: &str, argument: &str, is_cancelled: &dyn Fn() -> bool) -> Option<String> {
        match tool.split_once('.').unwrap_or((tool, "")) {
            (name, "") if name == PYTHON.name => Some(self.python.as_mut()?.run(argument, is_cancelled)),
            #[cfg(feature = "browser")]
            (name, function) if name == BROWSER.name => {
                Some(self.browser.as_mut()?.call(function, argument, is_cancelled))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tools;

    #[test]
    fn a_call_goes_to_its_tool_if_that_is_there() {
        let mut tools = Tools { python: Some(Box::new(|code: &str| code.to_uppercase())), ..Tools::default() };
        assert_eq!(tools.recipients(), ["python"]);
        assert_eq!(tools.call("python", "x", &|| false).as_deref(), Some("X"));
        for other in ["browser.search", "functions.python", "python.x", ""] {
            assert_eq!(tools.call(other, "x", &|| false), None, "{other}");
        }
    }
}
