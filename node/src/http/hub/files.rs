//! A file's bytes, as clients of the Hub read them: at once where they are here, and as they come where peers have them.
//!
//! Clients have patience of different kinds. Whoever asks for the head is sent away until a first byte is here, and told when to
//! come back; whoever asks for the bytes is sent away only if it is known to come back, and waits otherwise. Once the head is
//! out nothing ends early but with a broken connection.

mod described;
mod ranges;
mod source;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use headers::{ContentRange, HeaderMapExt, IfNoneMatch};
use protocol::FileEntry;
use tokio::time::{Instant, timeout_at};

use self::ranges::{Wanted, wanted};
pub(super) use self::source::Demands;
use self::source::Source;
use super::Hub;
use super::digests::{blob_id, is_lfs, pointer};
use super::problem::{Problem, REPO_COMMIT};
use super::revisions::Revision;
use super::route::At;
use crate::config::OnDemand;
use crate::fetch::FetchError;

/// How long the first byte of an answer may take. Python's clients give up after 10 s, and a name is looked for for 8 s.
const ANSWER_WAIT: Duration = Duration::from_millis(8_500);
/// Seconds after which a client asks again that does so a few times.
const AGAIN_SOON: u64 = 4;
/// The same, for clients that ask five times and not more.
const AGAIN_LATER: u64 = 30;
/// Largest file that Python's clients take over plain HTTP if they know how large it is, in bytes.
const PLAIN_LEN_MAX: u64 = 50_000_000_000;

/// Who asks, by what they call themselves: they do not wait alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// huggingface_hub 0.x: obeys 503.
    Python0,
    /// huggingface_hub 1.x: obeys 429, and 503 for a head.
    Python1,
    /// huggingface_hub 2.x: the same, and does as `Retry-After` says.
    Python2,
    /// The crate hf-hub 1.x: keeps whatever a GET answers as the file.
    Rust1,
    /// Anybody else: waits.
    Other,
}

impl Asker {
    fn of(headers: &HeaderMap) -> Asker {
        let agent = headers.get(header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let known = [
            ("hf_hub/0.", Asker::Python0),
            ("hf_hub/1.", Asker::Python1),
            ("hf_hub/2.", Asker::Python2),
            ("hf-hub/1.", Asker::Rust1),
        ];
        let found = known.into_iter().find(|(name, _)| agent.contains(name));
        found.map_or(Asker::Other, |(_, asker)| asker)
    }

    /// How this one is told to come back later for a head.
    fn head_later(self) -> (StatusCode, u64) {
        let seconds = match self {
            Asker::Python2 => AGAIN_LATER,
            _ => AGAIN_SOON,
        };
        (StatusCode::SERVICE_UNAVAILABLE, seconds)
    }

    /// How this one is told to come back later for the bytes, so that it does; `None`: it is kept waiting.
    fn bytes_later(self) -> Option<(StatusCode, u64)> {
        let (_, seconds) = self.head_later();
        match self {
            Asker::Python0 => Some((StatusCode::SERVICE_UNAVAILABLE, seconds)),
            Asker::Python1 | Asker::Python2 => Some((StatusCode::TOO_MANY_REQUESTS, seconds)),
            Asker::Rust1 | Asker::Other => None,
        }
    }

    /// Whether this one refuses a file because it knows how large it is, and takes it when it does not.
    fn balks_at(self, size: u64) -> bool {
        self == Asker::Python2 && size > PLAIN_LEN_MAX
    }
}

/// How long one request is kept waiting, and what it hears then.
struct Patience {
    asker: Asker,
    /// Whether the head alone is asked for.
    head: bool,
    /// When the first byte of the answer must be out.
    deadline: Instant,
    /// What is said then; `None`: it waits on.
    later: Option<(StatusCode, u64)>,
}

impl Patience {
    fn of(asked: &Parts) -> Patience {
        let asker = Asker::of(&asked.headers);
        let head = asked.method == Method::HEAD;
        Patience {
            asker,
            head,
            deadline: Instant::now() + ANSWER_WAIT,
            later: match head {
                true => Some(asker.head_later()),
                false => asker.bytes_later(),
            },
        }
    }
}

impl Hub {
    /// Answers a GET or HEAD of a file as git has it.
    pub(super) async fn raw(&self, asked: &Parts, at: &At, path: &str) -> Result<Response, Problem> {
        let patience = Patience::of(asked);
        let revision = self.revision_in_time(at, &patience).await?;
        let file = revision.file(path)?;
        if !is_lfs(file) {
            return self.content(asked, &revision, file, patience).await;
        }
        let tag = format!("\"{}\"", blob_id(file));
        let headers = [(REPO_COMMIT, revision.commit.clone()), (header::ETAG, tag)];
        Ok((headers, pointer(file)).into_response())
    }

