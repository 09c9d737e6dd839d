//! The tools that the server carries out itself, and what they remember between the answers of a conversation.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ossicle_core::harmony::builtin::PYTHON;
use ossicle_host::browser::{Browser, Pages, Web};
use ossicle_host::python::Interpreter;
use ossicle_host::tools::{Tools, is_of_browser};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::End;
use crate::error::ApiError;
use crate::request::Item;
use crate::settings::Settings;
use crate::worker::Wanted;

/// Runs the Python of one conversation.
pub type BoxedInterpreter = Box<dyn Interpreter + Send>;

/// Makes an interpreter for a conversation.
pub type NewInterpreter = Arc<dyn Fn() -> BoxedInterpreter + Send + Sync>;

/// Where a conversation's searches and pages come from.
pub type BoxedWeb = Box<dyn Web + Send>;

/// Makes the web of a conversation.
pub type NewWeb = Arc<dyn Fn() -> BoxedWeb + Send + Sync>;

/// The pages that the model has been shown in these items.
pub fn shown(items: &[Item]) -> Pages {
    let mut pages = Pages::default();
    for item in items {
        if let Item::CallOutput { recipient, parts } = item
            && is_of_browser(recipient)
        {
            parts.iter().for_each(|text| pages.add(text));
        }
    }
    pages
}

/// The tools of one conversation that the server carries out.
pub struct BuiltIn(Tools);

impl BuiltIn {
    /// Those that the server has, as they are before the first call; the model may have been shown pages all the same.
    pub fn new(settings: &Settings, shown: &Pages) -> Self {
        let python = settings.python.as_ref().map(|new| new());
        let browser = settings.browser.as_ref().map(|new| Browser::after(new(), shown.next_cursor()));
        Self(Tools { python, browser })
    }

    /// Carries out a call of the model: what it is answered with, and the addresses that a search found. Ends early, with whatever
    /// text, once it is not wanted any more. The browser sees these domains, or any if there are none.
    pub fn call(
        &mut self,
        (recipient, argument): (&str, &str),
        domains: &[String],
        wanted: &Wanted,
    ) -> (String, Vec<String>) {
        let Self(tools) = self;
        if let Some(browser) = &mut tools.browser {
            browser.restrict_to(domains.to_vec());
        }
        let text = tools.call(recipient, argument, &|| wanted.end().is_some());
        let text = text.unwrap_or_else(|| format!("Error: there is no {recipient}"));
        let browser = tools.browser.as_ref().filter(|_| is_of_browser(recipient));
        (text, browser.map(|browser| browser.found().to_vec()).unwrap_or_default())
    }

    /// Whether something goes on in it although there is no call.
    fn is_busy(&self) -> bool {
        self.0.python.as_ref().is_some_and(|python| python.is_busy())
    }
}

/// The tools of conversations between their answers, and who may run.
pub struct Shelf {
    /// The oldest first.
    kept: Mutex<Vec<Kept>>,
    running: Arc<Semaphore>,
    browsing: Arc<Semaphore>,
}

/// The tools of a conversation that may go on.
struct Kept {
    owner: Arc<str>,
    /// The answers that it may go on from: the last one with a call, and those after it.
    answers: Vec<String>,
    since: Instant,
    tools: BuiltIn,
}

/// Most conversations whose tools are kept.
const MOST_KEPT: usize = 16;
/// Most calls of Python that are carried out at a time.
const MOST_RUNNING: usize = 8;
/// And of the browser, which waits for others and computes little.
const MOST_BROWSING: usize = 32;
/// How soon whoever waits for its turn notices that the answer is not wanted any more.
const NOTICE: Duration = Duration::from_millis(50);

impl Default for Shelf {
    fn default() -> Self {
        let semaphore = |most| Arc::new(Semaphore::new(most));
        Self { kept: Mutex::default(), running: semaphore(MOST_RUNNING), browsing: semaphore(MOST_BROWSING) }
    }
}

/// Waits for one of these permits. Or how the answer ended meanwhile.
pub async fn permit(permits: &Arc<Semaphore>, wanted: &Wanted) -> Result<OwnedSemaphorePermit, End> {
    let mut turn = std::pin::pin!(Arc::clone(permits).acquire_owned());
    loop {
        match tokio::time::timeout(NOTICE, &mut turn).await {
            Ok(permit) => return permit.map_err(|_| End::Failed(ApiError::unavailable())),
            Err(_) => wanted.end().map_or(Ok(()), Err)?,
        }
    }
}

