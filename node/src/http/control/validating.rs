//! The control API about what models do, and who found what.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::{Desk, blocking};
use crate::attest::{AttestationView, Imported};
use crate::http::messages::{AttestationsAsk, ErrorAnswer, ProbeAsk, RepoAsk, SomeRepoAsk, ValidateAsk};
use crate::http::request::{Asked, Refused, Told};
use crate::progress::Progress;
use crate::validate::ProbeRequest;

pub(super) async fn validate(
    State(desk): State<Desk>,
    Told(ask): Told<ValidateAsk>,
) -> Result<Response, Refused> {
    let (progress, snapshots) = Progress::channel();
    desk.jobs.run(snapshots, async move {
        let report = desk.node.validate(ask.into(), &progress).await;
        report.map_err(|error| ErrorAnswer::of(&error))
    })
}

pub(super) async fn probe(State(desk): State<Desk>, Told(ask): Told<ProbeAsk>) -> Result<Response, Refused> {
    let (progress, snapshots) = Progress::channel();
    desk.jobs.run(snapshots, async move {
        let request = ProbeRequest {
            file: ask.file,
            memory: ask.memory,
            program: desk.node.config().engines.program.clone(),
        };
        let made = desk
            .node
            .library()
            .make_probes(&ask.repo, &request, &progress)
            .await;
        made.map_err(|error| ErrorAnswer::of(&error))
    })
}

pub(super) async fn attestations(
    State(desk): State<Desk>,
    Asked(SomeRepoAsk { repo }): Asked<SomeRepoAsk>,
) -> Result<Json<Vec<AttestationView>>, Refused> {
    let library = desk.node.library().clone();
    let repo = repo.map(|repo| repo.parse()).transpose()?;
    blocking(move || library.attestation_views(repo.as_ref())).await
}

pub(super) async fn export(
    State(desk): State<Desk>,
    Told(RepoAsk { repo }): Told<RepoAsk>,
) -> Result<Response, Refused> {
    let library = desk.node.library().clone();
    let Json(bytes) = blocking(move || library.export_attestations(&repo)).await?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, bytes).into_response())
}

pub(super) async fn import(
    State(desk): State<Desk>,
    Told(ask): Told<AttestationsAsk>,
) -> Result<Json<Imported>, Refused> {
    let library = desk.node.library().clone();
    let bytes = ask.bytes()?;
    blocking(move || library.import_attestations(&bytes)).await
}
