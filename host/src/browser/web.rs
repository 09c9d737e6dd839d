//! Where searches and pages come from.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::Value;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};
use url::Url;

/// The web, or what takes its place.
pub trait Web {
    /// What a search found.
    ///
    /// # Errors
    /// Why nothing was, for the model.
    fn search(&mut self, query: &str) -> Result<Vec<Hit>, String>;

    /// A page.
    ///
    /// # Errors
    /// Why there is none, for the model.
    fn fetch(&mut self, url: &str) -> Result<Fetched, String>;
}

impl<W: Web + ?Sized> Web for Box<W> {
    fn search(&mut self, query: &str) -> Result<Vec<Hit>, String> {
        (**self).search(query)
    }

    fn fetch(&mut self, url: &str) -> Result<Fetched, String> {
        (**self).fetch(url)
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

/// Pages of the open web, searched through a SearXNG: addresses that are not public are refused, whatever name or redirection
/// leads to them.
#[derive(Clone)]
pub struct OpenWeb {
    searx: Url,
    search: Agent,
    pages: Agent,
}

/// Time for a page or a search.
const TIME: Duration = Duration::from_secs(20);
/// Bytes of a page or a search.
const SIZE: u64 = 2 << 20;

impl OpenWeb {
    /// With the SearXNG at this address, which has to give JSON (`search.formats` of its settings) and may be anywhere.
    ///
    /// # Errors
    /// If the address is none.
    pub fn new(searx: &str) -> Result<Self, String> {
        Self::with(searx, PublicAddresses)
    }

    /// With another judgement about addresses.
    pub(super) fn with(searx: &str, resolver: impl Resolver) -> Result<Self, String> {
        let searx = Url::parse(searx).map_err(|error| format!("{searx}: {error}"))?;
        let config = || {
            let config = Agent::config_builder().timeout_global(Some(TIME)).user_agent("Ossicle").max_redirects(5);
            // A proxy would ask for addresses that nobody has judged.
            config.proxy(None).build()
        };
        let pages = Agent::with_parts(config(), DefaultConnector::new(), resolver);
        Ok(Self { searx, search: config().new_agent(), pages })
    }
}

impl Web for OpenWeb {
    fn search(&mut self, query: &str) -> Result<Vec<Hit>, String> {
        let mut url = self.searx.clone();
        url.path_segments_mut().map_err(|()| "the address of the search is none")?.pop_if_empty().push("search");
        url.query_pairs_mut().append_pair("q", query).append_pair("format", "json");
        let answer = get(&self.search, url.as_str())?;
        let answer: Value =
            serde_json::from_str(&answer.text).map_err(|error| format!("the search failed: {error}"))?;
        let text = |hit: &Value, key: &str| hit[key].as_str().unwrap_or_default().to_owned();
        let hits = answer["results"].as_array().ok_or("the search has no results")?;
        let hits =
            hits.iter().map(|hit| Hit { url: text(hit, "url"), title: text(hit, "title"), text: text(hit, "content") });
        Ok(hits.collect())
    }

    fn fetch(&mut self, url: &str) -> Result<Fetched, String> {
        let parsed = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        if !["http", "https"].contains(&parsed.scheme()) || !parsed.username().is_empty() || parsed.password().is_some()
        {
            return Err(format!("{url}: only pages over http and https can be opened"));
        }
        get(&self.pages, parsed.as_str())
    }
}

fn get(agent: &Agent, url: &str) -> Result<Fetched, String> {
    let failed = |error: Error| format!("{url}: {error}");
    let mut response = agent.get(url).call().map_err(failed)?;
    let kind = response.body().mime_type().unwrap_or("text/html").to_ascii_lowercase();
    let is_html = kind.contains("html");
    if !is_html && !kind.starts_with("text/") && !["application/json", "application/xml"].contains(&&*kind) {
        return Err(format!("{url}: only texts can be read, and this is {kind}"));
    }
    use ureq::ResponseExt;
    let url = response.get_uri().to_string();
    let bytes = response.body_mut().with_config().limit(SIZE).read_to_vec().map_err(failed)?;
    Ok(Fetched { url, text: String::from_utf8_lossy(&bytes).into_owned(), is_html })
}

/// Names that lead to public addresses. The connection is made to what was judged, so a name that changes its mind gains nothing.
#[derive(Debug)]
struct PublicAddresses;

impl Resolver for PublicAddresses {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let mut public = self.empty();
        found.iter().filter(|address| is_public(address.ip())).for_each(|address| public.push(*address));
        if public.is_empty() {
            return Err(Error::Other("the address is not public".into()));
        }
        Ok(public)
    }
}

/// Whether everyone can reach the address (IANA's special-purpose registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let is_special = v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || a == 0
                || a >= 224
                || (a, b & 0xc0) == (100, 64)
                || (a, b, c) == (192, 0, 0)
                || (a, b, c) == (192, 88, 99)
                || (a, b & 0xfe) == (198, 18);
            !is_special
        }
        IpAddr::V6(v6) => match v6.segments() {
            // Addresses that hold one of the older kind.
            [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
                is_public(Ipv4Addr::new(a, b, c, d).into())
            }
            [first, second, ..] => {
                // What is given out to networks, without what is for documents and for tunnels.
                first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0xdb8) && (first, second) != (0x2001, 0)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

    use super::{DefaultResolver, Fetched, IpAddr, OpenWeb, Web, is_public};

    #[test]
    fn addresses_of_machines_and_networks_of_ones_own_are_not_public() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(address.parse::<IpAddr>().expect("an address")), "{address}");
        }
        for address in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert!(is_public(address.parse::<IpAddr>().expect("an address")), "{address}");
        }
    }

    #[test]
    fn what_is_not_public_is_not_asked() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut web = OpenWeb::new("http://127.0.0.1:1").expect("a web");
        for host in ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
            let error = web.fetch(&format!("http://{host}:{port}/")).expect_err(host);
            assert!(error.contains("not public") || error.contains("not found"), "{host}: {error}");
        }
        for url in ["file:///etc/passwd", "ftp://1.1.1.1/", "http://name:word@1.1.1.1/", "nonsense"] {
            assert!(web.fetch(url).is_err(), "{url}");
        }
        listener.set_nonblocking(true).expect("a socket");
        assert!(listener.accept().is_err(), "somebody was asked");
    }

    /// Answers requests with these texts, one after the other, and tells what was asked.
    fn serve(answers: Vec<String>) -> (u16, std::thread::JoinHandle<Vec<String>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let thread = std::thread::spawn(move || {
            let answer = |answer: String| {
                let (mut stream, _) = listener.accept().expect("a request");
                let mut lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
                let asked = lines.next().expect("a line").expect("text");
                lines.find(|line| line.as_ref().is_ok_and(String::is_empty));
                let _ = stream.write_all(answer.as_bytes());
                asked
            };
            answers.into_iter().map(answer).collect()
        });
        (port, thread)
    }

    fn answer(head: &str, body: &str) -> String {
        format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn a_search_is_asked_and_redirections_are_followed() {
        let hits =
            r#"{"results":[{"url":"http://a.example/","title":"A","content":"text"},{"url":"http://b.example/"}]}"#;
        let (port, thread) = serve(vec![
            answer("200 OK\r\ncontent-type: application/json", hits),
            answer("302 Found\r\nlocation: /there", ""),
            answer("200 OK\r\ncontent-type: text/html; charset=utf-8", "<p>Here"),
            answer("200 OK\r\ncontent-type: image/png", "x"),
            answer("404 Not Found", "x"),
            answer("200 OK\r\ncontent-type: text/plain", &"x".repeat(3 << 20)),
        ]);
        let base = format!("http://127.0.0.1:{port}");
        let mut web = OpenWeb::with(&format!("{base}/searx/"), DefaultResolver::default()).expect("a web");
        let found = web.search("boats & isles").expect("hits");
        assert_eq!(
            (found.len(), &*found[0].title, &*found[0].text, &*found[1].url),
            (2, "A", "text", "http://b.example/")
        );
        let page = web.fetch(&format!("{base}/here")).expect("a page");
        assert_eq!(page, Fetched { url: format!("{base}/there"), text: "<p>Here".into(), is_html: true });
        for expected in ["this is image/png", "404", "larger than"] {
            let error = web.fetch(&base).expect_err(expected);
            assert!(error.to_lowercase().contains(expected), "{error}");
        }
        let asked = thread.join().expect("what was asked");
        assert_eq!(
            asked[..3],
            ["GET /searx/search?q=boats+%26+isles&format=json HTTP/1.1", "GET /here HTTP/1.1", "GET /there HTTP/1.1"]
        );
    }
}
