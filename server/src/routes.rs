//! The routes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request as HttpRequest, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router, middleware};
use futures_util::stream::{Stream, StreamExt, unfold};
use serde_json::{Value, json};

use crate::access::{self, Owner};
use crate::answer::{ChatAnswer, End};
use crate::error::ApiError;
use crate::request::chat::ChatRequest;
use crate::request::{Request, Warnings};
use crate::service::{Events, Responding, Service, blocking, now};

type Shared = State<Arc<Service>>;

/// A comment is sent so often while nothing happens, so that nobody takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// All routes.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/responses", post(create_response))
        .route("/v1/responses/input_tokens", post(count_input_tokens))
        .route("/v1/responses/{id}", get(get_response).delete(delete_response))
        .route("/v1/responses/{id}/cancel", post(cancel_response))
        .route("/v1/responses/{id}/input_items", get(list_input_items))
        .route("/v1/chat/completions", post(create_chat_completion))
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(get_model))
        .route("/", get(page))
        .route("/health", get(async || Json(json!({ "status": "ok" }))))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(async || json_text(include_str!("openapi.json"))))
        .route("/api/version", get(async || Json(json!({ "version": OLLAMA_VERSION }))))
        .route("/api/tags", get(list_tags))
        .fallback(async || failure(&ApiError::not_found("There is no such route.")))
        .method_not_allowed_fallback(async || {
            failure(&ApiError::new(405, "invalid_request_error", "The route has no such method."))
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&service), access::check))
        .with_state(service)
}

/// The version of Ollama from which on clients use its Responses API.
const OLLAMA_VERSION: &str = "0.13.4";

/// An error as an answer.
pub fn failure(error: &ApiError) -> Response {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(error.to_json())).into_response();
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        failure(&self)
    }
}

/// A body of JSON, within the limits of size, depth and time.
struct JsonBody(Value);

impl FromRequest<Arc<Service>> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: HttpRequest, service: &Arc<Service>) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        // Pages of other sites cannot send this type without being asked for their origin.
        if !kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json") {
            let message = "The Content-Type should be application/json.";
            return Err(ApiError::new(415, "invalid_request_error", message));
        }
        let settings = &service.settings;
        let body = axum::body::to_bytes(request.into_body(), settings.body_size);
        let late = || ApiError::new(408, "invalid_request_error", "The request took too long.");
        let body = tokio::time::timeout(settings.request_time, body).await.map_err(|_| late())?;
        let large = format!("The request should have at most {} bytes.", settings.body_size);
        let body = body.map_err(|_| ApiError::new(413, "invalid_request_error", large))?;
        let malformed = |error| ApiError::invalid("", format!("The request is not JSON: {error}"));
        Ok(Self(serde_json::from_slice(&body).map_err(malformed)?))
    }
}

/// The id in a path.
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = Path::from_request_parts(parts, state).await;
        id.map(|Path(id)| Self(id)).map_err(|error| ApiError::invalid("id", error.body_text()))
    }
}

/// What stands behind the path.
struct Parameters(HashMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let all = Query::from_request_parts(parts, state).await;
        all.map(|Query(all)| Self(all)).map_err(|error| ApiError::invalid("", error.body_text()))
    }
}

type Answered = Result<Response, ApiError>;

async fn create_response(
    State(service): Shared,
    Extension(owner): Extension<Owner>,
    JsonBody(body): JsonBody,
) -> Answered {
    let request = service.read(&owner.0, body).await?;
    let Request { stream, background, warnings, .. } = &request;
    let (stream, background, warnings) = (*stream, *background, warnings.clone());
    let responding = Responding::begin(&service, &owner.0, request).await?;
    let response = match (stream, background) {
        (true, false) => events(unfold(responding, next_frames)),
        (true, true) => {
            // What the client does not wait for goes on without it.
            let (sender, receiver) = tokio::sync::mpsc::channel(64);
            tokio::spawn(forward(responding, sender));
            events(unfold(receiver, async |mut receiver| receiver.recv().await.map(|frames| (frames, receiver))))
        }
        (false, true) => {
            let response = Json(responding.response()).into_response();
            tokio::spawn(responding.finish());
            response
        }
        (false, false) => match responding.finish().await {
            Ok(response) => Json(response).into_response(),
            Err(error) => failure(&error),
        },
    };
    Ok(warned(response, &warnings))
}

