//! From HTML to lines of text in which links have numbers.

use std::sync::Arc;
use std::thread;

use html2text::render::RichAnnotation;
use html2text::{Element, Handle, RcDom, config};
use html5ever::driver::{ParseOpts, parse_document};
use html5ever::tendril::TendrilSink;
use html5ever::tree_builder::TreeBuilderOpts;
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

/// How deep elements may stand in each other, as in browsers: they are gone down into, and a stack has an end.
const DEPTH: usize = 512;
const STACK: usize = 64 << 20;
/// How deep elements may stand in each other that indent lines or mark their text: each line carries all of them.
const MARKS: usize = 32;
/// Bytes of an attribute, such as an address: each line of a link carries it.
const ADDRESS: usize = 2048;
/// Elements and texts of a page. A few bytes can become many: styles that are not closed are made anew in each paragraph.
const NODES: usize = 300_000;
/// So many bytes are read before the page is measured again.
const PART: usize = 4096;

impl Page {
    /// The page in some HTML.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn of_html(url: &str, html: &str) -> Result<Self, String> {
        thread::scope(|scope| {
            let read = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || Self::read_html(url, html));
            read.map_err(|error| error.to_string())?.join().unwrap_or_else(|_| Err("the page cannot be read".into()))
        })
    }

    fn read_html(url: &str, html: &str) -> Result<Self, String> {
        let base = Url::parse(url).ok();
        let mut page = Self::new(url, &title(html));
        // Lists deep in lists need more columns than there are.
        let (config, document) = (config::rich().allow_width_overflow(), parse(html)?);
        let tree = config.dom_to_render_tree(&document);
        let lines = tree.and_then(|tree| config.render_to_lines(tree, WIDTH)).map_err(|error| error.to_string())?;
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

    /// Bytes of memory that the page takes, with those that its links lead to.
    pub fn size(&self) -> usize {
        // What an allocation takes besides.
        const ENTRY: usize = size_of::<Link>() + 24;
        let lines: usize = self.lines.iter().map(|line| ENTRY + line.len()).sum();
        let mut place = None;
        let links = self.links.iter().map(|link| match link {
            Link::Page(url) => ENTRY + url.len(),
            Link::Place(page, _) => {
                place = Some(page);
                ENTRY
            }
        });
        let links: usize = links.sum();
        // Places are all of one page.
        lines + links + place.map_or(0, |page| page.size())
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

/// Reads HTML, unless it is too large once it is read.
fn parse(html: &str) -> Result<RcDom, String> {
    let tree_builder = TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() };
    let mut parser = parse_document(RcDom::default(), ParseOpts { tree_builder, ..ParseOpts::default() });
    let mut rest = html;
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.ceil_char_boundary(PART));
        rest = behind;
        parser.process(part.into());
        measure(&parser.tokenizer.sink.sink.document)?;
    }
    Ok(parser.finish())
}

/// Fails where there is too much of a document. Addresses that are too long lead nowhere.
fn measure(document: &Handle) -> Result<(), String> {
    let (mut open, mut nodes) = (vec![(Handle::clone(document), 0, 0)], 0);
    while let Some((node, depth, mut marks)) = open.pop() {
        nodes += 1;
        if let Element { name, attrs, template_contents, .. } = &node.data {
            marks += usize::from(marks_lines(&name.local));
            for attribute in attrs.borrow_mut().iter_mut().filter(|attribute| attribute.value.len() > ADDRESS) {
                attribute.value = "data:,".into();
            }
            open.extend(template_contents.borrow().iter().map(|contents| (Handle::clone(contents), depth + 1, marks)));
        }
        if depth > DEPTH || marks > MARKS || nodes > NODES {
            return Err("the page is nested too deeply, or too large".into());
        }
        open.extend(node.children.borrow().iter().map(|child| (Handle::clone(child), depth + 1, marks)));
    }
    Ok(())
}

/// Whether lines within the element carry something of it.
fn marks_lines(name: &str) -> bool {
    matches!(
        name,
        "blockquote"
            | "ul"
            | "ol"
            | "dd"
            | "table"
            | "td"
            | "th"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "pre"
            | "a"
            | "em"
            | "i"
            | "ins"
            | "strong"
            | "b"
            | "s"
            | "del"
            | "code"
    )
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
    // There are no tags in a title, whatever looks so.
    let text = found.unwrap_or_default().replace('<', "&lt;");
    let text = config::plain().string_from_read(text.as_bytes(), text.len() + 1).unwrap_or_default();
    clean(text.trim()).replace('\n', " ")
}
