//! The open web.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::unversioned::resolver::{DefaultResolver, Resolver};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Error};
use url::Url;

use super::engine::SearchEngine;
use super::public::PublicAddresses;
use super::web::{Domains, Fetched, Hit, Web};

/// Pages of the open web: addresses that are not public are refused, whatever name or redirection leads to them.
#[derive(Clone)]
pub struct OpenWeb {
    engine: SearchEngine,
    searches: Agent,
    pages: Agent,
    under_way: Arc<AtomicUsize>,
}

/// Time for a page or a search.
const TIME: Duration = Duration::from_secs(20);
/// Bytes of a page or a search.
const SIZE: u64 = 2 << 20;
/// Redirections of a page or a search, where they are followed.
const REDIRECTIONS: u32 = 5;
/// Pages and searches under way of all clones together, those among them that nobody waits for any more.
const MOST_UNDER_WAY: usize = 64;
/// How soon it is noticed that nobody waits any more.
const NOTICE: Duration = Duration::from_millis(50);

impl OpenWeb {
    /// Searched by this engine. Clones share what they may have under way.
    pub fn new(engine: SearchEngine) -> Self {
        Self::with(engine, PublicAddresses)
    }

    /// With another judgement about addresses.
    fn with(engine: SearchEngine, resolver: impl Resolver) -> Self {
        let redirections = if engine.may_redirect() { REDIRECTIONS } else { 0 };
        let searches = agent(redirections, DefaultResolver::default());
        Self { engine, searches, pages: agent(0, resolver), under_way: Arc::default() }
    }

    /// Does `work` on a thread of its own, which is left to itself once nobody waits for it: it ends when its time is over.
    fn wait<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<T, String> {
        let place = Place::take(&self.under_way).ok_or("too many pages are being loaded; try again later")?;
        let (sender, receiver) = channel();
        let spawned = thread::Builder::new().spawn(move || {
            let result = work();
            drop(place);
            sender.send(result)
        });
        spawned.map_err(|error| format!("nothing can be loaded now: {error}"))?;
        loop {
            match receiver.recv_timeout(NOTICE) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if !is_cancelled() => {}
                Err(_) => return Err("cancelled".into()),
            }
        }
    }
}

fn agent(redirections: u32, resolver: impl Resolver) -> Agent {
    let config = Agent::config_builder().timeout_global(Some(TIME)).user_agent("Ossicle").max_redirects(redirections);
    // A proxy would ask for addresses that nobody has judged.
    Agent::with_parts(config.proxy(None).build(), DefaultConnector::new(), resolver)
}

/// One of those that may be under way.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(under_way: &Arc<AtomicUsize>) -> Option<Self> {
        let taken = Self(Arc::clone(under_way));
        (under_way.fetch_add(1, Ordering::Relaxed) < MOST_UNDER_WAY).then_some(taken)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Web for OpenWeb {
    fn search(&mut self, query: &str, is_cancelled: &dyn Fn() -> bool) -> Result<Vec<Hit>, String> {
        let (engine, agent, query) = (self.engine.clone(), self.searches.clone(), query.to_owned());
        self.wait(move || engine.search(&agent, &query), is_cancelled)
    }

    fn fetch(&mut self, url: &str, domains: &Domains, is_cancelled: &dyn Fn() -> bool) -> Result<Fetched, String> {
        let url = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        demand_page(&url)?;
        let (agent, domains) = (self.pages.clone(), domains.clone());
        self.wait(move || follow(&agent, url, &domains), is_cancelled)
    }
}

fn demand_page(url: &Url) -> Result<(), String> {
    let is_open = url.username().is_empty() && url.password().is_none();
    match ["http", "https"].contains(&url.scheme()) && is_open {
        true => Ok(()),
        false => Err(format!("{url}: only pages over http and https can be opened")),
    }
}

