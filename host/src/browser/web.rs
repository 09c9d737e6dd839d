//! Where searches and pages come from.

use url::Url;

/// Domains that may be seen, with all below them; none for any.
#[derive(Clone, Debug, Default)]
pub struct Domains(Vec<String>);

impl Domains {
    /// These.
    pub fn new(domains: Vec<String>) -> Self {
        Self(domains)
    }

    /// Whether a page may be seen.
    ///
    /// # Errors
    /// Why not, for the model.
    pub fn allow(&self, url: &str) -> Result<(), String> {
        let url = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        let host = url.host_str().unwrap_or_default();
        let is_below = |domain: &String| {
            host.strip_suffix(&**domain).is_some_and(|below| below.is_empty() || below.ends_with('.'))
        };
        if self.0.is_empty() || self.0.iter().any(is_below) {
            return Ok(());
        }
        Err(format!("{url}: pages of other domains than {} may not be opened", self.0.join(", ")))
    }
}

/// The web, or what takes its place. Once `is_cancelled`, nobody waits for what was asked any more.
pub trait Web {
    /// What a search found.
    ///
    /// # Errors
    /// Why nothing was, for the model.
    fn search(&mut self, query: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Vec<Hit>, String>;

    /// A page, which has been judged, and so has to be where a redirection leads, before anything is asked there: an address can
    /// carry away what the conversation says.
    ///
    /// # Errors
    /// Why there is none, for the model.
    fn fetch(&mut self, url: &str, domains: &Domains, is_cancelled: &dyn Fn() -> bool) -> Result<Fetched, String>;
}

impl<W: Web + ?Sized> Web for Box<W> {
    fn search(&mut self, query: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Vec<Hit>, String> {
        (**self).search(query, is_cancelled)
    }

    fn fetch(&mut self, url: &str, domains: &Domains, is_cancelled: &dyn Fn() -> bool) -> Result<Fetched, String> {
        (**self).fetch(url, domains, is_cancelled)
    }
}

/// A web that is two functions of a program.
pub struct Callbacks<S, F> {
    /// [`Web::search`].
    pub search: S,
    /// [`Web::fetch`]; which domains may be seen is judged before it, and after it where it has led.
    pub fetch: F,
}

impl<S, F> Web for Callbacks<S, F>
where
    S: FnMut(&str) -> Result<Vec<Hit>, String>,
    F: FnMut(&str) -> Result<Fetched, String>,
{
    fn search(&mut self, query: &str, _is_cancelled: &dyn Fn() -> bool) -> Result<Vec<Hit>, String> {
        (self.search)(query)
    }

    fn fetch(&mut self, url: &str, _: &Domains, _is_cancelled: &dyn Fn() -> bool) -> Result<Fetched, String> {
        (self.fetch)(url)
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Where.
    pub url: String,
    /// What the page is called.
    pub title: String,
    /// Some of its text.
    pub text: String,
}

/// A page as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// Where it is, after redirections.
    pub url: String,
    /// Its text.
    pub text: String,
    /// Whether that is HTML.
    pub is_html: bool,
}