impl Shelf {
    /// Waits until a call of `recipient` may be carried out; it may until the permit is dropped. Or how the answer ended
    /// meanwhile.
    pub async fn permit(&self, recipient: &str, wanted: &Wanted) -> Result<OwnedSemaphorePermit, End> {
        permit(if recipient == PYTHON.name { &self.running } else { &self.browsing }, wanted).await
    }

    /// Those of the conversation that went on to this answer.
    pub fn take(&self, owner: &str, answer: &str) -> Option<BuiltIn> {
        let mut kept = self.kept();
        let index = kept.iter().position(|kept| kept.is_of(owner, answer))?;
        Some(kept.remove(index).tools)
    }

    /// Keeps those of the conversation that may go on from this answer, unless something still goes on in them.
    pub fn keep(&self, owner: &Arc<str>, answer: &str, tools: BuiltIn) {
        if tools.is_busy() {
            return;
        }
        let (owner, answers) = (Arc::clone(owner), vec![answer.to_owned()]);
        let mut kept = self.kept();
        kept.push(Kept { owner, answers, since: Instant::now(), tools });
        let mut old = None;
        if kept.len() > MOST_KEPT {
            // Whoever has many makes room, not those who have one.
            let count = |owner: &str| kept.iter().filter(|kept| *kept.owner == *owner).count();
            let most = kept.iter().map(|kept| count(&kept.owner)).max();
            let index = kept.iter().position(|kept| Some(count(&kept.owner)) == most);
            old = index.map(|index| kept.remove(index));
        }
        drop(kept);
        // Its processes end here, which may take a moment.
        drop(old);
    }

    /// The conversation went on from `previous` to `answer` without a call: it may go on from both.
    pub fn follow(&self, owner: &str, previous: &str, answer: &str) {
        let mut kept = self.kept();
        if let Some(kept) = kept.iter_mut().find(|kept| kept.is_of(owner, previous)) {
            kept.answers.push(answer.to_owned());
            kept.since = Instant::now();
        }
    }

    /// Nobody goes on from this answer any more.
    pub fn forget(&self, owner: &str, answer: &str) {
        self.end(|kept| {
            if kept.is_of(owner, answer) {
                kept.answers.retain(|other| other != answer);
            }
            kept.answers.is_empty()
        });
    }

    /// Ends those that nobody has asked for in this time.
    pub fn expire(&self, time: Duration) {
        self.end(|kept| kept.since.elapsed() > time);
    }

    fn end(&self, is_over: impl FnMut(&mut Kept) -> bool) {
        let ended: Vec<_> = self.kept().extract_if(.., is_over).collect();
        drop(ended);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_of(&self, owner: &str, answer: &str) -> bool {
        *self.owner == *owner && self.answers.iter().any(|known| known == answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ossicle_host::browser::Pages;

    use super::{BuiltIn, MOST_KEPT, NewInterpreter, Shelf};
    use crate::settings::Settings;

    fn tools() -> BuiltIn {
        let python: NewInterpreter = Arc::new(|| Box::new(str::to_owned));
        BuiltIn::new(&Settings { python: Some(python), ..Settings::default() }, &Pages::default())
    }

    #[test]
    fn whoever_has_most_makes_room_and_strangers_take_nothing() {
        let shelf = Shelf::default();
        let (few, many): (Arc<str>, Arc<str>) = ("few".into(), "many".into());
        shelf.keep(&few, "0", tools());
        for answer in 0..2 * MOST_KEPT {
            shelf.keep(&many, &answer.to_string(), tools());
        }
        assert!(shelf.take("many", &MOST_KEPT.to_string()).is_none());
        assert!(shelf.take("many", &(MOST_KEPT + 1).to_string()).is_some());
        assert!(shelf.take("nobody", "0").is_none());
        assert!(shelf.take("few", "0").is_some());
        assert!(shelf.take("few", "0").is_none());
    }

    #[test]
    fn a_conversation_goes_on_from_any_answer_since_the_last_call_that_is_not_forgotten() {
        let shelf = Shelf::default();
        let owner: Arc<str> = "me".into();
        shelf.keep(&owner, "1", tools());
        shelf.follow("me", "1", "2");
        shelf.forget("me", "1");
        assert!(shelf.take("me", "1").is_none());
        shelf.forget("you", "2");
        assert!(shelf.take("me", "2").is_some());
        shelf.keep(&owner, "3", tools());
        shelf.forget("me", "3");
        assert!(shelf.take("me", "3").is_none());
        shelf.keep(&owner, "4", tools());
        shelf.expire(Duration::from_secs(60));
        assert!(shelf.kept().len() == 1);
        std::thread::sleep(Duration::from_millis(2));
        shelf.expire(Duration::from_millis(1));
        assert!(shelf.take("me", "4").is_none());
    }
}