/// A page, after redirections, each of which is judged.
fn follow(agent: &Agent, mut url: Url, domains: &Domains) -> Result<Fetched, String> {
    let latest = Instant::now() + TIME;
    for _ in 0..=REDIRECTIONS {
        let rest = latest.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            break;
        }
        url.set_fragment(None);
        let failed = |error: Error| format!("{url}: {error}");
        let request = agent.get(url.as_str()).config().timeout_global(Some(rest)).build();
        let response = request.call().map_err(failed)?;
        let Some(place) = redirection(&response) else { return page(&url, response) };
        let next = url.join(place).map_err(|error| format!("{url}: {place}: {error}"))?;
        demand_page(&next)?;
        domains.allow(next.as_str())?;
        url = next;
    }
    Err(format!("{url}: redirections lead on and on"))
}

/// Where a response leads.
fn redirection(response: &Response<Body>) -> Option<&str> {
    let leads = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    response.headers().get("location").filter(|_| leads)?.to_str().ok()
}

fn page(url: &Url, mut response: Response<Body>) -> Result<Fetched, String> {
    let kind = response.body().mime_type().unwrap_or("text/html").to_ascii_lowercase();
    let is_html = kind.contains("html");
    if !is_html && !kind.starts_with("text/") && !["application/json", "application/xml"].contains(&&*kind) {
        return Err(format!("{url}: only texts can be read, and this is {kind}"));
    }
    let bytes = read(&mut response).map_err(|error| format!("{url}: {error}"))?;
    Ok(Fetched { url: url.to_string(), text: String::from_utf8_lossy(&bytes).into_owned(), is_html })
}

