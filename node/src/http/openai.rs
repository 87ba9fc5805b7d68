//! OpenAI's API, for every tool that talks to models: chat and plain completions, embeddings, and the list of what there is.
//! Models are named as repos are everywhere. Nothing here changes what a node has, and any token is taken: local tools send dummies.
//!
//! What a request asks for and this build cannot do is refused, never passed over: an answer means what was asked.

mod completions;
mod embeddings;
mod models;
mod problem;
mod prompts;
mod read;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use self::problem::Problem;
use super::guard::{self, Guard, Refusal};
use crate::node::Node;
use crate::progress::Progress;
use crate::run::{Held, RunOptions};

/// Largest body of a request, in bytes: a long text, or two thousand short ones.
const BODY_LEN_MAX: usize = 8 * 1024 * 1024;

/// The routes under `/v1`; the Hub's API has none of them.
pub(super) fn router<S: Clone + Send + Sync + 'static>(node: Node, guard: Guard) -> Router<S> {
    let routes = Router::new()
        .route("/v1/models", get(models::list))
        // Some clients encode the slash of a name, some do not.
        .route("/v1/models/{model}", get(models::one))
        .route("/v1/models/{owner}/{name}", get(models::one_of))
        .route("/v1/chat/completions", post(completions::chat))
        .route("/v1/completions", post(completions::plain))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .with_state(node);
    routes
        .method_not_allowed_fallback(async || Problem::other_method())
        .layer(middleware::from_fn_with_state(guard, stand))
}

/// Lets a request pass to `next`, or answers it: Host and Origin as everywhere, and JSON where there is a body.
async fn stand(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let (mut response, origin) = match guard.admit(&head) {
        Err(refusal) => (Problem::from(refusal).into_response(), None),
        Ok(origin) if head.method == Method::POST && !guard::is_json(&head.headers) => {
            (Problem::from(Refusal::NotJson).into_response(), origin)
        }
        Ok(origin) => (next.run(Request::from_parts(head, body)).await, origin),
    };
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// Waits for an engine with a model.
async fn engine(node: &Node, model: &str) -> Result<Held, Problem> {
    let what = models::meaning(node, model)?;
    let unseen = Progress::default();
    let held = node
        .engines()
        .get(node.library(), &what, RunOptions::default(), &unseen);
    held.await.map_err(|error| Problem::of_run(model, &error))
}
