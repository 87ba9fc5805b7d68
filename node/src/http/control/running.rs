//! What is asked of models: to run. The work is the client's: it ends when the client goes away.

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::time::{MissedTickBehavior, interval};

use super::Desk;
use crate::http::messages::{ErrorAnswer, RunAsk, RunLine};
use crate::http::request::Told;
use crate::http::streaming::{self, Pieces};
use crate::node::Node;
use crate::progress::Progress;
use crate::run::{Answer, Held, RunError, RunOptions, talk};

/// Time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn run(State(desk): State<Desk>, Told(ask): Told<RunAsk>) -> Response {
    let body = streaming::body(async move |pieces| {
        let last = match answer(&desk.node, ask, &pieces).await {
            Ok(answer) => RunLine::Done { answer },
            Err(error) => RunLine::Failed(ErrorAnswer::of(&error)),
        };
        say(&pieces, &last);
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

async fn answer(node: &Node, ask: RunAsk, pieces: &Pieces) -> Result<Answer, RunError> {
    let RunAsk {
        repo,
        file,
        memory,
        weights,
        talk: said,
    } = ask;
    let options = RunOptions {
        file,
        memory,
        weights,
        program: None,
    };
    let (progress, mut snapshots) = Progress::channel();
    let loading = node.engines().get(node.library(), &repo, options, &progress);
    let mut loading = std::pin::pin!(loading);
    let mut ticks = interval(PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held: Held = loop {
        tokio::select! {
            biased;
            held = loading.as_mut() => break held?,
            _ = ticks.tick() => {
                // The sender is ours: it is there.
                if snapshots.has_changed().unwrap_or(false) {
                    say(pieces, &RunLine::Progress(snapshots.borrow_and_update().clone()));
                }
            }
        }
    };
    let model = held.loaded().clone();
    say(pieces, &RunLine::Loaded { model: model.clone() });
    let heard = |text| say(pieces, &RunLine::Text { text });
    Ok(talk(&mut held, &model, said, heard).await?)
}

fn say(pieces: &Pieces, line: &RunLine) {
    let mut text = serde_json::to_vec(line).expect("strings and numbers are JSON");
    text.push(b'\n');
    pieces.put(text);
}
