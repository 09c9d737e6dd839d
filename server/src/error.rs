use serde_json::{Value, json};

/// What is wrong with a request, in the form in which the API says it.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The class of error, such as `invalid_request_error`.
    pub kind: &'static str,
    /// A word for programs.
    pub code: Option<&'static str>,
    /// The field of the request that it is about, such as `input[0].role`.
    pub param: Option<String>,
    /// What was wrong, and what was expected.
    pub message: String,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// A field of the request is not as it should be.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        let error = Self::new(400, "invalid_request_error", message);
        Self { param: Some(param.into()).filter(|param| !param.is_empty()), code: Some("invalid_value"), ..error }
    }

    /// The API has it, but this server does not.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: Some("unsupported_value"), ..Self::invalid(param, message) }
    }

    /// There is no such thing, or it belongs to someone else.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: Some("not_found"), ..Self::new(404, "invalid_request_error", message) }
    }

    /// The server itself failed.
    pub fn server(message: impl Into<String>) -> Self {
        Self { code: Some("server_error"), ..Self::new(500, "server_error", message) }
    }

    /// The thread of the model has given it up.
    pub fn unavailable() -> Self {
        let why = "The answer was given up: the server is stopping, or the client read too slowly.";
        Self { code: Some("server_error"), ..Self::new(503, "server_error", why) }
    }

    /// The time for an answer is over.
    pub fn late() -> Self {
        Self::server("The time for an answer is over.")
    }

    /// Too many requests wait already.
    pub fn busy(retry_after: u64) -> Self {
        let error = Self::new(429, "rate_limit_error", "Too many requests wait for the model. Try again later.");
        Self { code: Some("rate_limit_exceeded"), retry_after: Some(retry_after), ..error }
    }

    /// An error with this status and class.
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, param: None, message: message.into(), retry_after: None }
    }

    /// As the body of an answer.
    pub fn to_json(&self) -> Value {
        let Self { kind, code, param, message, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}
