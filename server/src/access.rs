//! Who may use the server.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::error::ApiError;
use crate::routes::failure;
use crate::seal::hex;
use crate::service::Service;

/// Whose request it is: a name for each key, that says nothing about the key.
#[derive(Clone)]
pub struct Owner(pub Arc<str>);

/// Lets a request through, or not.
pub async fn check(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let settings = &service.settings;
    // A page of another site that has its name point here must not get through.
    if settings.api_keys.is_empty() && !is_known_host(headers, &settings.hosts) {
        return failure(&forbidden("The server is not known by this name."));
    }
    let origin = headers.get(header::ORIGIN).cloned();
    let is_allowed = |origin: &HeaderValue| {
        settings.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) || is_same(origin, headers)
    };
    if origin.as_ref().is_some_and(|origin| !is_allowed(origin)) {
        return failure(&forbidden("Pages of this origin may not use the server."));
    }
    if request.method() == Method::OPTIONS && origin.is_some() {
        return with_origin(StatusCode::NO_CONTENT.into_response(), origin);
    }
    let is_open = ["/", "/health", "/openapi.json"].contains(&request.uri().path());
    match owner(headers, &settings.api_keys) {
        Some(owner) => request.extensions_mut().insert(owner),
        None if is_open => None,
        None => {
            let error =
                ApiError::new(401, "invalid_request_error", "A valid API key is needed: Authorization: Bearer KEY.");
            return with_origin(failure(&ApiError { code: Some("invalid_api_key"), ..error }), origin);
        }
    };
    with_origin(next.run(request).await, origin)
}

fn forbidden(message: &str) -> ApiError {
    ApiError { code: Some("forbidden"), ..ApiError::new(403, "invalid_request_error", message) }
}

/// Whose key it is. Digests are compared, so that the time says nothing about a key.
fn owner(headers: &HeaderMap, keys: &[String]) -> Option<Owner> {
    if keys.is_empty() {
        return Some(Owner("".into()));
    }
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    let given = Sha256::digest(given.trim());
    keys.iter().any(|key| Sha256::digest(key) == given).then(|| Owner(hex(&given[..16]).into()))
}

/// Whether the server is called by an address, or a name that nobody else can have point here.
fn is_known_host(headers: &HeaderMap, hosts: &[String]) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return true };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || address.parse::<IpAddr>().is_ok() || hosts.iter().any(|known| known == name)
}

/// Whether the page came from here.
fn is_same(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    host.is_some() && origin.split_once("://").map(|(_, host)| host) == host
}

/// Tells the browser that the page may read the answer.
fn with_origin(mut response: Response, origin: Option<HeaderValue>) -> Response {
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        let allowed = HeaderValue::from_static("authorization, content-type");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use super::is_known_host;

    #[test]
    fn addresses_are_known_and_names_only_if_they_are_allowed() {
        for (host, is_known) in [
            ("localhost:8000", true),
            ("192.0.2.7:8000", true),
            ("[::1]", true),
            ("[2001:db8::1]:8000", true),
            ("mine.example", true),
            ("evil.example:8000", false),
            ("192.0.2.7.evil.example", false),
            ("[evil]", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            assert_eq!(is_known_host(&headers, &["mine.example".to_owned()]), is_known, "{host}");
        }
    }
}
