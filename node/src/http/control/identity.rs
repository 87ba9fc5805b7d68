//! Who the node publishes as: `id`, `id/rotate`, `id/recover`, `id/revoke`.

use axum::Json;
use axum::extract::State;

use super::super::messages::{RecoverAsk, RevokeAsk, RotateAsk};
use super::super::request::{Refused, Told, absolute};
use super::Desk;
use crate::identity::{IdentityView, Moved, Revoke, RevokedKey};

pub(super) async fn show(State(desk): State<Desk>) -> Json<IdentityView> {
    Json(desk.node.library().identity_view())
}

pub(super) async fn rotate(
    State(desk): State<Desk>,
    Told(ask): Told<RotateAsk>,
) -> Result<Json<Moved>, Refused> {
    let recovery = ask.recovery.map(absolute).transpose()?;
    Ok(Json(desk.node.rotate(recovery).await?))
}

pub(super) async fn recover(
    State(desk): State<Desk>,
    Told(ask): Told<RecoverAsk>,
) -> Result<Json<Moved>, Refused> {
    let recovery = absolute(ask.recovery)?;
    Ok(Json(desk.node.recover(ask.publisher, recovery).await?))
}

pub(super) async fn revoke(
    State(desk): State<Desk>,
    Told(ask): Told<RevokeAsk>,
) -> Result<Json<RevokedKey>, Refused> {
    let revoke = Revoke {
        key: ask.key,
        reason: ask.reason.parse()?,
        recovery: ask.recovery.map(absolute).transpose()?,
    };
    Ok(Json(desk.node.revoke(revoke).await?))
}
