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
/// Bytes that a page may take while it is read, as estimated before: each of its lines carries all that it stands in.
const SIZE: usize = 256 << 20;
/// Bytes of an element or a text, of a piece of a line, and of a mark that pieces carry, as measured; marks take time, too.
const NODE: usize = 600;
const PIECE: usize = 100;
const MARK: usize = 120;
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
        measure(&parser.tokenizer.sink.sink.document, html.len() - rest.len())?;
    }
    Ok(parser.finish())
}

/// Fails where there is too much of a document, of which so many bytes have been read. Addresses that are too long lead nowhere.
fn measure(document: &Handle, read: usize) -> Result<(), String> {
    let mut open = vec![(Handle::clone(document), Place { depth: 0, width: WIDTH, before: 0, marks: 0, cells: 0 })];
    // What a line of text takes at most, for each column that it has.
    let (mut nodes, mut size, mut most) = (0, 0, 0);
    while let Some((node, mut place)) = open.pop() {
        place.depth += 1;
        if let Element { name, attrs, template_contents, .. } = &node.data {
            for attribute in attrs.borrow_mut().iter_mut().filter(|attribute| attribute.value.len() > ADDRESS) {
                attribute.value = "data:,".into();
            }
            place.enter(&name.local, attrs.borrow().iter().map(|attribute| attribute.value.len()).sum(), &node);
            size += if begins_line(&name.local) { place.line() } else { PIECE + place.marks };
            open.extend(template_contents.borrow().iter().map(|contents| (Handle::clone(contents), place)));
        }
        nodes += 1;
        size += NODE;
        most = most.max(place.line() / place.width);
        if place.depth > DEPTH || nodes > NODES || size + most * read > SIZE {
            return Err("the page is nested too deeply, or too large".into());
        }
        open.extend(node.children.borrow().iter().map(|child| (Handle::clone(child), place)));
    }
    Ok(())
}

/// Where a node stands.
#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    /// Columns that are left for a line.
    width: usize,
    /// Bytes of what stands beside the text of a line, and of what marks the text.
    before: usize,
    marks: usize,
    /// Cells of the row.
    cells: usize,
}

impl Place {
    /// Bytes of a line.
    fn line(&self) -> usize {
        PIECE + self.marks + self.before
    }

    /// Goes into an element, whose attributes have so many bytes.
    fn enter(&mut self, name: &str, attributes: usize, node: &Handle) {
        let children = || node.children.borrow().len();
        let indent = match name {
            "blockquote" | "ul" | "dd" => 2,
            "ol" => 3 + children().to_string().len() + attributes.min(20),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => 7,
            _ => 0,
        };
        if indent > 0 {
            self.before += PIECE + self.marks + indent;
            self.width = self.width.saturating_sub(indent).max(1);
        }
        match name {
            "tr" => {
                self.cells = node.children.borrow().iter().filter(|child| matches!(child.data, Element { .. })).count()
            }
            // More stand below each other.
            "td" | "th" if self.cells <= WIDTH / 2 => {
                self.before += self.cells * (PIECE + self.marks);
                self.width = (self.width / self.cells.max(1)).max(1);
            }
            // Its lines are as short as they are.
            "pre" => (self.width, self.marks) = (self.width.min(2), self.marks + MARK),
            "a" | "img" => self.marks += MARK + attributes,
            "em" | "i" | "ins" | "strong" | "b" | "code" | "dt" => self.marks += MARK,
            // Each letter is marked, in each of them anew.
            "s" | "del" => self.marks += 16 * MARK,
            _ => {}
        }
    }
}

/// Whether the element stands on lines of its own.
fn begins_line(name: &str) -> bool {
    matches!(
        name,
        "p" | "div"
            | "li"
            | "dl"
            | "dt"
            | "dd"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "blockquote"
            | "ul"
            | "ol"
            | "pre"
            | "br"
            | "table"
            | "tr"
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
