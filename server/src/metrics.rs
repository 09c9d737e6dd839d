//! Numbers for Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// What has happened since the start.
#[derive(Default)]
pub struct Metrics {
    /// Requests for answers.
    pub requests: AtomicU64,
    /// Of these, how many were refused since too many waited.
    pub refused: AtomicU64,
    /// Of these, how many ended because the client was gone or too slow.
    pub abandoned: AtomicU64,
    /// Answers that failed.
    pub failed: AtomicU64,
    /// Tokens of prompts.
    pub input_tokens: AtomicU64,
    /// Of these, those that were not computed again.
    pub cached_tokens: AtomicU64,
    /// Of these, those that came from the cache of prefixes.
    pub restored_tokens: AtomicU64,
    /// Tokens written.
    pub output_tokens: AtomicU64,
    /// Requests that wait now.
    pub waiting: AtomicU64,
    /// Requests that are answered now.
    pub running: AtomicU64,
}

impl Metrics {
    /// In the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, value) in [
            ("requests_total", "counter", "Requests for answers", &self.requests),
            ("requests_refused_total", "counter", "Requests refused because the queue was full", &self.refused),
            ("requests_abandoned_total", "counter", "Requests whose client left or was too slow", &self.abandoned),
            ("requests_failed_total", "counter", "Requests that failed", &self.failed),
            ("input_tokens_total", "counter", "Tokens of prompts", &self.input_tokens),
            ("cached_tokens_total", "counter", "Tokens of prompts that were not computed again", &self.cached_tokens),
            (
                "restored_tokens_total",
                "counter",
                "Tokens of prompts that a cache of prefixes had",
                &self.restored_tokens,
            ),
            ("output_tokens_total", "counter", "Tokens written", &self.output_tokens),
            ("requests_waiting", "gauge", "Requests in the queue", &self.waiting),
            ("requests_running", "gauge", "Requests being answered", &self.running),
        ] {
            let value = value.load(Ordering::Relaxed);
            let _ =
                writeln!(text, "# HELP ossicle_{name} {help}\n# TYPE ossicle_{name} {kind}\nossicle_{name} {value}");
        }
        text
    }
}
