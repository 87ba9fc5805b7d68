//! What a client of the Hub's API is told when it does not get what it asked for. Over plain HTTP clients know the case by
//! `X-Error-Code` alone, and show `X-Error-Message` to their user.

use std::error::Error;
use std::path::Path;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::denials::Why;
use crate::http::hint::denial;

pub(super) const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
pub(super) const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");
pub(super) const REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");

/// Longest message in a header, in bytes.
const MESSAGE_LEN_MAX: usize = 1_000;

/// Why a client does not get what it asked for.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: Option<&'static str>,
    message: String,
    commit: Option<String>,
    retry_after: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> Problem {
        Problem {
            status,
            code,
            message: message.into(),
            commit: None,
            retry_after: None,
        }
    }

    /// Nobody we know of has such a repo.
    pub(super) fn no_repo(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, Some("RepoNotFound"), message)
    }

    /// The repo has no such revision.
    pub(super) fn no_revision(id: &str, rev: &str) -> Problem {
        let message = format!("{id} has no revision {rev}");
        Problem::new(StatusCode::NOT_FOUND, Some("RevisionNotFound"), message)
    }

    /// The revision has no such file or folder. Clients remember it for ever: only a whole manifest may say so.
    pub(super) fn no_entry(commit: &str, path: &str) -> Problem {
        let message = format!("there is no {path} in revision {commit}");
        Problem {
            commit: Some(commit.to_owned()),
            ..Problem::new(StatusCode::NOT_FOUND, Some("EntryNotFound"), message)
        }
    }

    /// Nobody who has it can be reached now; worth another try in so many seconds.
    pub(super) fn no_peers(status: StatusCode, message: impl Into<String>, retry_after: u64) -> Problem {
        Problem {
            retry_after: Some(retry_after),
            ..Problem::new(status, Some("NoPeers"), message)
        }
    }

    /// The request is wrong.
    pub(super) fn bad(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, None, message)
    }

    /// The request was understood, and is not done for this reason.
    pub(super) fn refused(status: StatusCode, message: impl Into<String>) -> Problem {
        Problem::new(status, None, message)
    }

    /// It is denied here.
    pub(super) fn denied(why: &Why) -> Problem {
        Problem::refused(StatusCode::FORBIDDEN, format!("{why}; {}", why.remedy()))
    }

    /// There is nothing at this address.
    pub(super) fn nothing_here() -> Problem {
        Problem::new(StatusCode::NOT_FOUND, None, "there is nothing at this address")
    }

    /// Something of ours fails.
    pub(super) fn ours(error: &(dyn Error + 'static)) -> Problem {
        if let Some(why) = denial(error) {
            return Problem::denied(why);
        }
        tracing::warn!(error, "a request of the Hub's API failed");
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        // Clients ask again after 500, five times: 422 tells them that it is of no use.
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, None, message)
    }

    /// The same, without telling where the data folder lies.
    pub(super) fn without(self, data: &Path) -> Problem {
        Problem {
            message: self.message.replace(&*data.to_string_lossy(), "DATA"),
            ..self
        }
    }
}

impl<E: Error + 'static> From<E> for Problem {
    fn from(error: E) -> Problem {
        Problem::ours(&error)
    }
}

/// The code of a problem that clients have no name for.
fn code_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::PRECONDITION_FAILED => "PreconditionFailed",
        StatusCode::PAYLOAD_TOO_LARGE => "PayloadTooLarge",
        StatusCode::RANGE_NOT_SATISFIABLE => "RangeNotSatisfiable",
        _ => "Refused",
    }
}

/// A text as the value of a header: its visible ASCII, cut where it is long.
pub(super) fn header_text(text: &str) -> HeaderValue {
    let plain = |character: char| match character {
        ' '..='~' => character,
        _ => '?',
    };
    let text: String = text.chars().take(MESSAGE_LEN_MAX).map(plain).collect();
    HeaderValue::from_str(&text).expect("visible ASCII is a header")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        let headers = response.headers_mut();
        headers.insert(ERROR_MESSAGE, header_text(&self.message));
        let code = self.code.unwrap_or_else(|| code_of(self.status));
        headers.insert(ERROR_CODE, HeaderValue::from_static(code));
        if let Some(commit) = &self.commit {
            headers.insert(REPO_COMMIT, header_text(commit));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
