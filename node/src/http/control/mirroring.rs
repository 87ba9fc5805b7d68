//! What is asked of mirrors: what to keep of whom, and how they are.

use axum::Json;
use axum::extract::State;

use super::Desk;
use crate::http::messages::{MirrorAnswer, MirrorAsk};
use crate::http::request::{Refused, Told};
use crate::mirror::MirrorView;

pub(super) async fn mirrors(State(desk): State<Desk>) -> Result<Json<Vec<MirrorView>>, Refused> {
    Ok(Json(desk.node.mirror_views().await?))
}

pub(super) async fn mirror(
    State(desk): State<Desk>,
    Told(ask): Told<MirrorAsk>,
) -> Result<Json<MirrorAnswer>, Refused> {
    let before = desk.node.library().mirror_of(ask.publisher);
    let mirror = ask.terms.map(|terms| terms.over(before.as_ref()));
    desk.node.set_mirror(ask.publisher, mirror.clone()).await?;
    Ok(Json(MirrorAnswer { mirror }))
}
