//! What the error body of a provider says, and the class it makes. Providers agree on little.
//!
//! The class comes from status and code; a message form counts only among requests that were refused.

use std::time::Duration;

use serde_json::Value;
use stakpak_agent_core::ErrorClass;

#[derive(Debug, Default)]
pub(super) struct Details {
    /// `code`, `type`, `status` and the reasons of its details, lower case.
    codes: Vec<String>,
    pub(super) message: String,
    /// The wait that Google asks for.
    pub(super) retry_after: Option<Duration>,
}

impl Details {
    /// `{"error":{…}}`, `{"error":"…"}`, `{"message":…}`, `{"detail":…}`, a list of these, or the error itself.
    pub(super) fn of(body: &Value) -> Self {
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").filter(|error| !error.is_null()).unwrap_or(body);
        let field = |name: &str| match error.get(name).or_else(|| body.get(name)) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let message = error.as_str().map(str::to_owned).or_else(|| field("message")).or_else(|| field("detail"));
        // <https://google.aip.dev/193>: reasons and waits are in the details.
        let details = || error["details"].as_array().into_iter().flatten();
        let reasons = details().filter_map(|detail| detail["reason"].as_str().map(str::to_owned));
        let codes = ["code", "type", "status"].into_iter().filter_map(field).chain(reasons);
        let seconds = details().find_map(|detail| detail["retryDelay"].as_str()?.strip_suffix('s')?.parse().ok());
        Self {
            codes: codes.map(|code| code.to_lowercase()).collect(),
            message: message.unwrap_or_default(),
            retry_after: seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        }
    }

    /// Class of an HTTP error.
    pub(super) fn class_of_status(&self, status: u16) -> ErrorClass {
        match status {
            402 => ErrorClass::Quota,
            403 | 429 if self.is_billing() => ErrorClass::Quota,
            429 => ErrorClass::RateLimited,
            503 | 529 => ErrorClass::Overloaded,
            500..=599 => ErrorClass::Server,
            401 => ErrorClass::Auth,
            403 => ErrorClass::Permission,
            404 => ErrorClass::ModelNotFound,
            400 if self.has(&["api_key_invalid"]) => ErrorClass::Auth,
            400 | 413 | 422 if self.is_overflow() => ErrorClass::ContextOverflow,
            400 | 422 if self.is_filtered() => ErrorClass::ContentFilter,
            _ => ErrorClass::BadRequest,
        }
    }

    /// Class of an error event in a stream that began with 200.
    pub(super) fn class_of_event(&self) -> ErrorClass {
        if let Some(status) = self.status() {
            return self.class_of_status(status);
        }
        let classes: [(&[&str], ErrorClass); 6] = [
            (&["rate_limit_exceeded", "rate_limit_error", "too_many_requests"], ErrorClass::RateLimited),
            (&["overloaded_error", "overloaded", "service_unavailable"], ErrorClass::Overloaded),
            (&["timeout_error"], ErrorClass::Timeout),
            (&["authentication_error", "invalid_api_key"], ErrorClass::Auth),
            (&["permission_error", "permission_denied"], ErrorClass::Permission),
            (&["model_not_found", "not_found_error"], ErrorClass::ModelNotFound),
        ];
        match classes.iter().find(|(codes, _)| self.has(codes)) {
            _ if self.is_billing() => ErrorClass::Quota,
            Some((_, class)) => *class,
            None if self.is_filtered() => ErrorClass::ContentFilter,
            None if self.is_overflow() => ErrorClass::ContextOverflow,
            None if self.has(&["invalid_request_error", "bad_request"]) => ErrorClass::BadRequest,
            None => ErrorClass::Server,
        }
    }

    /// Some send the HTTP status as code.
    pub(super) fn status(&self) -> Option<u16> {
        self.codes.iter().filter_map(|code| code.parse().ok()).find(|status| (400..600).contains(status))
    }

    fn has(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|code| codes.contains(&code.as_str()))
    }

    fn is_billing(&self) -> bool {
        const CODES: [&str; 5] = [
            "insufficient_quota",
            "insufficient_balance",
            "billing_hard_limit_reached",
            "billing_not_active",
            "billing_error",
        ];
        self.has(&CODES)
    }

    fn is_filtered(&self) -> bool {
        self.has(&["content_filter", "content_policy_violation"])
    }

    fn is_overflow(&self) -> bool {
        let message = self.message.to_lowercase();
        self.has(&["context_length_exceeded", "context_window_exceeded", "exceed_context_size_error"])
            || message.contains("maximum context length")
            || message.contains("prompt is too long")
            || message.contains("input is too long")
            || (message.contains("input token count") && message.contains("exceeds"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn class_by_status_and_code() {
        use ErrorClass as C;
        let body = |code: &str, message: &str| json!({ "error": { "message": message, "type": "x", "code": code } });
        let table = [
            (429, body("rate_limit_exceeded", "tokens per minute limit"), C::RateLimited),
            (429, body("", "maximum context length of tokens per minute"), C::RateLimited),
            (429, body("insufficient_quota", "pay"), C::Quota),
            (403, body("insufficient_quota", "pay"), C::Quota),
            (402, Value::Null, C::Quota),
            (400, json!({ "error": { "code": 400, "details": [{ "reason": "API_KEY_INVALID" }] } }), C::Auth),
            (403, body("", "insufficient_quota in the text only"), C::Permission),
            (401, Value::Null, C::Auth),
            (404, Value::Null, C::ModelNotFound),
            (503, Value::Null, C::Overloaded),
            (529, Value::Null, C::Overloaded),
            (500, Value::Null, C::Server),
            (502, Value::Null, C::Server),
            (400, body("", "max_tokens: must be at most 8192"), C::BadRequest),
            (400, body("context_length_exceeded", ""), C::ContextOverflow),
            (413, body("", "prompt is too long: 210000 tokens"), C::ContextOverflow),
            (422, json!({ "message": "the input token count (9) exceeds the limit" }), C::ContextOverflow),
            (400, body("content_filter", ""), C::ContentFilter),
            (409, body("context_length_exceeded", ""), C::BadRequest),
            (307, Value::Null, C::BadRequest),
        ];
        for (status, body, class) in table {
            assert_eq!(Details::of(&body).class_of_status(status), class, "{status} {body}");
        }
    }

    #[test]
    fn class_of_an_error_event() {
        use ErrorClass as C;
        let table = [
            (json!({ "type": "overloaded_error", "message": "x" }), C::Overloaded),
            (json!({ "type": "rate_limit_error", "code": "insufficient_quota" }), C::Quota),
            (json!({ "code": 429, "message": "x" }), C::RateLimited),
            (json!({ "code": "502" }), C::Server),
            (json!({ "type": "invalid_request_error", "message": "prompt is too long" }), C::ContextOverflow),
            (json!({ "type": "invalid_request_error", "message": "bad" }), C::BadRequest),
            (json!({ "type": "server_error" }), C::Server),
            (json!("something broke"), C::Server),
            (json!({ "type": "authentication_error" }), C::Auth),
        ];
        for (body, class) in table {
            assert_eq!(Details::of(&body).class_of_event(), class, "{body}");
        }
    }

    #[test]
    fn error_bodies_in_many_forms() {
        let table = [
            json!({ "error": { "message": "no" } }),
            json!({ "error": "no" }),
            json!({ "message": "no", "object": "error" }),
            json!({ "detail": "no" }),
            json!([{ "error": { "message": "no", "code": 400 } }]),
            json!({ "error": null, "message": "no" }),
        ];
        for body in table {
            assert_eq!(Details::of(&body).message, "no", "{body}");
        }
    }
}
