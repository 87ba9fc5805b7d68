//! The Hub's API, as its clients use it: with `HF_ENDPOINT=http://127.0.0.1:7070` they read from the swarm and publish to it.
//!
//! [`route`] says what is asked for, [`revisions`] what it is about, and a file each what is answered. Nothing goes out that
//! was not verified, and what cannot be completed is broken off rather than ended.

mod body;
mod card;
mod digests;
mod facts;
mod files;
mod history;
mod info;
mod lists;
mod ollama;
mod problem;
mod query;
mod revisions;
mod route;
pub(crate) mod token;
mod tree;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use moka::future::Cache;
use protocol::{Hash, Manifest, RepoId, SignedRelease};
use tokio::sync::Semaphore;

use self::facts::Facts;
use self::files::Demands;
use self::problem::Problem;
use self::revisions::Copies;
use self::route::{Address, Call};
use self::upload::Uploads;
use super::guard::Guard;
use crate::config::OnDemand;
use crate::node::Node;

/// Files of the manifests that are kept in memory, all together.
const MANIFEST_FILES_MAX: u64 = 200_000;
/// Repos of which it is remembered that they were looked for.
const SEARCHES_MAX: u64 = 10_000;
/// Searches at once for something newer than what is here: each asks many peers, and a client may list a thousand repos.
const LOOKS_MAX: usize = 8;
/// How long a search is not repeated.
const SEARCH_AGAIN: Duration = Duration::from_secs(60);
/// How long it is not looked again who has copies of what.
const COPIES_AGAIN: Duration = Duration::from_secs(5);

/// Headers that a page may read.
const EXPOSED: &str = "ETag, Content-Range, Content-Length, X-Repo-Commit, X-Linked-Size, X-Linked-ETag, X-Error-Code, \
                       X-Error-Message, Link";

/// What the answers work with. A cheap handle.
#[derive(Clone)]
pub(super) struct Hub(Arc<Inner>);

struct Inner {
    node: Node,
    guard: Guard,
    manifests: Cache<Hash, Arc<Manifest>>,
    /// What searches found, and that they found nothing.
    searches: Cache<RepoId, Option<SignedRelease>>,
    /// Who may look for something newer.
    looks: Arc<Semaphore>,
    copies: Cache<(), Arc<Copies>>,
    /// The repos of other hubs whose copies were looked for in the DHT, and of how many publishers.
    copy_searches: Cache<(Address, usize), ()>,
    /// The files that are being fetched because somebody asked for them.
    demands: Demands,
    facts: Facts,
    uploads: Uploads,
}

impl Hub {
    pub(super) fn new(node: Node, guard: Guard) -> Hub {
        let files = |manifest: &Arc<Manifest>| u32::try_from(manifest.files().len()).unwrap_or(u32::MAX);
        let manifests = Cache::builder()
            .weigher(move |_, manifest| files(manifest))
            .max_capacity(MANIFEST_FILES_MAX);
        let hub = Hub(Arc::new(Inner {
            node,
            guard,
            manifests: manifests.build(),
            searches: Cache::builder()
                .max_capacity(SEARCHES_MAX)
                .time_to_live(SEARCH_AGAIN)
                .build(),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            copies: Cache::builder().time_to_live(COPIES_AGAIN).build(),
            copy_searches: Cache::builder()
                .max_capacity(SEARCHES_MAX)
                .time_to_live(SEARCH_AGAIN)
                .build(),
            demands: Demands::default(),
            facts: Facts::new(),
            uploads: Uploads::new(),
        }));
        hub.keep_sweeping();
        hub
    }

    fn node(&self) -> &Node {
        &self.0.node
    }

    async fn dispatch(&self, head: &Parts, body: Body) -> Result<Response, Problem> {
        let Parts { method, uri, .. } = head;
        let call = route::read(method, uri.path());
        if let Some(answer) = upload::empty(self, &call).await {
            return answer;
        }
        match call {
            Call::File { at, path } => self.file(head, &at, &path).await,
            Call::Raw { at, path } => self.raw(head, &at, &path).await,
            Call::Create => upload::create(self, head, body).await,
            Call::Preupload { at } => upload::preupload(self, &at, head, body).await,
            Call::Commit { at } => upload::commit(self, &at, head, body).await,
            Call::LfsBatch { repo } => upload::batch(self, &repo, head, body).await,
            Call::Lfs { rest } => upload::at_door(self, &rest, head, body).await,
            Call::XetWrite => Ok(upload::no_xet()),
            Call::OtherMethod => Err(Problem::refused(
                StatusCode::METHOD_NOT_ALLOWED,
                "this address answers another method",
            )),
            Call::Info { at } => self.info(&at, head).await,
            Call::Tree { at, path } => self.tree(&at, &path, head).await,
            Call::PathsInfo { at } => self.paths_info(&at, head, body).await,
            Call::Refs { repo } => self.refs(&repo, head).await,
            Call::Commits { at } => self.commits(&at, head).await,
            Call::List { kind } => self.list(kind, head).await,
            Call::Whoami => history::whoami(head),
            Call::AuthCheck { repo } => self.auth_check(&repo).await,
            Call::ValidateYaml => card::validate(&body::whole(head, body, query::BODY_LEN_MAX).await?),
            Call::OllamaManifest { repo, tag } => self.ollama_manifest(&repo, &tag).await,
            Call::OllamaBlob { repo, digest } => self.ollama_blob(&repo, &digest, head).await,
            Call::Nothing => Err(Problem::nothing_here()),
        }
    }
}

impl Inner {
    /// Whether the user allows that peers are asked about a publisher's repo because a client asks for it.
    fn config_allows(&self, repo: &RepoId) -> bool {
        let library = self.node.library();
        match self.node.config().on_demand {
            OnDemand::Any => true,
            OnDemand::Never => false,
            OnDemand::Followed => library.alias_of(repo.publisher).is_some(),
        }
    }
}

/// Answers a request, if the guard lets it pass.
pub(super) async fn answer(State(hub): State<Hub>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let origin = match hub.0.guard.admit(&head) {
        Ok(origin) => origin,
        Err(refusal) => {
            let message = format!("{}: {}", refusal.message(), refusal.hint());
            return Problem::refused(refusal.status(), message).into_response();
        }
    };
    let preflight = head.method == Method::OPTIONS && origin.is_some();
    let mut response = match preflight {
        true => StatusCode::NO_CONTENT.into_response(),
        false => {
            let told = |problem: Problem| problem.without(hub.node().library().data()).into_response();
            hub.dispatch(&head, body).await.unwrap_or_else(told)
        }
    };
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
        if preflight {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, HEAD"),
            );
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("Authorization, Range, If-None-Match"),
            );
        }
    }
    response
}
