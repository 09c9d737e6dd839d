//! Citations in the model's words, as links.
//!
//! The model cites what its browser showed as `【cursor†lines】`. Readers get a link instead, and clients an annotation.

use std::collections::BTreeMap;

use url::Url;

/// A page that can be cited.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Where it is.
    pub url: String,
    /// What it is called.
    pub title: String,
}

/// Where a text cites a page: from the character `start` to the one before `end`.
#[derive(Clone, Debug, PartialEq)]
pub struct Citation {
    /// The first character of the link.
    pub start: usize,
    /// One past its last.
    pub end: usize,
    /// The page.
    pub source: Source,
}

/// The pages that a conversation has been shown, by their cursors.
#[derive(Debug, Default)]
pub struct Pages(BTreeMap<usize, Source>);

impl Pages {
    /// Takes notice of what the browser answered, which begins with `[cursor] title (url)`.
    pub fn add(&mut self, text: &str) {
        let head = text.lines().next().and_then(|head| head.strip_prefix('[')?.split_once("] "));
        let Some((Ok(cursor), head)) = head.map(|(cursor, head)| (cursor.parse(), head)) else { return };
        // That of a search has none, and tells a query that looks like it by a space behind it.
        let is_page = |url: &str| Url::parse(url).is_ok_and(|url| ["http", "https"].contains(&url.scheme()));
        let parts = head.strip_suffix(')').and_then(|head| head.rsplit_once(" (")).filter(|(_, url)| is_page(url));
        let (title, url) = parts.unwrap_or((head, ""));
        self.0.insert(cursor, Source { url: url.to_owned(), title: title.to_owned() });
    }

    /// That of a cursor, if it can be cited: what was found, and not where it was found, has an address.
    pub fn get(&self, cursor: usize) -> Option<&Source> {
        self.0.get(&cursor).filter(|source| !source.url.is_empty())
    }

    /// The one shown last.
    pub fn last(&self) -> Option<&Source> {
        self.0.last_key_value().map(|(_, source)| source)
    }

    /// What the next page will be cited by.
    pub fn next_cursor(&self) -> usize {
        self.0.last_key_value().map_or(0, |(cursor, _)| cursor.saturating_add(1))
    }
}

/// Turns marks into links in a text that comes in parts; marks may be cut anywhere.
#[derive(Debug, Default)]
pub struct Citations {
    /// What may become a mark.
    held: String,
    /// Characters told so far.
    told: usize,
}

const BEGIN: char = '【';
const END: char = '】';
const BETWEEN: char = '†';
/// What is longer is no mark, in bytes.
const LONGEST: usize = 256;

impl Citations {
    /// Takes a part of the text; what of it can be told, and what that cites.
    pub fn take(&mut self, text: &str, pages: &Pages) -> (String, Vec<Citation>) {
        let (mut out, mut citations) = (String::new(), Vec::new());
        for character in text.chars() {
            if self.held.is_empty() && character != BEGIN {
                self.tell(&mut out, character.encode_utf8(&mut [0; 4]));
                continue;
            }
            if character == BEGIN {
                self.release(&mut out);
            }
            self.held.push(character);
            if character == END {
                let mark = std::mem::take(&mut self.held);
                match cursor(&mark).and_then(|cursor| pages.get(cursor)) {
                    Some(source) => {
                        let start = self.told + 1;
                        let link = link(source);
                        let end = start + link.chars().count();
                        self.tell(&mut out, &format!(" {link} "));
                        citations.push(Citation { start, end, source: source.clone() });
                    }
                    None => self.tell(&mut out, &mark),
                }
            } else if self.held.len() > LONGEST {
                self.release(&mut out);
            }
        }
        (out, citations)
    }

    /// The text is over: what was held after all.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.release(&mut out);
        out
    }

    fn release(&mut self, out: &mut String) {
        let held = std::mem::take(&mut self.held);
        self.tell(out, &held);
    }

    fn tell(&mut self, out: &mut String, text: &str) {
        self.told += text.chars().count();
        out.push_str(text);
    }
}

fn cursor(mark: &str) -> Option<usize> {
    let (cursor, _) = mark.strip_prefix(BEGIN)?.strip_suffix(END)?.split_once(BETWEEN)?;
    cursor.parse().ok()
}

/// In Markdown, named by the domain.
fn link(Source { url, title }: &Source) -> String {
    let host = url.split_once("://").map_or(&**url, |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or(host);
    let host = if host.is_empty() { title } else { host.strip_prefix("www.").unwrap_or(host) };
    let url = url.replace('(', "%28").replace(')', "%29").replace(' ', "%20");
    format!("([{host}]({url}))")
}

#[cfg(test)]
mod tests {
    use super::{Citation, Citations, Pages, Source};

    fn pages() -> Pages {
        let mut pages = Pages::default();
        for text in [
            "[0] The isle (near) (https://www.isle.example/a_(b))\n**viewing lines [0 - 1] of 1**\n\nL0:",
            "[1] Harbour (http://harbour.example)",
            "[2] boats",
            "[3] James Bond (1962)",
            "[4] x (javascript:alert(1))",
            "Error: no page is open",
            "[x] nothing",
        ] {
            pages.add(text);
        }
        pages
    }

    #[test]
    fn pages_are_known_by_what_the_browser_said_first() {
        let pages = pages();
        let source = |url: &str, title: &str| Source { url: url.into(), title: title.into() };
        assert_eq!(pages.get(0), Some(&source("https://www.isle.example/a_(b)", "The isle (near)")));
        assert_eq!([2, 3, 4].map(|cursor| pages.get(cursor)), [None; 3]);
        assert_eq!(pages.0.get(&3), Some(&source("", "James Bond (1962)")));
        assert_eq!(pages.last(), Some(&source("", "x (javascript:alert(1))")));
        assert_eq!(pages.next_cursor(), 5);
    }

    #[test]
    fn marks_become_links_wherever_the_text_is_cut() {
        let text = "Boats【1†L3】leave【x】, 【0†L1-L2】【7†L1】【 and 【1†L9";
        let told = "Boats ([harbour.example](http://harbour.example)) leave【x】,  \
            ([isle.example](https://www.isle.example/a_%28b%29)) 【7†L1】【 and 【1†L9";
        let characters: Vec<char> = text.chars().collect();
        for cut in 0..characters.len() {
            let mut citations = Citations::default();
            let (first, second) = characters.split_at(cut);
            let mut out = String::new();
            let mut found = Vec::new();
            for part in [first, second] {
                let (text, cited) = citations.take(&part.iter().collect::<String>(), &pages());
                out += &text;
                found.extend(cited);
            }
            out += &citations.finish();
            assert_eq!(out, told, "cut at {cut}");
            for Citation { start, end, source } in &found {
                let cited: String = out.chars().skip(*start).take(end - start).collect();
                assert!(
                    cited.starts_with("([") && cited.ends_with("))") && cited.contains(&source.url[..12]),
                    "{cited}"
                );
            }
            assert_eq!(found.len(), 2);
        }
    }

    #[test]
    fn what_never_ends_is_told_all_the_same() {
        let mut citations = Citations::default();
        let text = format!("【1†{}", "x".repeat(1000));
        let (mut out, cited) = citations.take(&text, &pages());
        out += &citations.finish();
        assert_eq!((out, cited), (text, Vec::new()));
    }
}
