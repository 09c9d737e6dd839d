//! The browser that gpt-oss was trained with: `search`, `open` and `find`, over a stack of pages.
//!
//! What the model sees of a page is a window of numbered lines; links have numbers, and it cites by the number of the page, its
//! cursor, and lines. [`Web`] is where searches and pages come from. [`Citations`] turns what it cites into links.

mod citations;
mod engine;
mod open;
mod page;
mod public;
mod web;

use std::fmt::Write;
use std::sync::Arc;

use ossicle_core::tokenizer::{Specials, Tokenizer};
use serde_json::Value;

use crate::vocabulary::o200k_harmony;

pub use citations::{Citation, Citations, Pages, Source};
pub use engine::SearchEngine;
pub use open::OpenWeb;
pub use page::{Link, Page};
pub use web::{Callbacks, Domains, Fetched, Hit, Web};

/// A browser of one conversation.
pub struct Browser<W> {
    web: W,
    /// What was shown; the index is the cursor. The oldest are forgotten where all are too much.
    shown: Vec<Option<Arc<Page>>>,
    domains: Domains,
    found: Vec<String>,
    tokenizer: Tokenizer<'static>,
}

/// Tokens of a window, as the model was trained.
const WINDOW: usize = 1024;
/// Hits of a search.
const HITS: usize = 20;
/// Places that `find` shows, and lines of each.
const PLACES: usize = 50;
const PLACE_LINES: usize = 4;
/// Bytes of the pages that are remembered.
const REMEMBERED: usize = 100_000_000;
/// Pages of another browser that are counted.
const MOST_FORGOTTEN: usize = 10_000;
/// Characters of titles, addresses and errors.
const LONGEST: usize = 1024;

impl<W: Web> Browser<W> {
    /// A browser that has shown nothing.
    pub fn new(web: W) -> Self {
        Self { web, shown: Vec::new(), domains: Domains::default(), found: Vec::new(), tokenizer: o200k_harmony() }
    }

    /// A browser of a conversation that has been shown pages by another one, up to this cursor: they have to be opened again.
    pub fn after(web: W, cursor: usize) -> Self {
        let mut browser = Self::new(web);
        // What the model was told can be read by others, and written.
        browser.shown.resize(cursor.min(MOST_FORGOTTEN), None);
        browser
    }

    /// Pages of these domains, and of those below them, may be seen from now on, and no others; with none, any.
    pub fn restrict_to(&mut self, domains: Vec<String>) {
        self.domains = Domains::new(domains);
    }

    /// The addresses that the last call found, if it was a search.
    pub fn found(&self) -> &[String] {
        &self.found
    }

    /// What a call of `browser.FUNCTION` is answered with; whatever is wrong is said to the model. It is asked whether it
    /// `is_cancelled` while the web is waited for, and then nobody waits for the answer any more.
    pub fn call(&mut self, function: &str, arguments: &str, is_cancelled: &dyn Fn() -> bool) -> String {
        self.found.clear();
        let result = match serde_json::from_str(arguments) {
            Ok(arguments @ Value::Object(_)) => match function {
                "search" => self.search(&arguments, is_cancelled),
                "open" => self.open(&arguments, is_cancelled),
                "find" => self.find(&arguments),
                _ => Err(format!("there is no browser.{function}; there are search, open and find")),
            },
            _ => Err("the arguments are not a JSON object".into()),
        };
        result.unwrap_or_else(|error| format!("Error: {}", cut(&error)))
    }

    fn search(&mut self, arguments: &Value, is_cancelled: &dyn Fn() -> bool) -> Result<String, String> {
        let Some(query) = arguments["query"].as_str() else { return Err("query: expected a string".into()) };
        let mut hits = self.web.search(query, is_cancelled)?;
        hits.retain(|hit| self.domains.allow(&hit.url).is_ok());
        hits.truncate(HITS);
        self.found = hits.iter().map(|hit| hit.url.clone()).collect();
        let mut html = String::from("<h1>Search Results</h1><ul>");
        for Hit { url, title, text } in hits {
            let (url, title, text) = (escaped(&url), escaped(&title), escaped(&text));
            let _ = write!(html, "<li><a href=\"{url}\">{title}</a> {text}</li>");
        }
        let page = Page { title: query.into(), ..Page::of_html("", &(html + "</ul>"))? };
        self.show(Arc::new(page), 0, 0)
    }

