//! What is denied, and the lists that are followed.

use axum::Json;
use axum::extract::State;

use super::Desk;
use crate::denials::{Allowed, DeniedView, ListView, Why};
use crate::http::messages::{AllowAsk, DeniedAsk, DenyAsk, DenylistAsk, UnsubscribedAnswer};
use crate::http::request::{Asked, Refused, Told};
use crate::library::LibraryError;

pub(super) async fn denied(State(desk): State<Desk>, Asked(ask): Asked<DeniedAsk>) -> Json<DeniedView> {
    Json(desk.node.library().denied(ask.all))
}

pub(super) async fn deny(State(desk): State<Desk>, Told(ask): Told<DenyAsk>) -> Result<Json<Why>, Refused> {
    let DenyAsk { what, reason, for_s } = ask;
    Ok(Json(desk.node.library().deny(&what, reason, for_s).await?))
}

pub(super) async fn allow(
    State(desk): State<Desk>,
    Told(ask): Told<AllowAsk>,
) -> Result<Json<Allowed>, Refused> {
    Ok(Json(desk.node.library().allow(&ask.what).await?))
}

pub(super) async fn subscribe(
    State(desk): State<Desk>,
    Told(ask): Told<DenylistAsk>,
) -> Result<Json<ListView>, Refused> {
    let list = desk.node.subscribe(&ask.repo).await?;
    Ok(Json(list.ok_or(LibraryError::Unknown(ask.repo))?))
}

pub(super) async fn unsubscribe(
    State(desk): State<Desk>,
    Told(ask): Told<DenylistAsk>,
) -> Result<Json<UnsubscribedAnswer>, Refused> {
    let (_, subscribed) = desk.node.library().unsubscribe(&ask.repo).await?;
    Ok(Json(UnsubscribedAnswer { subscribed }))
}
