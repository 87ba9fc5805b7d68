//! Which models there are, and what a client may call them.

use axum::Json;
use axum::extract::{Path, State};
use protocol::{Kind, RepoId, RepoRef};
use serde_json::{Value, json};

use super::problem::Problem;
use crate::library::{Library, RepoView};
use crate::node::Node;
use crate::run::Picked;

/// Models that are listed, at most: each costs a look at its manifest.
const LISTED_MAX: usize = 1_000;

/// The owner that stands for whoever runs this node, as in the Hub's API.
const LOCAL: &str = "local";

pub(super) async fn list(State(node): State<Node>) -> Result<Json<Value>, Problem> {
    let library = node.library();
    let views = library
        .list()
        .map_err(|error| Problem::of_run("", &error.into()))?;
    let mut models = Vec::new();
    for view in &views {
        if models.len() < LISTED_MAX && view.denied.is_none() && runs(library, view).await {
            models.push(described(library, view));
        }
    }
    Ok(Json(json!({"object": "list", "data": models})))
}

pub(super) async fn one_of(
    node: State<Node>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    one(node, Path(format!("{owner}/{name}"))).await
}

pub(super) async fn one(State(node): State<Node>, Path(model): Path<String>) -> Result<Json<Value>, Problem> {
    let what = meaning(&node, &model)?;
    let library = node.library();
    let of_run = |error| Problem::of_run(&model, &error);
    library
        .refuse_denied(&what)
        .map_err(|error| of_run(error.into()))?;
    let manifest = library
        .resolve_local(&what)
        .map_err(|error| of_run(error.into()))?;
    let content = library.known_manifest(&what, manifest).await;
    let content = content.map_err(|error| of_run(error.into()))?;
    Picked::of(&content, None).map_err(of_run)?;
    let views = library.list().map_err(|error| of_run(error.into()))?;
    let view = views.iter().find(|view| view.manifest == manifest);
    let mut value = view.map_or_else(|| model_value(&model, "", 0), |view| described(library, view));
    // It is called what it was asked for by.
    value["id"] = Value::from(model);
    Ok(Json(value))
}

/// What a model's name means.
pub(super) fn meaning(node: &Node, model: &str) -> Result<RepoRef, Problem> {
    let own = model.split_once('/').filter(|(owner, _)| *owner == LOCAL);
    if let Some(name) = own.and_then(|(_, name)| name.parse().ok()) {
        let publisher = node.library().publisher();
        return Ok(RepoRef::Id(RepoId { publisher, name }));
    }
    let parsed = model.parse();
    parsed.map_err(|error: protocol::RepoRefError| Problem::no_model(model, &error.to_string()))
}

/// Whether there is a model in a repo, by the names of its files, and all that it needs is here.
async fn runs(library: &Library, view: &RepoView) -> bool {
    let kind = view.kind.is_none_or(|kind| kind == Kind::Model);
    kind && match library.manifest(view.manifest).await {
        Ok(manifest) => match Picked::of(&manifest, None) {
            Ok(_) if view.complete => true,
            Ok(picked) => {
                let missing = library.missing_of(picked.files()).await;
                missing.is_ok_and(|missing| missing.is_empty())
            }
            Err(_) => false,
        },
        Err(_) => false,
    }
}

fn described(library: &Library, view: &RepoView) -> Value {
    let id = match (&view.repo, &view.alias) {
        (Some(repo), Some(alias)) => format!("{alias}/{}", repo.name),
        (Some(repo), None) => repo.to_string(),
        (None, _) => format!("blake3/{}", view.manifest),
    };
    let owner = view.repo.as_ref().map(|repo| repo.publisher.to_string());
    let issued = view
        .repo
        .as_ref()
        .and_then(|repo| library.names().get(repo).ok().flatten());
    let created = issued.map_or(0, |release| release.release().issued);
    model_value(&id, &owner.unwrap_or_default(), created)
}

fn model_value(id: &str, owner: &str, created: u64) -> Value {
    json!({"id": id, "object": "model", "created": created, "owned_by": owner})
}
