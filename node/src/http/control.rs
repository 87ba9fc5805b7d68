//! The control API: the node's verbs for programs of the same user, such as the command line.
//!
//! | route under `/api/shoal/v1` | says |
//! |---|---|
//! | GET `status` `doctor` `peers` `jobs` `limits` `repos` `following` `mirrors` | how the node is, what it has |
//! | GET `show?repo=` `similar?repo=` `ticket?repo=` | one repo |
//! | POST `search` | what is known |
//! | GET `attestations[?repo=]` | who found what |
//! | GET `denied[?all=]` | what is denied, and the lists that are followed |
//! | POST `publish` `import` `fetch` `verify` `validate` `probe` | lines of progress, then the end |
//! | POST `run` | lines of progress and of text, then the end; it ends with who asked |
//! | GET `id`; POST `id/rotate` `id/recover` `id/revoke` | who we publish as, and how that changes |
//! | POST `proof` `attestations/export` | the bytes of a file |
//! | POST `attestations/import` | what became of it |
//! | POST `jobs/pause` `jobs/resume` `jobs/cancel` | the numbers of the fetches that do |
//! | POST `limits` | the limits as they are from now on |
//! | POST `deny` `allow` | what came of it |
//! | POST `denylists/subscribe` `denylists/unsubscribe` | how it stands with the list; whether it was followed |
//! | POST `pin` `forget` `collect` `follow` `unfollow` `mirror` `catalog/rebuild` `shutdown` | done, or why not |
//!
//! Every route needs the token, and no GET changes anything.

mod fetching;
mod identity;
mod mirroring;
mod moderating;
mod running;
mod validating;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;

use super::contact::Contact;
use super::guard::{self, Guard};
use super::hub::{self, Hub};
use super::jobs::Jobs;
use super::messages::{
    ErrorAnswer, FollowAsk, Nothing, PeerAnswer, PublishAnswer, PublishAsk, ROOT, RepoAsk, TicketAnswer,
    UnfollowAnswer, UnfollowAsk,
};
use super::openai;
use super::request::{Asked, Refused, Told, absolute};
use super::{BODY_LEN_MAX, HttpError, listen};
use crate::discovery::{FollowAnswer, Lineage, SearchAnswer, SearchAsk};
use crate::doctor::Running;
use crate::import::ImportRequest;
use crate::library::{Collected, FollowView, Forgotten, LibraryError, Rebuilt, RepoView, Shown};
use crate::limits::RELEASE_DAYS;
use crate::node::{Node, Status};
use crate::progress::Progress;
use crate::publish::PublishRequest;
use crate::store::StoreError;

/// The open doors of a node. Dropping it closes them, but leaves `control.json`; [`Door::close`] is the clean way.
pub struct Door {
    contact: Contact,
    data: PathBuf,
    shutdown: Arc<Notify>,
    stop: watch::Sender<bool>,
    listening: JoinHandle<()>,
}

/// What every route works with.
#[derive(Clone)]
struct Desk {
    node: Node,
    jobs: Jobs,
    shutdown: Arc<Notify>,
}

/// Opens the doors of `node` on a loopback address; port 0 means any. Writes `control.json` into its data folder.
///
/// # Errors
/// Every variant of [`HttpError`].
pub async fn serve(node: Node, listen: SocketAddr) -> Result<Door, HttpError> {
    if !listen.ip().is_loopback() {
        return Err(HttpError::NotLoopback { address: listen });
    }
    let bound = TcpListener::bind(listen)
        .await
        .and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|source| HttpError::Bind {
        address: listen,
        source,
    })?;
    let data = node.library().data().to_owned();
    let contact = introduce(address, &data)
        .await
        .map_err(|source| HttpError::Contact {
            path: Contact::path(&data),
            source,
        })?;
    let (stop, stopping) = watch::channel(false);
    let shutdown = Arc::new(Notify::new());
    node.set_http(address);
    let desk = Desk {
        node,
        jobs: Jobs::new(stopping.clone()),
        shutdown: shutdown.clone(),
    };
    let guard = Guard::new(address, &contact.token, desk.node.config().origins.clone());
    let hub = Hub::new(desk.node.clone(), guard.clone());
    let router = router(desk, hub, guard);
    let listening = tokio::spawn(listen::run(listener, router, stopping));
    Ok(Door {
        contact,
        data,
        shutdown,
        stop,
        listening,
    })
}

impl Door {
    /// Where the doors are.
    pub fn address(&self) -> SocketAddr {
        self.contact.address
    }

    /// Returns when somebody asked, through the doors, that the node stop.
    pub async fn asked_to_stop(&self) {
        self.shutdown.notified().await;
    }