    fn open(&mut self, arguments: &Value, is_cancelled: &dyn Fn() -> bool) -> Result<String, String> {
        let lines = integer(arguments, "num_lines")?.unwrap_or(-1);
        let line = integer(arguments, "loc")?.filter(|line| *line >= 0);
        let is_source = arguments["view_source"] == true;
        let (page, beginning) = match &arguments["id"] {
            Value::String(url) => (self.fetch(url, is_source, is_cancelled)?, 0),
            _ => match integer(arguments, "id")?.filter(|id| *id >= 0) {
                None => (self.page(arguments)?, 0),
                Some(id) => {
                    let page = self.page(arguments)?;
                    let link = usize::try_from(id).ok().and_then(|id| page.links.get(id));
                    match link.ok_or_else(|| match page.links.len() {
                        0 => format!("there is no link {id}: the page has none"),
                        count => format!("there is no link {id}: the page has those of 0 to {}", count - 1),
                    })? {
                        Link::Page(url) => (self.fetch(url, is_source, is_cancelled)?, 0),
                        Link::Place(page, line) => (Arc::clone(page), *line),
                    }
                }
            },
        };
        let line = line.map_or(beginning, |line| line as usize);
        self.show(page, line, lines.max(0) as usize)
    }

    fn find(&mut self, arguments: &Value) -> Result<String, String> {
        let Some(pattern) = arguments["pattern"].as_str().filter(|pattern| !pattern.is_empty()) else {
            return Err("pattern: expected a string".into());
        };
        let page = self.page(arguments)?;
        let wanted = pattern.to_lowercase();
        let plain: Vec<String> = page.lines.iter().map(|line| page::without_marks(line)).collect();
        let mut found = Page { title: format!("{pattern} in {}", page.title), ..Page::default() };
        let mut line = 0;
        while line < plain.len() && found.links.len() < PLACES {
            if !plain[line].to_lowercase().contains(&wanted) {
                line += 1;
                continue;
            }
            let end = (line + PLACE_LINES).min(plain.len());
            found.lines.push(format!("# 【{}†match at L{line}】", found.links.len()));
            found.lines.extend_from_slice(&plain[line..end]);
            found.lines.push(String::new());
            // Some lines before it, to see where it stands.
            found.links.push(Link::Place(Arc::clone(&page), line.saturating_sub(PLACE_LINES)));
            line = end;
        }
        if found.links.is_empty() {
            return Err(format!("no line contains {pattern:?}"));
        }
        found.url.clone_from(&page.url);
        self.show(Arc::new(found), 0, 0)
    }

    /// That of the cursor, or the one shown last.
    fn page(&self, arguments: &Value) -> Result<Arc<Page>, String> {
        let last = self.shown.len().checked_sub(1).ok_or("no page is open")?;
        let cursor = integer(arguments, "cursor")?.filter(|cursor| *cursor >= 0).unwrap_or(last as i64);
        let page = usize::try_from(cursor).ok().and_then(|cursor| self.shown.get(cursor));
        let page = page.ok_or_else(|| format!("there is no cursor {cursor}: there are those of 0 to {last}"))?;
        page.clone().ok_or_else(|| format!("the page of cursor {cursor} was too long ago; it has to be opened again"))
    }

    fn fetch(&mut self, url: &str, is_source: bool, is_cancelled: &dyn Fn() -> bool) -> Result<Arc<Page>, String> {
        self.domains.allow(url)?;
        let Fetched { url, text, is_html } = self.web.fetch(url, &self.domains, is_cancelled)?;
        // A redirection may have led elsewhere.
        self.domains.allow(&url)?;
        let page = if is_html && !is_source { Page::of_html(&url, &text)? } else { Page::of_text(&url, &text) };
        Ok(Arc::new(page))
    }

