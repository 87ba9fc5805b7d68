//! What is asked of fetches: to begin, to be listed, paused, resumed and cancelled, and to keep to limits.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tracing::debug;

use super::Desk;
use crate::fetch::{FetchRequest, FetchWhat, HubCache, JobView, NoSuchJob};
use crate::http::messages::{ErrorAnswer, FetchAsk, JobAsk, JobPick, JobsAnswer, LimitsAsk};
use crate::http::request::{Refused, Told, absolute};
use crate::node::{Limits, Node};
use crate::progress::Progress;

pub(super) async fn fetch(State(desk): State<Desk>, Told(ask): Told<FetchAsk>) -> Result<Response, Refused> {
    let to = ask.to.map(absolute).transpose()?;
    let what = FetchWhat::from(ask.what);
    let hf_cache = ask.hf_cache.map(absolute).transpose()?;
    let request = FetchRequest {
        to,
        include: ask.include,
        exclude: ask.exclude,
        allow_code: ask.allow_code,
        wait: ask.wait_s.map(Duration::from_secs),
        hf_cache: hf_cache.map(|folder| HubCache::new(folder, &what)),
        ..FetchRequest::new(what)
    };
    let (progress, snapshots) = Progress::channel();
    desk.jobs.run(snapshots, async move {
        let swarm = desk.node.swarm();
        // One is enough to begin with, and who cannot be reached may not be needed.
        let mut dials: FuturesUnordered<_> = ask.peers.into_iter().map(|peer| swarm.dial(peer)).collect();
        while let Some(Err(error)) = dials.next().await {
            debug!(%error, "a peer to begin with");
        }
        let fetched = desk.node.fetch(request, &progress).await;
        fetched.map_err(|error| ErrorAnswer::of(&error))
    })
}

pub(super) async fn jobs(State(desk): State<Desk>) -> Json<Vec<JobView>> {
    Json(desk.node.jobs())
}

pub(super) async fn pause(
    State(desk): State<Desk>,
    Told(JobAsk { id }): Told<JobAsk>,
) -> Result<Json<JobsAnswer>, Refused> {
    each(&desk.node, id, |id| desk.node.pause(id))
}

pub(super) async fn resume(
    State(desk): State<Desk>,
    Told(JobAsk { id }): Told<JobAsk>,
) -> Result<Json<JobsAnswer>, Refused> {
    each(&desk.node, id, |id| desk.node.resume(id))
}

pub(super) async fn cancel(
    State(desk): State<Desk>,
    Told(JobAsk { id }): Told<JobAsk>,
) -> Result<Json<JobsAnswer>, Refused> {
    each(&desk.node, id, |id| desk.node.cancel(id))
}

pub(super) async fn limits(State(desk): State<Desk>) -> Json<Limits> {
    Json(desk.node.limits())
}

pub(super) async fn set_limits(State(desk): State<Desk>, Told(ask): Told<LimitsAsk>) -> Json<Limits> {
    let limits = ask.over(desk.node.limits());
    desk.node.set_limits(limits);
    Json(limits)
}

/// Does `act` to the jobs that are picked. Of all, one that ends meanwhile is not missed.
fn each(
    node: &Node,
    pick: JobPick,
    act: impl Fn(u64) -> Result<(), NoSuchJob>,
) -> Result<Json<JobsAnswer>, Refused> {
    let jobs = match pick {
        JobPick::One(id) => act(id).map(|()| vec![id])?,
        JobPick::Every(_) => {
            let all = node.jobs().into_iter().map(|job| job.id);
            all.filter(|id| act(*id).is_ok()).collect()
        }
    };
    Ok(Json(JobsAnswer { jobs }))
}