    /// Removes `control.json`, ends what was asked for through the doors, and closes them; takes two seconds at most.
    pub async fn close(self) {
        let Door {
            contact,
            data,
            stop,
            listening,
            ..
        } = self;
        let removed = spawn_blocking(move || contact.remove(&data)).await;
        if let Ok(Err(error)) = removed {
            warn!(%error, "control.json cannot be removed");
        }
        // An error means that nobody listens any more.
        let _ = stop.send(true);
        let _ = listening.await;
    }
}

async fn introduce(address: SocketAddr, data: &Path) -> std::io::Result<Contact> {
    let contact = Contact::new(address)?;
    let (written, data) = (contact.clone(), data.to_owned());
    spawn_blocking(move || written.write(&data))
        .await
        .map_err(std::io::Error::other)??;
    Ok(contact)
}

fn router(desk: Desk, hub: Hub, guard: Guard) -> Router {
    let openai = openai::router(desk.node.clone(), guard.clone());
    let routes = Router::new()
        .route("/status", get(status))
        .route("/doctor", get(doctor))
        .route("/peers", get(peers))
        .route("/jobs", get(fetching::jobs))
        .route("/jobs/pause", post(fetching::pause))
        .route("/jobs/resume", post(fetching::resume))
        .route("/jobs/cancel", post(fetching::cancel))
        .route("/limits", get(fetching::limits).post(fetching::set_limits))
        .route("/repos", get(repos))
        .route("/following", get(following))
        .route("/mirrors", get(mirroring::mirrors))
        .route("/mirror", post(mirroring::mirror))
        .route("/denied", get(moderating::denied))
        .route("/deny", post(moderating::deny))
        .route("/allow", post(moderating::allow))
        .route("/denylists/subscribe", post(moderating::subscribe))
        .route("/denylists/unsubscribe", post(moderating::unsubscribe))
        .route("/show", get(show))
        .route("/ticket", get(ticket))
        .route("/search", post(search))
        .route("/similar", get(similar))
        .route("/publish", post(publish))
        .route("/import", post(import))
        .route("/fetch", post(fetching::fetch))
        .route("/verify", post(verify))
        .route("/run", post(running::run))
        .route("/proof", post(proof))
        .route("/validate", post(validating::validate))
        .route("/probe", post(validating::probe))
        .route("/attestations", get(validating::attestations))
        .route("/attestations/export", post(validating::export))
        .route("/attestations/import", post(validating::import))
        .route("/pin", post(pin))
        .route("/forget", post(forget))
        .route("/collect", post(collect))
        .route("/follow", post(follow))
        .route("/unfollow", post(unfollow))
        .route("/id", get(identity::show))
        .route("/id/rotate", post(identity::rotate))
        .route("/id/recover", post(identity::recover))
        .route("/id/revoke", post(identity::revoke))
        .route("/catalog/rebuild", post(rebuild_catalog))
        .route("/shutdown", post(shutdown))
        .with_state(desk);
    let routes = routes
        .fallback(async || Refused::nothing_here())
        .method_not_allowed_fallback(async || Refused::other_method())
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .layer(middleware::from_fn_with_state(guard, guard::stand));
    Router::new()
        .nest(ROOT, routes)
        .merge(openai)
        .fallback(hub::answer)
        .with_state(hub)
}

async fn status(State(desk): State<Desk>) -> Result<Json<Status>, Refused> {
    Ok(Json(desk.node.status().await?))
}

async fn doctor(State(desk): State<Desk>) -> Result<Json<Running>, Refused> {
    Ok(Json(desk.node.examined().await?))
}

async fn peers(State(desk): State<Desk>) -> Json<Vec<PeerAnswer>> {
    Json(desk.node.peers().await.iter().map(PeerAnswer::from).collect())
}

async fn repos(State(desk): State<Desk>) -> Result<Json<Vec<RepoView>>, Refused> {
    let library = desk.node.library().clone();
    blocking(move || library.list()).await
}

async fn following(State(desk): State<Desk>) -> Json<Vec<FollowView>> {
    Json(desk.node.library().follow_views())
}

async fn show(
    State(desk): State<Desk>,
    Asked(RepoAsk { repo }): Asked<RepoAsk>,
) -> Result<Json<Shown>, Refused> {
    if let Ok(manifest) = desk.node.library().resolve_local(&repo) {
        desk.node.glance_at_attestations(manifest).await;
    }
    Ok(Json(desk.node.library().show(&repo).await?))
}

async fn search(State(desk): State<Desk>, Told(ask): Told<SearchAsk>) -> Result<Json<SearchAnswer>, Refused> {
    Ok(Json(desk.node.find(ask).await?))
}

