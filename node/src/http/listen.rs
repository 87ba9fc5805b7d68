//! Takes connections and speaks HTTP/1.1 on them, within bounds. Knows nothing of what is asked.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// Connections at once; more wait in the system's queue. Sixteen clients that read eight files each are ordinary, and must not
/// keep the user's commands out. Each costs three file descriptors and, while it sends a file, 3 MiB.
const CONNECTIONS_MAX: usize = 160;

/// Largest head of a request, and the read buffer of a connection, in bytes.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// How long a head may take to arrive, from the first byte or since the answer before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long answers under way may take to end once we stop.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after the system refused to hand out a connection: it is out of descriptors, and only time helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is true or its sender is gone; then lets answers under way end, but not for long.
pub(super) async fn run(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let taken = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            taken = take(&listener, &permits) => taken,
        };
        while connections.try_join_next().is_some() {}
        if let Some((stream, permit)) = taken {
            connections.spawn(converse(stream, router.clone(), stop.clone(), permit));
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(CLOSE_TIMEOUT, all).await.is_err() {
        debug!("connections are cut at the stop");
    }
}

/// Returns when it is time to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: then it is time as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn take(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = permits
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            debug!(%error, "no connection taken");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn converse(
    stream: TcpStream,
    router: Router,
    mut stop: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "small answers may be late");
    }
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LEN_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "connection ended");
    }
}
