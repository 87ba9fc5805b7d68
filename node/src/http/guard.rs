//! Who may come in, judged from the head of a request alone, before anything else looks at it.
//!
//! Three walls, each enough against one attack: `Host` must name loopback and our port (a foreign name that resolves to us is not
//! ours: DNS rebinding); a request that a page of another origin made is refused, whatever it carries; and without the token,
//! which only who can read the data folder has, nothing is answered. A body must be JSON, which a page cannot send unasked.
//!
//! The Hub's API stands behind the first two: it answers reads without a token, as the Hub does, and pages of the origins that
//! the user listed may read there. What it changes, it changes only for who has a token of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::request::Refused;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A service of the Hub's that clients look for below the name of their endpoint, and that is not here.
const ABSENT: &str = "datasets-server.localhost";

/// What the judgement needs to know.
#[derive(Clone)]
pub(super) struct Guard {
    /// What `Host` may be, in lower case.
    hosts: Arc<[String]>,
    /// What it is for a service that is not here.
    absent: Arc<str>,
    token: blake3::Hash,
    /// Whose pages may read the Hub's API.
    origins: Arc<[String]>,
}

/// Why somebody stays outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request was meant for somebody else.
    Misdirected,
    /// The request was meant for a service that is not here.
    Absent,
    /// A page of another origin made the request.
    Foreign,
    /// No token, or a wrong one.
    NoToken,
    /// The body is something else than JSON.
    NotJson,
}

/// Lets a request pass to `next`, or answers it.
pub(super) async fn stand(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let mut response = match guard.judge(&head) {
        Ok(()) => next.run(Request::from_parts(head, body)).await,
        Err(refusal) => Refused::from(refusal).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Guard {
    pub(super) fn new(address: SocketAddr, token: &str, origins: Vec<String>) -> Guard {
        let port = address.port();
        let mut hosts = vec![address.to_string()];
        for name in ["127.0.0.1", "[::1]", "localhost"] {
            hosts.push(format!("{name}:{port}"));
            if port == 80 {
                hosts.push(name.to_owned());
            }
        }
        Guard {
            hosts: hosts.into(),
            absent: match port {
                80 => ABSENT.into(),
                port => format!("{ABSENT}:{port}").into(),
            },
            token: blake3::hash(token.as_bytes()),
            origins: origins.into(),
        }
    }

    /// Judges a request of the Hub's API by its head; returns the origin that is to be told that it may read, if there is one.
    pub(super) fn admit(&self, head: &Parts) -> Result<Option<HeaderValue>, Refusal> {
        self.is_for_us(head)?;
        let Err(refusal) = self.is_ours(&head.headers) else {
            return Ok(None);
        };
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&head.method);
        let origin = only(&head.headers, &header::ORIGIN).map_err(|Many| Refusal::Foreign)?;
        match origin.filter(|origin| reads && self.origins.iter().any(|listed| listed == origin)) {
            Some(origin) => Ok(HeaderValue::from_str(origin).ok()),
            None => Err(refusal),
        }
    }

    /// Judges a request by its head.
    pub(super) fn judge(&self, head: &Parts) -> Result<(), Refusal> {
        self.is_for_us(head)?;
        self.is_ours(&head.headers)?;
        self.has_token(&head.headers)?;
        let reads = head.method == Method::GET || head.method == Method::HEAD;
        if !reads && !is_json(&head.headers) {
            return Err(Refusal::NotJson);
        }
        Ok(())
    }

    /// Host, and the host in the request line if there is one, name loopback and our port.
    fn is_for_us(&self, head: &Parts) -> Result<(), Refusal> {
        let named = only(&head.headers, &header::HOST).map_err(|Many| Refusal::Misdirected)?;
        let line = head.uri.authority().map(|authority| authority.as_str());
        let good = |host: &str| self.hosts.contains(&host.to_ascii_lowercase());
        if named.is_some_and(good) && line.is_none_or(good) {
            Ok(())
        } else if named.is_some_and(|host| host.eq_ignore_ascii_case(&self.absent)) {
            Err(Refusal::Absent)
        } else {
            Err(Refusal::Misdirected)
        }
    }

    /// No page of another origin had this request made. Another port of the same host is another origin.
    fn is_ours(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let origin = only(headers, &header::ORIGIN).map_err(|Many| Refusal::Foreign)?;
        let site = only(headers, &SEC_FETCH_SITE).map_err(|Many| Refusal::Foreign)?;
        let ours = |origin: &str| {
            origin
                .strip_prefix("http://")
                .is_some_and(|host| self.hosts.iter().any(|ours| ours == host))
        };
        let same = |site: &str| matches!(site, "same-origin" | "none");
        if origin.is_none_or(ours) && site.is_none_or(same) {
            Ok(())
        } else {
            Err(Refusal::Foreign)
        }
    }

    /// The token is there and right. Hashes are compared, in constant time: the time tells nothing of the token.
    fn has_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let value = only(headers, &header::AUTHORIZATION).map_err(|Many| Refusal::NoToken)?;
        let (scheme, token) = value
            .and_then(|value| value.split_once(' '))
            .ok_or(Refusal::NoToken)?;
        let right = blake3::hash(token.as_bytes()) == self.token;
        if scheme.eq_ignore_ascii_case("bearer") && right {
            Ok(())
        } else {
            Err(Refusal::NoToken)
        }
    }
}

impl Refusal {
    /// How it is answered.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refusal::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Refusal::Absent => StatusCode::NOT_FOUND,
            Refusal::Foreign => StatusCode::FORBIDDEN,
            Refusal::NoToken => StatusCode::UNAUTHORIZED,
            Refusal::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// What it is told.
    pub(super) fn message(self) -> &'static str {
        match self {
            Refusal::Misdirected => "the Host header does not name this node",
            Refusal::Absent => "this node has no datasets server",
            Refusal::Foreign => "requests of other origins are not answered",
            Refusal::NoToken => "the token is missing or wrong",
            Refusal::NotJson => "the body must be application/json",
        }
    }

    /// What to do about it.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Refusal::Misdirected => "ask http://127.0.0.1, http://[::1] or http://localhost, with the port",
            Refusal::Absent => "read the files of the dataset",
            Refusal::Foreign => "this API is for programs of this user, not for pages",
            Refusal::NoToken => {
                "send \"Authorization: Bearer TOKEN\"; the token is in control.json in the node's data folder"
            }
            Refusal::NotJson => "send \"Content-Type: application/json\"",
        }
    }
}

/// A header that may come once came more often, or is not text.
struct Many;

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Many> {
    let mut values = headers.get_all(name).iter();
    let first = values
        .next()
        .map(|value| value.to_str().map_err(|_| Many))
        .transpose()?;
    if values.next().is_some() {
        Err(Many)
    } else {
        Ok(first)
    }
}

/// Whether a body is JSON by its header.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Ok(Some(value)) = only(headers, &header::CONTENT_TYPE) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests;