async fn next_frames(mut responding: Responding) -> Option<(Bytes, Responding)> {
    let told = responding.next().await?;
    let frames: String = told.iter().map(|(name, event)| format!("event: {name}\ndata: {event}\n\n")).collect();
    Some((frames.into(), responding))
}

async fn forward(responding: Responding, sender: tokio::sync::mpsc::Sender<Bytes>) {
    let mut sender = Some(sender);
    let mut next = next_frames(responding).await;
    while let Some((frames, responding)) = next {
        // For a client that does not read now the stream ends here, not with a gap; the stored response has it all.
        if sender.as_ref().is_some_and(|sender| sender.try_send(frames).is_err()) {
            sender = None;
        }
        next = next_frames(responding).await;
    }
}

/// A stream of frames, with comments while nothing comes.
fn events(frames: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let frames =
        unfold(Box::pin(frames), async |mut frames| match tokio::time::timeout(KEEP_ALIVE, frames.next()).await {
            Ok(next) => next.map(|next| (Ok::<_, std::io::Error>(next), frames)),
            Err(_) => Some((Ok(Bytes::from_static(b": keep-alive\n\n")), frames)),
        });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(frames)).into_response()
}

/// Characters of a warning: it repeats what the request says, and clients take no headers of any length.
const LONGEST_WARNING: usize = 300;

/// Adds what is not quite as it was asked for.
fn warned(mut response: Response, warnings: &Warnings) -> Response {
    for warning in &warnings.0 {
        let plain: String =
            warning.chars().take(LONGEST_WARNING).map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
        if let Ok(value) = HeaderValue::from_str(&plain) {
            response.headers_mut().append("ossicle-warning", value);
        }
    }
    response
}

async fn count_input_tokens(
    State(service): Shared,
    Extension(owner): Extension<Owner>,
    JsonBody(body): JsonBody,
) -> Answered {
    let request = service.read(&owner.0, body).await?;
    let count = service.count(request.task).await?;
    Ok(Json(json!({ "object": "response.input_tokens", "input_tokens": count })).into_response())
}

async fn get_response(State(service): Shared, Extension(owner): Extension<Owner>, Id(id): Id) -> Answered {
    Ok(Json(service.stored(&owner.0, id).await?.response).into_response())
}

async fn delete_response(State(service): Shared, Extension(owner): Extension<Owner>, Id(id): Id) -> Answered {
    service.delete(&owner.0, id.clone()).await?;
    Ok(Json(json!({ "id": id, "object": "response", "deleted": true })).into_response())
}

