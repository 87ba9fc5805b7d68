//! What a client of OpenAI's API is told when it does not get what it asked for, in that API's own shape: clients make an
//! exception of a class of its own of each status.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::engine::session::EngineError;
use crate::engine::wire::Fault;
use crate::http::guard::Refusal;
use crate::http::messages::ErrorAnswer;
use crate::library::LibraryError;
use crate::run::RunError;

/// Why a client does not get what it asked for.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// The parameter that is wrong.
    param: Option<String>,
    code: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Problem {
        Problem {
            status,
            kind,
            message: message.into(),
            param: None,
            code: None,
        }
    }

    /// A parameter is wrong, or asks for what this build cannot do.
    pub(super) fn parameter(param: &str, message: impl Into<String>) -> Problem {
        Problem {
            param: Some(param.to_owned()),
            ..Problem::bad(message)
        }
    }

    /// The request is wrong.
    pub(super) fn bad(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(super) fn too_long(max: usize) -> Problem {
        let message = format!("the body is longer than {max} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
    }

    pub(super) fn other_method() -> Problem {
        let message = "this address answers another method";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
    }

    /// There is no such model here.
    pub(super) fn no_model(model: &str, why: &str) -> Problem {
        let message = format!("the model {model:?} is not to be had: {why}");
        Problem {
            param: Some("model".to_owned()),
            code: Some("model_not_found"),
            ..Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
        }
    }

    /// A model does not run.
    pub(super) fn of_run(model: &str, error: &RunError) -> Problem {
        match error {
            RunError::Library(LibraryError::Unknown(_) | LibraryError::UnknownAlias(_))
            | RunError::NoModel { .. }
            | RunError::Several { .. }
            | RunError::Missing { .. } => Problem::no_model(model, &said(error)),
            RunError::Library(LibraryError::Denied(_)) => Problem {
                param: Some("model".to_owned()),
                ..Problem::new(StatusCode::FORBIDDEN, "permission_error", said(error))
            },
            RunError::Engine(error) => Problem::of_engine(error),
            RunError::Busy { .. } => {
                Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", said(error))
            }
            RunError::Memory { .. } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", said(error))
            }
            RunError::Library(_) | RunError::Header { .. } | RunError::Folder { .. } => {
                Problem::ours(said(error))
            }
        }
    }

    /// A loaded model does not answer.
    pub(super) fn of_engine(error: &EngineError) -> Problem {
        match error {
            EngineError::Fault(Fault::Ask(why)) => Problem::bad(why),
            EngineError::Fault(Fault::Architecture { .. } | Fault::Unsupported { .. }) => {
                Problem::bad(said(error))
            }
            error => Problem::ours(said(error)),
        }
    }

    fn ours(message: String) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// What is said of it, in a body of its own or in the middle of a stream.
    pub(super) fn value(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let message = format!("{}: {}", refusal.message(), refusal.hint());
        Problem::new(refusal.status(), "invalid_request_error", message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self.value())).into_response()
    }
}

/// An error with all that it comes from, and what to do about it.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let ErrorAnswer { error, hint, .. } = ErrorAnswer::of(error);
    let hint = hint.map(|hint| format!(" ({hint})"));
    format!("{}{}", error.join(": "), hint.unwrap_or_default())
}
