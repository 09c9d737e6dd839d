//! From HTML to lines of text in which links have numbers.

use std::sync::Arc;
use std::thread;

use html2text::config;
use html2text::render::RichAnnotation;
use url::Url;

/// A page as the model sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Where it is; empty for what this program made.
    pub url: String,
    /// What it is called.
    pub title: String,
    /// Its text.
    pub lines: Vec<String>,
    /// Where its links lead, by their numbers.
    pub links: Vec<Link>,
}

/// Where a link leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    /// To this address.
    Page(String),
    /// To this line of a page that is there.
    Place(Arc<Page>, usize),
}

/// Columns of a line.
const WIDTH: usize = 80;

/// Tags that may be open at a time. What reads HTML goes down into it, and its stack has an end.
const DEPTH: usize = 20_000;
const STACK: usize = 256 << 20;

impl Page {
    /// The page in some HTML.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn of_html(url: &str, html: &str) -> Result<Self, String> {
        let tags = html.matches('<').count();
        let closed = html.matches("</").count();
        if tags - closed > DEPTH + closed {
            return Err("the page is nested too deeply".into());
        }
        thread::scope(|scope| {
            let read = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || Self::read_html(url, html));
            read.map_err(|error| error.to_string())?.join().unwrap_or_else(|_| Err("the page cannot be read".into()))
        })
    }

    fn read_html(url: &str, html: &str) -> Result<Self, String> {
        let base = Url::parse(url).ok();
        let mut page = Self::new(url, &title(html));
        let lines = config::rich().lines_from_read(html.as_bytes(), WIDTH).map_err(|error| error.to_string())?;
        let mut images = 0;
        // A link that goes on in the next line keeps its number.
        let mut open: Option<String> = None;
        for line in lines {
            let mut text = String::new();
            for part in line.tagged_strings() {
                let link = part.tag.iter().find_map(|tag| match tag {
                    RichAnnotation::Link(target) => Some(target),
                    _ => None,
                });
                let mut shown = clean(&part.s);
                if part.tag.iter().any(|tag| matches!(tag, RichAnnotation::Image(_))) && !shown.trim().is_empty() {
                    shown = format!("[Image {images}: {shown}]");
                    images += 1;
                }
                match link.and_then(|link| absolute(base.as_ref(), link)) {
                    Some(target) if !shown.trim().is_empty() => {
                        if open.as_deref() != Some(link.map_or("", String::as_str)) {
                            page.links.push(Link::Page(target.to_string()));
                            open = link.cloned();
                        }
                        text.push_str(&marked(page.links.len() - 1, &shown, base.as_ref(), &target));
                    }
                    _ => {
                        if !shown.trim().is_empty() {
                            open = None;
                        }
                        text.push_str(&shown);
                    }
                }
            }
            page.push(text.trim_end());
        }
        Ok(page)
    }

    /// The page of a plain text.
    pub fn of_text(url: &str, text: &str) -> Self {
        let mut page = Self::new(url, url.rsplit('/').find(|part| !part.is_empty()).unwrap_or(url));
        for line in clean(text).lines() {
            let characters: Vec<char> = line.chars().collect();
            if characters.is_empty() {
                page.push("");
            }
            for part in characters.chunks(WIDTH) {
                page.push(&part.iter().collect::<String>());
            }
        }
        page
    }

    fn new(url: &str, title: &str) -> Self {
        let lines = vec![String::new(), format!("URL: {url}"), String::new()];
        Self { url: url.into(), title: title.into(), lines, links: Vec::new() }
    }

    /// Adds a line, but no second empty one.
    fn push(&mut self, line: &str) {
        if !(line.trim().is_empty() && self.lines.last().is_some_and(String::is_empty)) {
            self.lines.push(if line.trim().is_empty() { String::new() } else { line.to_owned() });
        }
    }
}

/// A link in a text, as the model was trained to see it: with the domain, if that is another.
fn marked(number: usize, text: &str, from: Option<&Url>, to: &Url) -> String {
    let text = text.replace('†', "‡");
    match to.host_str() {
        Some(host) if from.and_then(Url::host_str) != Some(host) => format!("【{number}†{text}†{host}】"),
        _ => format!("【{number}†{text}】"),
    }
}

/// The text of a line without the marks of links.
pub fn without_marks(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, mark)) = rest.split_once('【') {
        let Some((mark, after)) = mark.split_once('】') else { break };
        out.push_str(before);
        out.push_str(mark.split('†').nth(1).unwrap_or(mark));
        rest = after;
    }
    out + rest
}

fn absolute(base: Option<&Url>, link: &str) -> Option<Url> {
    let url = Url::options().base_url(base).parse(link).ok()?;
    ["http", "https"].contains(&url.scheme()).then_some(url)
}

/// Text that could be taken for a mark of ours becomes something like it.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| *c != '\u{200b}')
        .map(|c| match c {
            '【' => '〖',
            '】' => '〗',
            '◼' => '◾',
            other => other,
        })
        .collect()
}

fn title(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let found = lower.find("<title").and_then(|begin| {
        let begin = begin + lower[begin..].find('>')? + 1;
        Some(&html[begin..begin + lower[begin..].find("</title")?])
    });
    let text = config::rich().string_from_read(found.unwrap_or_default().as_bytes(), 10_000).unwrap_or_default();
    clean(text.trim()).replace('\n', " ")
}
