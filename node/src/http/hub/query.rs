//! What stands behind the `?` of a request, what comes in its body, and addresses of a next page.

use std::str::FromStr;

use axum::Json;
use axum::http::{HeaderValue, header, request::Parts};
use axum::response::{IntoResponse, Response};
use form_urlencoded::Serializer;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::problem::Problem;

/// Largest body that is read for an answer that changes nothing, in bytes: the paths of a thousand long names.
pub(super) const BODY_LEN_MAX: usize = 1024 * 1024;

/// What a part of a path is written without an escape.
const PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Parameters, as often as each was given and in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// The parameters of an address.
    pub(super) fn of(head: &Parts) -> Query {
        Query::read(head.uri.query().unwrap_or_default().as_bytes())
    }

    /// Reads parameters as an address or a form writes them.
    pub(super) fn read(text: &[u8]) -> Query {
        Query(form_urlencoded::parse(text).into_owned().collect())
    }

    /// Everything that was given under a name, or under the name with brackets.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = move |key: &str| key.strip_suffix("[]").unwrap_or(key) == name;
        let given = self.0.iter().filter(move |(key, _)| named(key));
        given.map(|(_, value)| value.as_str())
    }

    /// What was given under a name, if it is not nothing.
    pub(super) fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// Whether something is wanted: `true`, `True` and `1` say yes.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.first(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
    }

    /// A number.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let number = self.first(name).map(str::parse).transpose();
        number.map_err(|_| Problem::bad(format!("{name} is not a number")))
    }

    /// The same parameters with another value for one of them, as an address writes them.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        let others = self.0.iter().filter(|(key, _)| key != name);
        Serializer::new(String::new())
            .extend_pairs(others)
            .append_pair(name, value)
            .finish()
    }
}

/// Where the client reaches us. The guard has seen that the name is one of ours.
pub(super) fn base_url(head: &Parts) -> Result<String, Problem> {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.ok_or_else(|| Problem::bad("the request names no host"))?;
    Ok(format!("http://{host}"))
}

/// An answer with the address of its next page, if there is one. `path` is encoded.
pub(super) fn page(head: &Parts, path: &str, next: Option<String>, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let (Some(query), Ok(base)) = (next, base_url(head))
        && let Ok(link) = HeaderValue::from_str(&format!("<{base}{path}?{query}>; rel=\"next\""))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// Writes parts of a path; a slash within a part stays one.
pub(super) fn encode(path: &str) -> String {
    let parts: Vec<String> = path
        .split('/')
        .map(|part| utf8_percent_encode(part, PART).to_string())
        .collect();
    parts.join("/")
}

/// Answers with JSON.
pub(super) fn json(value: impl Into<Value>) -> Response {
    Json(value.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_clients_write_them() {
        let query =
            Query::read(b"expand=a&expand%5B%5D=b+c&expand[]=d&full=True&cardData=1&config=false&limit=7&x=");
        assert_eq!(query.all("expand").collect::<Vec<_>>(), ["a", "b c", "d"]);
        assert!(query.flag("full") && query.flag("cardData"));
        assert!(!query.flag("config") && !query.flag("x") && !query.flag("y"));
        assert_eq!(query.number("limit").unwrap(), Some(7));
        assert_eq!(query.number::<u64>("x").unwrap(), None);
        assert!(query.number::<u64>("expand").is_err());
        let again = Query::read(query.with("limit", "8/ü").as_bytes());
        assert_eq!(again.first("limit"), Some("8/ü"));
        assert_eq!(again.all("expand").count(), 3);
    }

    #[test]
    fn paths_are_written_so_that_they_read_back() {
        assert_eq!(encode("a b/c%/ü"), "a%20b/c%25/%C3%BC");
    }
}