/// All of a response, if it is not too large.
pub(super) fn read(response: &mut Response<Body>) -> Result<Vec<u8>, Error> {
    response.body_mut().with_config().limit(SIZE).read_to_vec()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::{self, JoinHandle};

    use ureq::config::Config;
    use ureq::http::Uri;
    use ureq::unversioned::resolver::ResolvedSocketAddrs;
    use ureq::unversioned::transport::NextTimeout;

    use super::{
        DefaultResolver, Domains, Fetched, MOST_UNDER_WAY, OpenWeb, PublicAddresses, Resolver, SearchEngine, Web,
    };

    fn engine() -> SearchEngine {
        SearchEngine::searxng("http://127.0.0.1:1").expect("an address")
    }

    const WANTED: &dyn Fn() -> bool = &|| false;

    #[test]
    fn what_is_not_public_is_not_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut web = OpenWeb::new(engine());
        for host in ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
            let error = web.fetch(&format!("http://{host}:{port}/"), &Domains::default(), WANTED).expect_err(host);
            assert!(error.contains("not public") || error.contains("not found"), "{host}: {error}");
        }
        for url in ["file:///etc/passwd", "ftp://1.1.1.1/", "http://name:word@1.1.1.1/", "nonsense"] {
            assert!(web.fetch(url, &Domains::default(), WANTED).is_err(), "{url}");
        }
        listener.set_nonblocking(true).expect("a socket");
        assert!(listener.accept().is_err(), "somebody was asked");
    }

    /// A request as it came.
    pub struct Asked {
        pub line: String,
        /// In lower case, a line each.
        pub headers: String,
        pub body: String,
    }

    /// Answers requests with these texts, one after the other, and tells what was asked.
    pub fn serve(answers: Vec<String>) -> (u16, JoinHandle<Vec<Asked>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let thread = thread::spawn(move || {
            let answer = |answer: String| {
                let (mut stream, _) = listener.accept().expect("a request");
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                let mut lines = reader.by_ref().lines().map(|line| line.expect("text"));
                let line = lines.next().expect("a line");
                let headers = lines.take_while(|line| !line.is_empty());
                let headers: String = headers.map(|line| line.to_lowercase() + "\n").collect();
                let size = headers.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; size.unwrap_or(0)];
                reader.read_exact(&mut body).expect("a body");
                let _ = stream.write_all(answer.as_bytes());
                Asked { line, headers, body: String::from_utf8(body).expect("text") }
            };
            answers.into_iter().map(answer).collect()
        });
        (port, thread)
    }

    pub fn answer(head: &str, body: &str) -> String {
        format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn redirections_are_followed_and_what_is_no_text_or_too_large_is_refused() {
        let (port, thread) = serve(vec![
            answer("302 Found\r\nlocation: /there", ""),
            answer("200 OK\r\ncontent-type: text/html; charset=utf-8", "<p>Here"),
            answer("200 OK\r\ncontent-type: image/png", "x"),
            answer("404 Not Found", "x"),
            answer("200 OK\r\ncontent-type: text/plain", &"x".repeat(3 << 20)),
        ]);
        let base = format!("http://127.0.0.1:{port}");
        let mut web = OpenWeb::with(engine(), DefaultResolver::default());
        let page = web.fetch(&format!("{base}/here"), &Domains::default(), WANTED).expect("a page");
        assert_eq!(page, Fetched { url: format!("{base}/there"), text: "<p>Here".into(), is_html: true });
        for expected in ["this is image/png", "404", "larger than"] {
            let error = web.fetch(&base, &Domains::default(), WANTED).expect_err(expected);
            assert!(error.to_lowercase().contains(expected), "{error}");
        }
        let asked = thread.join().expect("what was asked");
        assert_eq!([&*asked[0].line, &*asked[1].line], ["GET /here HTTP/1.1", "GET /there HTTP/1.1"]);
    }

    /// Has all names below `example` on this machine; all others have to be public.
    #[derive(Debug)]
    struct Example(SocketAddr);

    impl Resolver for Example {
        fn resolve(
            &self,
            uri: &Uri,
            config: &Config,
            timeout: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            if !uri.host().is_some_and(|host| host.ends_with(".example")) {
                return PublicAddresses.resolve(uri, config, timeout);
            }
            let mut found = self.empty();
            found.push(self.0);
            Ok(found)
        }
    }

    #[test]
    fn redirections_to_what_is_not_public_or_not_allowed_are_not_followed() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let there = silent.local_addr().expect("an address");
        let lead = |to: &str| answer(&format!("302 Found\r\nlocation: {to}"), "");
        let (port, thread) = serve(vec![
            lead(&format!("http://{there}/")),
            lead("http://other.example/?q=secret"),
            lead("//deep.isle.example/"),
            answer("200 OK\r\ncontent-type: text/plain", "Boats."),
            lead("file:///etc/passwd"),
        ]);
        let mut web = OpenWeb::with(engine(), Example(SocketAddr::from(([127, 0, 0, 1], port))));
        let domains = Domains::new(vec!["isle.example".into()]);
        let mut fetch = |domains: &Domains| web.fetch("http://isle.example/", domains, WANTED);
        assert!(fetch(&Domains::default()).is_err_and(|error| error.contains("not public")));
        assert!(fetch(&domains).is_err_and(|error| error.contains("other domains")));
        assert_eq!(fetch(&domains).expect("a page").url, "http://deep.isle.example/");
        assert!(fetch(&domains).is_err_and(|error| error.contains("only pages")));
        let asked: Vec<_> = thread.join().expect("what was asked").into_iter().map(|asked| asked.line).collect();
        assert_eq!(asked, ["GET / HTTP/1.1"; 5]);
        silent.set_nonblocking(true).expect("a socket");
        assert!(silent.accept().is_err(), "somebody was asked");
    }

    #[test]
    fn whoever_waits_no_more_goes_on_at_once_and_what_is_left_behind_is_bounded() {
        // It takes connections, and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", silent.local_addr().expect("an address"));
        let mut web = OpenWeb::with(engine(), DefaultResolver::default());
        let asked = AtomicBool::new(false);
        // Not before it is under way.
        let leaves = || asked.swap(true, Ordering::Relaxed);
        assert_eq!(web.fetch(&url, &Domains::default(), &leaves), Err("cancelled".into()));
        for _ in 1..MOST_UNDER_WAY {
            assert_eq!(web.clone().fetch(&url, &Domains::default(), &|| true), Err("cancelled".into()));
        }
        assert!(web.fetch(&url, &Domains::default(), WANTED).is_err_and(|error| error.contains("too many")));
    }
}