    /// A window of so many lines, or of as many as fit; it gets the next cursor.
    fn show(&mut self, page: Arc<Page>, first: usize, lines: usize) -> Result<String, String> {
        let last = page.lines.len().saturating_sub(1);
        if first > last {
            return Err(format!("there is no line {first}: the page has those of 0 to {last}"));
        }
        let (mut body, mut tokens) = (String::new(), 0);
        let mut line = first;
        loop {
            let begin = body.len();
            let _ = writeln!(body, "L{line}: {}", page.lines[line]);
            self.tokenizer.encode(&body[begin..], Specials::None, |_| tokens += 1);
            let is_full = if lines > 0 { line + 1 >= first + lines } else { tokens >= WINDOW };
            if is_full || line == last {
                break;
            }
            line += 1;
        }
        let mut head = cut(&page.title);
        if !page.url.is_empty() {
            let _ = write!(head, " ({})", cut(&page.url));
        } else if head.ends_with(')') {
            // What was searched for may end like an address. It can be told from one by what follows.
            head.push(' ');
        }
        let cursor = self.shown.len();
        self.shown.push(Some(page));
        let mut size = 0;
        for shown in self.shown.iter_mut().rev() {
            size += shown.as_ref().map_or(0, |page| page.size());
            if size > REMEMBERED {
                *shown = None;
            }
        }
        Ok(format!("[{cursor}] {head}\n**viewing lines [{first} - {line}] of {last}**\n\n{}", body.trim_end()))
    }
}

