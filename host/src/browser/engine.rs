//! Who searches the web.

use serde_json::{Value, json};
use ureq::Agent;
use url::Url;

use super::open::read;
use super::web::Hit;

/// A search engine: what it is asked, and how it answers.
#[derive(Clone)]
pub struct SearchEngine {
    form: Form,
    address: String,
    key: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// <https://docs.searxng.org/dev/search_api.html>
    SearXng,
    /// <https://exa.ai/docs/reference/search>
    Exa,
    /// <https://you.com/docs/api-reference/search/v1-search>
    You,
}

/// Hits that are asked for, and characters of each, where that can be said.
const HITS: usize = 20;
const CHARACTERS: usize = 500;

impl SearchEngine {
    /// `exa` or `you`, whose keys are in the environment as `EXA_API_KEY` and `YDC_API_KEY`, or the address of a SearXNG.
    ///
    /// # Errors
    /// If it is none of them, or its key is missing.
    pub fn from_environment(name: &str) -> Result<Self, String> {
        Self::named(name, |variable| {
            let key = std::env::var(variable).ok().filter(|key| !key.is_empty());
            key.ok_or_else(|| format!("{name}: {variable} is not set"))
        })
    }

    /// `exa` or `you`, with this key, or the address of a SearXNG, which takes none.
    ///
    /// # Errors
    /// If it is none of them, its key is missing, or it takes none.
    pub fn with_key(name: &str, key: Option<&str>) -> Result<Self, String> {
        let key = key.filter(|key| !key.is_empty());
        let engine = Self::named(name, |_| key.map(str::to_owned).ok_or_else(|| format!("{name}: expected a key")))?;
        if key.is_some() && engine.form == Form::SearXng {
            return Err(format!("{name}: expected no key, since a SearXNG takes none"));
        }
        Ok(engine)
    }

    /// `key` finds the one that is in this variable.
    fn named(name: &str, key: impl Fn(&str) -> Result<String, String>) -> Result<Self, String> {
        match name {
            "exa" => Ok(Self::exa(key("EXA_API_KEY")?)),
            "you" => Ok(Self::you(key("YDC_API_KEY")?)),
            address => Self::searxng(address),
        }
    }

    /// The SearXNG at this address, whose settings have to allow JSON (`search.formats`). It may be anywhere.
    ///
    /// # Errors
    /// If the address is none.
    pub fn searxng(address: &str) -> Result<Self, String> {
        let none = || format!("{address}: expected the address of a SearXNG, exa or you");
        let mut url = Url::parse(address).map_err(|_| none())?;
        url.path_segments_mut().map_err(|()| none())?.pop_if_empty().push("search");
        Ok(Self { form: Form::SearXng, address: url.into(), key: String::new() })
    }

    /// [Exa](https://exa.ai), with a key.
    pub fn exa(key: String) -> Self {
        Self { form: Form::Exa, address: "https://api.exa.ai/search".into(), key }
    }

    /// [You.com](https://you.com), with a key.
    pub fn you(key: String) -> Self {
        Self { form: Form::You, address: "https://ydc-index.io/v1/search".into(), key }
    }

    /// Whether its answers may lead elsewhere: a key must not.
    pub(super) fn may_redirect(&self) -> bool {
        self.key.is_empty()
    }

    pub(super) fn search(&self, agent: &Agent, query: &str) -> Result<Vec<Hit>, String> {
        let get = || agent.get(&self.address);
        let response = match self.form {
            Form::SearXng => get().query("q", query).query("format", "json").call(),
            Form::You => {
                get().header("x-api-key", &self.key).query("query", query).query("count", HITS.to_string()).call()
            }
            Form::Exa => {
                let contents = json!({ "text": { "maxCharacters": CHARACTERS } });
                let body = json!({ "query": query, "numResults": HITS, "contents": contents });
                let post = agent.post(&self.address).header("x-api-key", &self.key);
                post.content_type("application/json").send(body.to_string())
            }
        };
        let failed = |error: &dyn std::fmt::Display| format!("the search failed: {error}");
        let answer = response.and_then(|mut response| read(&mut response)).map_err(|error| failed(&error))?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| failed(&error))?;
        self.hits(&answer).ok_or_else(|| failed(&"it has no results"))
    }

    fn hits(&self, answer: &Value) -> Option<Vec<Hit>> {
        let results = &answer["results"];
        Some(match self.form {
            Form::SearXng => results.as_array()?.iter().map(|result| hit(result, "content")).collect(),
            Form::Exa => results.as_array()?.iter().map(|result| hit(result, "text")).collect(),
            Form::You => {
                let kinds = results.as_object()?;
                let of = |kind: &str| kinds.get(kind).and_then(Value::as_array).into_iter().flatten();
                of("web").chain(of("news")).map(|result| hit(result, "snippets")).collect()
            }
        })
    }
}