    /// Answers a GET or HEAD of a file.
    pub(super) async fn file(&self, asked: &Parts, at: &At, path: &str) -> Result<Response, Problem> {
        let patience = Patience::of(asked);
        let revision = self.revision_in_time(at, &patience).await?;
        let file = revision.file(path)?;
        self.content(asked, &revision, file, patience).await
    }

    async fn revision_in_time(&self, at: &At, patience: &Patience) -> Result<Revision, Problem> {
        let Some((status, seconds)) = patience.later else {
            return self.revision(at).await;
        };
        let found = timeout_at(patience.deadline, self.revision(at)).await;
        found.unwrap_or_else(|_| {
            let message = format!("{} is still looked for", at.repo.id);
            Err(Problem::no_peers(status, message, seconds))
        })
    }

    /// Answers with the bytes of a file, or with the head of that answer.
    async fn content(
        &self,
        asked: &Parts,
        revision: &Revision,
        file: &FileEntry,
        patience: Patience,
    ) -> Result<Response, Problem> {
        let Patience {
            asker,
            head,
            deadline,
            later,
        } = patience;
        let mut headers = described::headers(revision, file);
        let tag = described::tag(file);
        let fresh = asked.headers.typed_get::<IfNoneMatch>();
        if fresh.is_some_and(|fresh| !fresh.precondition_passes(&tag)) {
            return Ok(head_alone(StatusCode::NOT_MODIFIED, headers, file, asker));
        }
        let wanted = match head {
            true => Wanted::Whole,
            false => wanted(&asked.headers, &tag, file.size),
        };
        let (status, range) = match wanted {
            Wanted::Whole => (StatusCode::OK, 0..file.size),
            Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Wanted::OfNothing => {
                headers.typed_insert(ContentRange::unsatisfied_bytes(0));
                (StatusCode::OK, 0..0)
            }
            Wanted::Outside => return Ok(outside(headers, file)),
        };
        if status == StatusCode::PARTIAL_CONTENT {
            let part = ContentRange::bytes(range.clone(), file.size);
            headers.typed_insert(part.expect("it lies within the file"));
        }

        // Who looks at a file, or at its head, does not want all of it.
        let all = !head && range.end == file.size;
        let source = self.source(revision, file, all).await?;
        // Of an empty file there is no byte to wait for.
        let first = range.start..range.end.min(range.start.saturating_add(1));
        if head {
            let here = timeout_at(deadline, source.bring(first)).await;
            here.map_err(|_| self.not_yet(revision, file, asker.head_later()))??;
            return Ok(head_alone(status, headers, file, asker));
        }
        described::add_size(&mut headers, file);
        headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
        let mut pieces = Box::pin(Arc::new(source).pieces(range));
        // Whatever is sent of it before the body is all that clients can be told.
        let body = match timeout_at(deadline, pieces.next()).await {
            Ok(Some(Err(error))) if asker != Asker::Rust1 => return Err(error.into()),
            Ok(first) => Body::from_stream(told(stream::iter(first).chain(pieces))),
            Err(_) => match later {
                Some(later) => return Err(self.not_yet(revision, file, later)),
                None => Body::from_stream(told(pieces)),
            },
        };
        Ok((status, headers, body).into_response())
    }

    /// Finds the bytes of a file, and has them fetched if they are not here and the user allows it: `all` of them, to the end
    /// whoever goes away, or only what is read.
    async fn source(&self, revision: &Revision, file: &FileEntry, all: bool) -> Result<Source, Problem> {
        let manifest = revision.manifest.hash();
        let repo = revision.published_as.clone();
        let source = Source::find(self.node(), manifest, repo, file, self.is_ours(revision)).await?;
        let refused = self.refuses(revision, file);
        if source.is_whole() {
            return Ok(match refused {
                Some(_) => source,
                None => source.fetching(),
            });
        }
        if let Some(why) = refused {
            let message = format!("{} of {} is not here, {why}", file.path, revision.repo.id);
            return Err(Problem::no_repo(message));
        }
        if all {
            let repo = revision.published_as.clone();
            self.0.demands.begin(self.node(), manifest, repo, file);
        }
        Ok(source.fetching())
    }

    /// Why peers are not asked for a file of a revision, if the user does not allow it. What is being fetched anyhow may be read.
    pub(super) fn refuses(&self, revision: &Revision, file: &FileEntry) -> Option<String> {
        let node = self.node();
        if node.fetches().wants(revision.manifest.hash(), file) {
            return None;
        }
        if node.config().on_demand == OnDemand::Never {
            return Some("and on_demand = \"never\" in config.toml: shoal fetch gets it".to_owned());
        }
        let repo = revision.published_as.as_ref()?;
        (!self.is_ours(revision) && !self.0.config_allows(repo)).then(|| {
            format!(
                "and its publisher is not followed: shoal follow {} --as NAME, or on_demand = \"any\" in config.toml",
                repo.publisher
            )
        })
    }