async fn similar(
    State(desk): State<Desk>,
    Asked(RepoAsk { repo }): Asked<RepoAsk>,
) -> Result<Json<Lineage>, Refused> {
    let discovery = desk.node.discovery().clone();
    let found = spawn_blocking(move || discovery.relatives(&repo)).await;
    let found = found.map_err(|_| LibraryError::Store(StoreError::Closed))?;
    Ok(Json(found?))
}

async fn ticket(
    State(desk): State<Desk>,
    Asked(RepoAsk { repo }): Asked<RepoAsk>,
) -> Result<Json<TicketAnswer>, Refused> {
    let ticket = desk.node.ticket(&repo)?;
    Ok(Json(TicketAnswer { ticket }))
}

async fn publish(State(desk): State<Desk>, Told(ask): Told<PublishAsk>) -> Result<Response, Refused> {
    let path = absolute(ask.path)?;
    let request = PublishRequest {
        path,
        name: ask.name,
        kind: ask.kind,
        copy: ask.copy,
        upstream: None,
        valid_days: RELEASE_DAYS,
        require_card: ask.require_card,
    };
    let (progress, snapshots) = Progress::channel();
    desk.jobs.run(snapshots, async move {
        let published = desk.node.publish(request, &progress).await;
        let (published, ticket) = published.map_err(|error| ErrorAnswer::of(&error))?;
        Ok(PublishAnswer { published, ticket })
    })
}

async fn import(
    State(desk): State<Desk>,
    Told(mut request): Told<ImportRequest>,
) -> Result<Response, Refused> {
    request.path = absolute(request.path)?;
    let (progress, snapshots) = Progress::channel();
    desk.jobs.run(snapshots, async move {
        let imported = desk.node.import(request, &progress).await;
        imported.map_err(|error| ErrorAnswer::of(&error))
    })
}

async fn verify(
    State(desk): State<Desk>,
    Told(RepoAsk { repo }): Told<RepoAsk>,
) -> Result<Response, Refused> {
    let (progress, snapshots) = Progress::channel();
    desk.jobs.run(snapshots, async move {
        let report = desk.node.library().verify(&repo, &progress).await;
        report.map_err(|error| ErrorAnswer::of(&error))
    })
}

async fn proof(State(desk): State<Desk>, Told(RepoAsk { repo }): Told<RepoAsk>) -> Result<Response, Refused> {
    let proof = desk.node.library().proof(&repo, &Progress::default()).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, proof.encode()).into_response())
}

async fn pin(
    State(desk): State<Desk>,
    Told(RepoAsk { repo }): Told<RepoAsk>,
) -> Result<Json<Nothing>, Refused> {
    desk.node.library().pin(&repo).await?;
    Ok(Json(Nothing {}))
}

async fn forget(
    State(desk): State<Desk>,
    Told(RepoAsk { repo }): Told<RepoAsk>,
) -> Result<Json<Forgotten>, Refused> {
    Ok(Json(desk.node.forget(&repo).await?))
}

async fn collect(
    State(desk): State<Desk>,
    Told(Nothing {}): Told<Nothing>,
) -> Result<Json<Collected>, Refused> {
    Ok(Json(desk.node.library().collect().await?))
}

async fn follow(State(desk): State<Desk>, Told(ask): Told<FollowAsk>) -> Result<Json<FollowAnswer>, Refused> {
    let discovery = desk.node.discovery().clone();
    let publisher = ask.publisher;
    let answer = blocking(move || discovery.follow(publisher, &ask.alias)).await?;
    desk.node.keep_up_with(publisher);
    Ok(answer)
}

async fn unfollow(
    State(desk): State<Desk>,
    Told(ask): Told<UnfollowAsk>,
) -> Result<Json<UnfollowAnswer>, Refused> {
    let library = desk.node.library().clone();
    let Json(followed) = blocking(move || library.unfollow(ask.publisher)).await?;
    desk.node.mirror_board().change();
    Ok(Json(UnfollowAnswer { followed }))
}

async fn rebuild_catalog(
    State(desk): State<Desk>,
    Told(Nothing {}): Told<Nothing>,
) -> Result<Json<Rebuilt>, Refused> {
    Ok(Json(desk.node.library().rebuild_catalog().await?))
}

async fn shutdown(State(desk): State<Desk>, Told(Nothing {}): Told<Nothing>) -> Json<Nothing> {
    desk.shutdown.notify_one();
    Json(Nothing {})
}

/// Does disk work off the tasks of the network.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<Json<T>, Refused>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let done = spawn_blocking(work).await;
    Ok(Json(done.map_err(|_| Refused::broken())??))
}

#[cfg(test)]
mod tests;