/// Some of the text stands in this field, in one piece or in several; where there is none, a description may.
fn hit(result: &Value, field: &str) -> Hit {
    let text = |field: &str| result[field].as_str().unwrap_or_default().to_owned();
    let some = match &result[field] {
        Value::Array(parts) => parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => text(field),
    };
    Hit { url: text("url"), title: text("title"), text: if some.is_empty() { text("description") } else { some } }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use serde_json::{Value, json};

    use super::super::open::OpenWeb;
    use super::super::open::tests::{Asked, answer, serve};
    use super::super::web::{Hit, Web};
    use super::SearchEngine;

    /// What the engine finds for "boats & isles" where it is answered so, and what it asked.
    fn search_at(mut engine: SearchEngine, answer: String) -> (Result<Vec<Hit>, String>, Asked) {
        let (port, thread) = serve(vec![answer]);
        engine.address = engine.address.replacen("https://", &format!("http://127.0.0.1:{port}/"), 1);
        let found = OpenWeb::new(engine).search("boats & isles", &|| false);
        (found, thread.join().expect("a server").remove(0))
    }

    fn search(engine: SearchEngine, said: &str) -> (Result<Vec<Hit>, String>, Asked) {
        search_at(engine, answer("200 OK\r\ncontent-type: application/json", said))
    }

    fn hit(url: &str, title: &str, text: &str) -> Hit {
        Hit { url: url.into(), title: title.into(), text: text.into() }
    }

    #[test]
    fn exa_is_asked_in_its_form() {
        let said = json!({ "requestId": "1", "results": [
            { "id": "a", "url": "http://a.example/", "title": "A", "score": 0.5, "text": "when boats leave" },
            { "id": "b", "url": "http://b.example/", "title": null },
        ] });
        let (found, asked) = search(SearchEngine::exa("secret".into()), &said.to_string());
        let expected = [hit("http://a.example/", "A", "when boats leave"), hit("http://b.example/", "", "")];
        assert_eq!(found.expect("hits"), expected);
        assert_eq!(asked.line, "POST /api.exa.ai/search HTTP/1.1");
        assert!(asked.headers.contains("x-api-key: secret\n"), "{}", asked.headers);
        let body: Value = serde_json::from_str(&asked.body).expect("JSON");
        let contents = json!({ "text": { "maxCharacters": 500 } });
        assert_eq!(body, json!({ "query": "boats & isles", "numResults": 20, "contents": contents }));
    }

    #[test]
    fn you_is_asked_in_its_form() {
        let said = json!({ "results": {
            "web": [
                { "url": "http://a.example/", "title": "A", "description": "D", "snippets": ["when", "boats leave"] },
                { "url": "http://b.example/", "title": "B", "description": "the isle" },
            ],
            "news": [{ "url": "http://c.example/", "title": "C", "description": "a storm" }],
        }, "metadata": {} });
        let (found, asked) = search(SearchEngine::you("secret".into()), &said.to_string());
        let expected = [
            hit("http://a.example/", "A", "when boats leave"),
            hit("http://b.example/", "B", "the isle"),
            hit("http://c.example/", "C", "a storm"),
        ];
        assert_eq!(found.expect("hits"), expected);
        assert_eq!(asked.line, "GET /ydc-index.io/v1/search?query=boats%20%26%20isles&count=20 HTTP/1.1");
        assert!(asked.headers.contains("x-api-key: secret\n"), "{}", asked.headers);
    }

    #[test]
    fn searxng_is_asked_in_its_form() {
        let said = json!({ "results": [
            { "url": "http://a.example/", "title": "A", "content": "text" }, { "url": "http://b.example/" },
        ] });
        let engine = SearchEngine::searxng("https://searx.example/inner/").expect("an address");
        let (found, asked) = search(engine, &said.to_string());
        assert_eq!(found.expect("hits"), [hit("http://a.example/", "A", "text"), hit("http://b.example/", "", "")]);
        assert_eq!(asked.line, "GET /searx.example/inner/search?q=boats%20%26%20isles&format=json HTTP/1.1");
        assert!(!asked.headers.contains("x-api-key"), "{}", asked.headers);
    }

    #[test]
    fn a_key_is_told_to_nobody_else() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
        let there = elsewhere.local_addr().expect("an address");
        for engine in [SearchEngine::exa("secret".into()), SearchEngine::you("secret".into())] {
            let (found, _) = search_at(engine, answer(&format!("302 Found\r\nlocation: http://{there}/"), ""));
            let error = found.expect_err("no hits");
            assert!(error.starts_with("the search failed") && !error.contains("secret"), "{error}");
        }
        elsewhere.set_nonblocking(true).expect("a socket");
        assert!(elsewhere.accept().is_err(), "somebody was asked");
    }

    #[test]
    fn whatever_else_is_answered_is_told_to_the_model() {
        for said in ["", "[]", "{}", r#"{"results":7}"#, "<html>"] {
            for engine in [SearchEngine::exa("key".into()), SearchEngine::you("key".into())] {
                assert!(search(engine, said).0.is_err_and(|error| error.starts_with("the search failed")), "{said}");
            }
        }
        assert!(SearchEngine::searxng("nonsense").is_err_and(|error| error.contains("exa")));
        assert!(SearchEngine::with_key("exa", Some("key")).is_ok());
        assert!(SearchEngine::with_key("exa", None).is_err_and(|error| error == "exa: expected a key"));
        let address = "http://localhost:8888";
        assert!(SearchEngine::with_key(address, None).is_ok());
        assert!(SearchEngine::with_key(address, Some("key")).is_err_and(|error| error.contains("takes none")));
    }
}