/// A whole number, which some write with a point.
fn integer(arguments: &Value, name: &str) -> Result<Option<i64>, String> {
    match &arguments[name] {
        Value::Null => Ok(None),
        value => match value.as_i64().or(value.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i64)) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("{name}: expected a whole number")),
        },
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Browser, Callbacks, Domains, Fetched, Hit, Pages, Web};

    /// A web of two pages.
    struct Small;

    const HARBOUR: &str = "<html><head><title>The &amp; Harbour</title></head><body><h1>Harbour</h1>\
        <p>Boats <b>leave</b> at noon. <a href='/prices#top'>All prices</a>, <a href=\"http://isle.example/\">the isle</a>.</p>\
        <img src=x alt='A boat'><p>Not a link: \u{3010}7\u{2020}x\u{3011}; nor <a href='javascript:alert(1)'>this</a>.</p>\
        <script>never()</script></body></html>";

    impl Web for Small {
        fn search(&mut self, query: &str, _: &dyn Fn() -> bool) -> Result<Vec<Hit>, String> {
            assert_eq!(query, "boats");
            let hit =
                |url: &str, title: &str| Hit { url: url.into(), title: title.into(), text: "when <they> leave".into() };
            Ok(vec![hit("http://harbour.example/", "Harbour"), hit("http://isle.example/a", "Isle & more")])
        }

        fn fetch(&mut self, url: &str, _: &Domains, _: &dyn Fn() -> bool) -> Result<Fetched, String> {
            let page = |text: &str, is_html| Ok(Fetched { url: url.into(), text: text.into(), is_html });
            match url {
                "http://harbour.example/" => page(HARBOUR, true),
                "http://harbour.example/prices#top" => {
                    page(&(0..500).map(|i| format!("boat {i} costs {}\n", i * 3)).collect::<String>(), false)
                }
                _ => Err(format!("{url}: not found")),
            }
        }
    }

    fn browser() -> Browser<Small> {
        Browser::new(Small)
    }

    fn call(browser: &mut Browser<Small>, function: &str, arguments: Value) -> String {
        browser.call(function, &arguments.to_string(), &|| false)
    }

    #[test]
    fn searches_pages_and_places_are_shown_as_the_model_knows_them() {
        let mut browser = browser();
        assert_eq!(
            call(&mut browser, "search", json!({ "query": "boats", "topn": 5, "source": "web" })),
            "[0] boats\n**viewing lines [0 - 5] of 5**\n\nL0: \nL1: URL: \nL2: \nL3: # Search Results\n\
             L4: * \u{3010}0\u{2020}Harbour\u{2020}harbour.example\u{3011} when <they> leave\n\
             L5: * \u{3010}1\u{2020}Isle & more\u{2020}isle.example\u{3011} when <they> leave"
        );
        assert_eq!(browser.found(), ["http://harbour.example/", "http://isle.example/a"]);
        let page = call(&mut browser, "open", json!({ "id": 0 }));
        assert_eq!(
            page,
            "[1] The & Harbour (http://harbour.example/)\n**viewing lines [0 - 9] of 9**\n\nL0: \nL1: URL: http://harbour.example/\n\
             L2: \nL3: # Harbour\nL4: \nL5: Boats leave at noon. \u{3010}0\u{2020}All prices\u{3011}, \
             \u{3010}1\u{2020}the isle\u{2020}isle.example\u{3011}.\nL6: \nL7: [Image 0: A boat]\nL8: \n\
             L9: Not a link: \u{3016}7\u{2020}x\u{3017}; nor this."
        );
        // The window ends where it has its tokens; the next begins where the model says.
        let prices = call(&mut browser, "open", json!({ "id": 0.0, "cursor": 1 }));
        assert!(
            prices.starts_with("[2] prices#top (http://harbour.example/prices#top)\n**viewing lines [0 - "),
            "{prices}"
        );
        let mut tokens = 0;
        super::o200k_harmony()
            .encode(prices.split_once("\n\n").expect("a body").1, super::Specials::None, |_| tokens += 1);
        assert!((1024..1044).contains(&tokens), "{tokens}");
        let two = call(&mut browser, "open", json!({ "loc": 400, "num_lines": 2 }));
        assert!(two.ends_with("of 502**\n\nL400: boat 397 costs 1191\nL401: boat 398 costs 1194"), "{two}");
        let found = call(&mut browser, "find", json!({ "pattern": "BOAT 499" }));
        assert_eq!(
            found,
            "[4] BOAT 499 in prices#top (http://harbour.example/prices#top)\n**viewing lines [0 - 2] of 2**\n\n\
             L0: # \u{3010}0\u{2020}match at L502\u{3011}\nL1: boat 499 costs 1497\nL2:"
        );
        // From there on, without asking the web again.
        let there = call(&mut browser, "open", json!({ "id": 0 }));
        assert!(there.contains("**viewing lines [498 - 502] of 502**"), "{there}");
        // In what a link says, too.
        let found = call(&mut browser, "find", json!({ "pattern": "all prices, the", "cursor": 1 }));
        assert!(found.starts_with("[6]"), "{found}");
        let source = call(&mut browser, "open", json!({ "id": "http://harbour.example/", "view_source": true }));
        assert!(source.contains("<script>never()"), "{source}");
    }

    #[test]
    fn what_was_searched_for_is_no_address_whatever_it_looks_like() {
        let search = |_: &str| Ok(vec![Hit { url: "http://a.example/".into(), title: "A".into(), text: "a".into() }]);
        let mut browser = Browser::new(Callbacks { search, fetch: |_: &str| Err("none".into()) });
        let mut pages = Pages::default();
        for (function, arguments) in
            [("search", json!({ "query": "boats (https://b.example/)" })), ("open", json!({ "loc": 1 }))]
        {
            let text = browser.call(function, &arguments.to_string(), &|| false);
            assert!(text.contains("boats (https://b.example/)"), "{text}");
            pages.add(&text);
        }
        assert_eq!([0, 1].map(|cursor| pages.get(cursor)), [None; 2]);
        assert_eq!(pages.next_cursor(), 2);
    }

    #[test]
    fn whatever_is_wrong_is_said_to_the_model() {
        let mut browser = browser();
        assert_eq!(call(&mut browser, "open", json!({})), "Error: no page is open");
        call(&mut browser, "search", json!({ "query": "boats" }));
        for (function, arguments, expected) in [
            ("search", json!({}), "query: expected a string"),
            ("open", json!({ "id": 2 }), "there is no link 2: the page has those of 0 to 1"),
            ("open", json!({ "id": 0, "cursor": 9 }), "there is no cursor 9: there are those of 0 to 0"),
            ("open", json!({ "id": 1 }), "http://isle.example/a: not found"),
            ("open", json!({ "id": 0.5 }), "id: expected a whole number"),
            ("open", json!({ "loc": 7 }), "there is no line 7: the page has those of 0 to 5"),
            ("find", json!({ "pattern": "" }), "pattern: expected a string"),
            ("find", json!({ "pattern": "ships" }), "no line contains \"ships\""),
            ("shop", json!({}), "there is no browser.shop; there are search, open and find"),
        ] {
            assert_eq!(call(&mut browser, function, arguments), format!("Error: {expected}"));
        }
        assert_eq!(browser.call("open", "not JSON", &|| false), "Error: the arguments are not a JSON object");
        // A failed call leaves the cursors as they were.
        assert!(call(&mut browser, "open", json!({ "id": 0 })).starts_with("[1]"));
    }

    #[test]
    fn other_domains_are_neither_found_nor_opened() {
        let mut browser = browser();
        browser.restrict_to(vec!["isle.example".into()]);
        let found = call(&mut browser, "search", json!({ "query": "boats" }));
        assert!(found.contains("isle.example") && !found.contains("harbour.example"), "{found}");
        for (url, expected) in [
            ("http://harbour.example/", "pages of other domains than isle.example may not be opened"),
            ("http://notisle.example/", "pages of other domains than isle.example may not be opened"),
            ("http://deep.isle.example/", "not found"),
        ] {
            let answer = call(&mut browser, "open", json!({ "id": url }));
            assert_eq!(answer, format!("Error: {url}: {expected}"));
        }
    }

    #[test]
    fn what_was_shown_long_ago_is_forgotten() {
        // Each page is as long as may be.
        let fetch = |url: &str| Ok(Fetched { url: url.into(), text: "x\n".repeat(700_000), is_html: false });
        let mut browser = Browser::new(Callbacks { search: |_: &str| Ok(Vec::new()), fetch });
        let mut open = |arguments: &str| browser.call("open", arguments, &|| false);
        for cursor in 0..4 {
            let page = open(r#"{"id": "http://long.example/", "num_lines": 1}"#);
            assert!(page.starts_with(&format!("[{cursor}]")), "{page}");
        }
        let again = open(r#"{"cursor": 1}"#);
        assert_eq!(again, "Error: the page of cursor 1 was too long ago; it has to be opened again");
        assert!(open(r#"{"cursor": 2, "loc": 399999, "num_lines": 1}"#).starts_with("[4]"));
    }

    #[test]
    fn hostile_pages_are_read_or_refused() {
        let page = |html: &str| super::Page::of_html("http://a.example/", html);
        assert!(page(&format!("{}text", "<div>".repeat(500))).is_ok());
        assert!(page(&"<div>".repeat(400_000)).is_err());
        assert!(page(&("<DIV\n>".repeat(100_000) + &"</div>".repeat(100_000))).is_err());
        // Each paragraph would make all of them anew.
        let styles: String = (0..100).map(|i| format!("<font color={i}>")).collect();
        for around in ["", "<template>", "<table>"] {
            assert!(page(&format!("{around}<p>{styles}</p>{}", "<p>x</p>".repeat(100_000))).is_err());
        }
        assert!(page(&"<table><tr><td>x<td>".repeat(120)).is_ok());
        assert!(page(&"<ul><li>".repeat(200)).is_ok());
        // Each line would carry all that it stands in.
        let long = "a b ".repeat(500_000);
        for inside in [
            "<blockquote>",
            "<ul><li>",
            "<ol start=-9999999999><li>",
            "<table><tr><td>x<td>",
            "<dl><dd>",
            "<b><i>",
            "<s>",
        ] {
            assert!(page(&format!("{}{long}", inside.repeat(200))).is_err(), "{inside}");
        }
        // And the address that it leads to.
        let far = page(&format!("<a href='/{}'>{long}</a>", "x".repeat(1 << 20))).expect("a page");
        assert_eq!(far.links, []);
        assert!(page(&format!("<table><tr>{}", "<td colspan=999 rowspan=999>x".repeat(2000))).is_ok());
        assert!(page(&format!("<title><p>{styles}</p>{}", "<p>x</p>".repeat(100_000))).is_ok());
        // Ends that are none.
        assert!(page(&"<div title='</div>'><!-- </div> -->".repeat(50_000)).is_err());
        // What needs no end is not nested.
        let flat = page(&"<p>text<br><img src=x><li>more".repeat(10_000)).expect("a page");
        assert!(flat.lines.len() > 10_000);
        for html in
            ["", "<", "<title", "<title>x", "<table><tr><td colspan=9999999>x", "\u{0}", "<a href='http://[::'>x</a>"]
        {
            let _ = super::Page::of_html("http://a.example/", html);
        }
    }
}