async fn cancel_response(State(service): Shared, Extension(owner): Extension<Owner>, Id(id): Id) -> Answered {
    if service.cancel(&owner.0, &id) {
        // The thread notices between two tokens.
        for _ in 0..200 {
            if !service.is_under_way(&owner.0, &id) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
    Ok(Json(service.stored(&owner.0, id).await?.response).into_response())
}

async fn list_input_items(
    State(service): Shared,
    Extension(owner): Extension<Owner>,
    Id(id): Id,
    Parameters(query): Parameters,
) -> Answered {
    let mut items = service.stored(&owner.0, id).await?.input;
    match query.get("order").map(String::as_str) {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(_) => return Err(ApiError::invalid("order", "order: expected asc or desc")),
    }
    let limit = query.get("limit").map_or(Ok(20), |limit| limit.parse::<usize>());
    let limit = limit.ok().filter(|limit| (1..=100).contains(limit));
    let limit = limit.ok_or_else(|| ApiError::invalid("limit", "limit: expected a whole number from 1 to 100"))?;
    if let Some(after) = query.get("after") {
        let place = items.iter().position(|item| item["id"] == **after);
        let place = place.ok_or_else(|| ApiError::invalid("after", "after: expected the id of an item"))?;
        items.drain(..=place);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id = |item: Option<&Value>| item.map(|item| item["id"].clone());
    let (first, last) = (id(items.first()), id(items.last()));
    let list = json!({ "object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more });
    Ok(Json(list).into_response())
}

async fn create_chat_completion(
    State(service): Shared,
    Extension(owner): Extension<Owner>,
    JsonBody(body): JsonBody,
) -> Answered {
    let request = blocking(move || ChatRequest::read(&body)).await?;
    let answer = ChatAnswer::new(&request, &service.settings.model_name, now(), service.settings.withhold_reasoning);
    let chatting = Chatting {
        events: service.answer(request.task.clone(), (answer.id(), None), &owner.0).await?,
        answer,
        has_begun: false,
        is_done: false,
    };
    let response = match request.stream {
        true => events(unfold(chatting, next_chunks)),
        false => chatting.finish().await?,
    };
    Ok(warned(response, &request.warnings))
}

/// A chat completion under way.
struct Chatting {
    answer: ChatAnswer,
    events: Events,
    has_begun: bool,
    is_done: bool,
}

impl Chatting {
    async fn finish(mut self) -> Answered {
        while self.answer.end().is_none() {
            let event = self.events.next().await;
            self.answer.take(event, &mut |_| {});
        }
        match self.answer.end() {
            Some(End::Failed(error)) => Err(error.clone()),
            _ => Ok(Json(self.answer.completion()).into_response()),
        }
    }
}

async fn next_chunks(mut chatting: Chatting) -> Option<(Bytes, Chatting)> {
    if chatting.is_done {
        return None;
    }
    let mut frames = String::new();
    let mut emit = |chunk: Value| frames.push_str(&format!("data: {chunk}\n\n"));
    if !chatting.has_begun {
        chatting.has_begun = true;
        chatting.answer.begin(&mut emit);
    } else {
        let event = chatting.events.next().await;
        chatting.answer.take(event, &mut emit);
        match chatting.answer.end() {
            None => {}
            Some(End::Failed(error)) => {
                // The one word that clients of this API have for a failure in the middle.
                frames = format!("data: {}\n\n", error.to_json());
                chatting.is_done = true;
            }
            Some(_) => {
                frames.push_str("data: [DONE]\n\n");
                chatting.is_done = true;
            }
        }
    }
    Some((frames.into(), chatting))
}

async fn list_models(State(service): Shared) -> Response {
    let models: Vec<_> = names(&service).iter().map(|name| model(&service, name)).collect();
    Json(json!({ "object": "list", "data": models })).into_response()
}

async fn get_model(State(service): Shared, Id(id): Id) -> Answered {
    if names(&service).contains(&id) {
        Ok(Json(model(&service, &id)).into_response())
    } else {
        Err(ApiError { code: Some("model_not_found"), ..ApiError::not_found(format!("There is no model {id:?}.")) })
    }
}

fn model(service: &Service, name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": service.begun, "owned_by": "ossicle" })
}

/// The names by which clients know the model: its own, and those of hubs that write it in other ways.
fn names(service: &Service) -> Vec<String> {
    let name = &service.settings.model_name;
    let mut names = vec![name.clone()];
    for size in ["20b", "120b"] {
        if name.ends_with(&format!("gpt-oss-{size}")) {
            names.extend([format!("gpt-oss-{size}"), format!("openai/gpt-oss-{size}"), format!("gpt-oss:{size}")]);
        }
    }
    // Its own may be among them.
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// The models, as clients of Ollama look for them.
async fn list_tags(State(service): Shared) -> Response {
    let models: Vec<_> = names(&service).iter().map(|name| json!({ "name": name, "model": name })).collect();
    Json(json!({ "models": models })).into_response()
}

async fn metrics(State(service): Shared) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (headers, service.metrics.text()).into_response()
}

/// A page to try the model with. It loads nothing from elsewhere.
async fn page() -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, policy)];
    (headers, include_str!("page.html")).into_response()
}

fn json_text(text: &'static str) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (headers, text).into_response()
}