    /// Whether a revision was released under our key: what its manifest says was hashed when it was published.
    fn is_ours(&self, revision: &Revision) -> bool {
        let repo = revision.published_as.as_ref();
        repo.is_some_and(|repo| repo.publisher == self.node().library().publisher())
    }

    /// Nobody gave a first byte in time.
    fn not_yet(&self, revision: &Revision, file: &FileEntry, later: (StatusCode, u64)) -> Problem {
        let (status, seconds) = later;
        let who = self.who_had(revision.manifest.hash());
        let message = format!("{} of {} is not here yet: {who}", file.path, revision.repo.id);
        Problem::no_peers(status, message, seconds)
    }
}

/// The pieces of a body; what breaks it off is told to the operator, for the client only sees that it breaks.
fn told(
    pieces: impl Stream<Item = Result<Bytes, FetchError>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, FetchError>> + Send + 'static {
    pieces.inspect_err(|error| {
        let error = error as &dyn std::error::Error;
        tracing::warn!(error, "an answer is broken off");
    })
}

/// An answer without a body that tells how long the body would be.
fn head_alone(status: StatusCode, mut headers: HeaderMap, file: &FileEntry, asker: Asker) -> Response {
    if asker.balks_at(file.size) {
        // A body of unknown length, of which nothing is sent: a known one would be told.
        let body = Body::from_stream(stream::empty::<Result<Bytes, FetchError>>());
        return (status, headers, body).into_response();
    }
    described::add_size(&mut headers, file);
    (status, headers, Body::empty()).into_response()
}

/// The answer to who asks for what lies behind the end.
fn outside(described: HeaderMap, file: &FileEntry) -> Response {
    let message = format!("{} has {} bytes", file.path, file.size);
    let mut response = Problem::refused(StatusCode::RANGE_NOT_SATISFIABLE, message).into_response();
    let headers = response.headers_mut();
    for (name, value) in described {
        // What is said of the file's own bytes does not fit these.
        if let Some(name) =
            name.filter(|name| *name != header::CONTENT_TYPE && *name != header::CONTENT_DISPOSITION)
        {
            headers.insert(name, value);
        }
    }
    headers.typed_insert(ContentRange::unsatisfied_bytes(file.size));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::extract::Request;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use protocol::{Hash, RepoPath};

    fn asker(agent: &str) -> Asker {
        Asker::of(&HeaderMap::from_iter([(
            header::USER_AGENT,
            agent.parse().unwrap(),
        )]))
    }

    #[test]
    fn each_client_is_told_to_come_back_as_it_understands_it() {
        let (busy, many) = (503, 429);
        let table = [
            ("unknown/None; hf_hub/0.36.2; python/3.12", 4, Some(busy)),
            ("hf_hub/1.10.1; python/3.12", 4, Some(many)),
            ("transformers/5.23.0; hf_hub/2.4.0; python/3.12", 30, Some(many)),
            ("hf-hub/1.0.0; rust", 4, None),
            ("llama.cpp", 4, None),
            ("", 4, None),
        ];
        for (agent, seconds, bytes) in table {
            let asker = asker(agent);
            assert_eq!(
                asker.head_later(),
                (StatusCode::SERVICE_UNAVAILABLE, seconds),
                "{agent}"
            );
            let later = asker.bytes_later().map(|(status, _)| status.as_u16());
            assert_eq!(later, bytes, "{agent}");
        }
    }

    #[tokio::test]
    async fn size_that_python_would_balk_at_is_not_told() {
        let size = async |agent: &str, size| {
            let asker = asker(agent);
            let file = FileEntry {
                path: RepoPath::new("model.gguf").unwrap(),
                size,
                blake3: Hash::of(b"x"),
                sha256: None,
                sha1: None,
            };
            let head = async move || head_alone(StatusCode::OK, HeaderMap::new(), &file, asker);
            let router = TowerToHyperService::new(Router::new().fallback(head));
            let request = Request::head("/").body(Body::empty()).unwrap();
            let response = router.call(request).await.unwrap();
            let of = |name: &str| {
                response
                    .headers()
                    .get(name)
                    .map(|value| value.to_str().unwrap().to_owned())
            };
            (of("content-length"), of("x-linked-size"))
        };
        let told = |size: u64| (Some(size.to_string()), Some(size.to_string()));
        let (small, large) = (PLAIN_LEN_MAX, PLAIN_LEN_MAX + 1);
        assert_eq!(size("hf_hub/2.4.0", small).await, told(small));
        assert_eq!(size("hf_hub/2.4.0", large).await, (None, None));
        assert_eq!(size("hf_hub/0.36.2", large).await, told(large));
        assert_eq!(size("llama.cpp", large).await, told(large));
    }
}
