//! How a request of the control API is read, and how it is refused: always with an [`ErrorAnswer`], never with bare text.

use std::error::Error;
use std::path::PathBuf;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Query, Request, rejection::QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::BODY_LEN_MAX;
use super::guard::Refusal;
use super::messages::ErrorAnswer;

/// The caller's working folder is not ours.
pub(super) fn absolute(path: PathBuf) -> Result<PathBuf, Refused> {
    if path.is_absolute() {
        return Ok(path);
    }
    let answer = ErrorAnswer::new(format!("{} is not an absolute path", path.display()), "");
    Err(Refused(StatusCode::BAD_REQUEST, answer))
}

/// A request that is answered with why not.
pub(super) struct Refused(StatusCode, ErrorAnswer);

impl Refused {
    /// So many long verbs run already.
    pub(super) fn busy(max: usize) -> Refused {
        let answer = ErrorAnswer::new(format!("{max} jobs run already"), "shoal jobs lists them");
        Refused(StatusCode::TOO_MANY_REQUESTS, answer)
    }

    pub(super) fn nothing_here() -> Refused {
        Refused(
            StatusCode::NOT_FOUND,
            ErrorAnswer::new("there is nothing at this address", ""),
        )
    }

    pub(super) fn other_method() -> Refused {
        Refused(
            StatusCode::METHOD_NOT_ALLOWED,
            ErrorAnswer::new("this address answers another method", ""),
        )
    }

    /// Work of ours ended in a panic.
    pub(super) fn broken() -> Refused {
        let answer = ErrorAnswer::new(
            "the node broke off its work: this is a fault of shoal",
            "the node's log says more",
        );
        Refused(StatusCode::INTERNAL_SERVER_ERROR, answer)
    }

    fn too_long() -> Refused {
        let text = format!("the body is longer than {BODY_LEN_MAX} bytes");
        Refused(StatusCode::PAYLOAD_TOO_LARGE, ErrorAnswer::new(text, ""))
    }

    fn bad_request(why: impl std::fmt::Display) -> Refused {
        Refused(
            StatusCode::BAD_REQUEST,
            ErrorAnswer::new(format!("the request is wrong: {why}"), ""),
        )
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused(
            refusal.status(),
            ErrorAnswer::new(refusal.message(), refusal.hint()),
        )
    }
}

impl<E: Error + 'static> From<E> for Refused {
    /// A verb that failed. What it was asked for was understood: the answer says why it cannot be had.
    fn from(error: E) -> Refused {
        Refused(StatusCode::UNPROCESSABLE_ENTITY, ErrorAnswer::of(&error))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// The query of a GET.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequest<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refused> {
        let query = Query::try_from_uri(request.uri());
        let Query(asked) = query.map_err(|wrong: QueryRejection| Refused::bad_request(innermost(&wrong)))?;
        Ok(Asked(asked))
    }
}

/// What a chain of errors that wrap each other comes from.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    error.source().map_or(error, innermost)
}

/// The JSON body of a POST; the guard has seen that it is said to be JSON.
pub(super) struct Told<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Told<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|wrong| match wrong.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refused::too_long(),
            _ => Refused::bad_request("its body broke off"),
        })?;
        Ok(Told(serde_json::from_slice(&body).map_err(Refused::bad_request)?))
    }
}
