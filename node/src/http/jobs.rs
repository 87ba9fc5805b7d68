//! Long verbs over HTTP: the verb runs in a task of its own, and the answer only watches it. A client that goes away takes
//! nothing with it.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::listen::stopped;
use super::messages::{ErrorAnswer, Line};
use super::request::Refused;
use crate::progress::Snapshot;

/// Long verbs at once. Nobody waits for more by hand, and each may hold a folder's list of files.
const JOBS_MAX: usize = 64;

/// Time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Starts long verbs, and ends them all when the doors close.
#[derive(Clone)]
pub(super) struct Jobs {
    permits: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// What an answer under way looks at; `None` once its last line is out.
struct Watching<T> {
    work: JoinHandle<Result<T, ErrorAnswer>>,
    snapshots: watch::Receiver<Snapshot>,
    ticks: Interval,
}

impl Jobs {
    pub(super) fn new(stop: watch::Receiver<bool>) -> Jobs {
        Jobs {
            permits: Arc::new(Semaphore::new(JOBS_MAX)),
            stop,
        }
    }

    /// Runs `work`, and answers with its progress and its end.
    pub(super) fn run<T, W>(&self, snapshots: watch::Receiver<Snapshot>, work: W) -> Result<Response, Refused>
    where
        T: Serialize + Send + 'static,
        W: Future<Output = Result<T, ErrorAnswer>> + Send + 'static,
    {
        let permit = self
            .permits
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refused::busy(JOBS_MAX))?;
        let mut stop = self.stop.clone();
        let work = tokio::spawn(async move {
            let _permit = permit;
            tokio::select! {
                biased;
                () = stopped(&mut stop) => Err(ErrorAnswer::new("the node is stopping", "run the same command again: what is done is kept")),
                outcome = work => outcome,
            }
        });
        let mut ticks = interval(PROGRESS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lines = stream::unfold(
            Some(Watching {
                work,
                snapshots,
                ticks,
            }),
            next_line,
        );
        let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
        Ok((kind, Body::from_stream(lines)).into_response())
    }
}

async fn next_line<T: Serialize>(
    watching: Option<Watching<T>>,
) -> Option<(Result<Bytes, Infallible>, Option<Watching<T>>)> {
    let mut watching = watching?;
    loop {
        tokio::select! {
            biased;
            ended = &mut watching.work => {
                let last = match ended {
                    Ok(Ok(result)) => Line::Done { result },
                    Ok(Err(answer)) => Line::Failed(answer),
                    Err(_) => Line::Failed(ErrorAnswer::new("the node broke off its work: this is a fault of shoal", "the node's log says more")),
                };
                return Some((Ok(line(&last)), None));
            }
            _ = watching.ticks.tick() => {
                // The sender goes with the verb: then the end is near.
                if watching.snapshots.has_changed().unwrap_or(false) {
                    let snapshot = watching.snapshots.borrow_and_update().clone();
                    return Some((Ok(line(&Line::<T>::Progress(snapshot))), Some(watching)));
                }
            }
        }
    }
}

fn line<T: Serialize>(line: &Line<T>) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_else(|error| {
        let answer = ErrorAnswer::new(format!("the answer cannot be written as JSON: {error}"), "");
        serde_json::to_vec(&Line::<()>::Failed(answer)).expect("strings and numbers are JSON")
    });
    text.push(b'\n');
    Bytes::from(text)
}
