//! Where searches and pages come from.

/// The web, or what takes its place. Once `is_cancelled`, nobody waits for what was asked any more.
pub trait Web {
    /// What a search found.
    ///
    /// # Errors
    /// Why nothing was, for the model.
    fn search(&mut self, query: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Vec<Hit>, String>;

    /// A page.
    ///
    /// # Errors
    /// Why there is none, for the model.
    fn fetch(&mut self, url: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Fetched, String>;
}

impl<W: Web + ?Sized> Web for Box<W> {
    fn search(&mut self, query: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Vec<Hit>, String> {
        (**self).search(query, is_cancelled)
    }

    fn fetch(&mut self, url: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Fetched, String> {
        (**self).fetch(url, is_cancelled)
    }
}

/// A web that is two functions of a program.
pub struct Callbacks<S, F> {
    /// [`Web::search`].
    pub search: S,
    /// [`Web::fetch`].
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

    fn fetch(&mut self, url: &str, _is_cancelled: &dyn Fn() -> bool) -> Result<Fetched, String> {
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
