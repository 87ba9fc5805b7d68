//! Takes connections and speaks HTTP/1.1 on them, within bounds. Knows nothing of what is asked.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tracing::debug;

/// Connections at once; more wait in the system's queue. Sixteen clients that read eight files each are ordinary, and must not
/// keep the user's commands out. Each costs three file descriptors and, while it sends a file, 3 MiB.
const CONNECTIONS_MAX: usize = 160;

/// Largest head of a request, and the read buffer of a connection, in bytes.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// How long a head may take to arrive, from the first byte or since the answer before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take nothing of an answer. Long enough for a program that waits in a debugger or for a slow disk; one
/// that never reads on must not hold its connection, and what it was reading, for ever.
const WRITE_STALL: Duration = Duration::from_secs(300);

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
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "small answers may be late");
            }
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

/// Answers one connection until it ends.
///
/// - `held`: let go when it has ended.
async fn converse<S, H>(stream: S, router: Router, mut stop: watch::Receiver<bool>, held: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _held = held;
    let stream = Patient {
        stream,
        stalled: None,
    };
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

/// A connection that fails once its client has taken nothing for [`WRITE_STALL`] of what is to be written.
struct Patient<S> {
    stream: S,
    /// Until when it has to take some, if it takes nothing now.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    /// Looks at what came of a write: waits no longer if something did, and not for ever if nothing does.
    fn watch<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.watch(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use bytes::Bytes;
    use futures::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::oneshot;

    use super::*;

    /// A client that asked for something endless, and is told when its connection is over.
    async fn asked() -> (DuplexStream, oneshot::Receiver<()>, watch::Sender<bool>) {
        let (mut client, server) = duplex(64);
        let endless = || stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[7; 1024])));
        let router = Router::new().fallback(async move || Body::from_stream(endless()));
        let (stop, stopping) = watch::channel(false);
        let (held, over) = oneshot::channel();
        tokio::spawn(converse(server, router, stopping, held));
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        (client, over, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_reads_nothing_does_not_hold_its_connection_for_ever() {
        let (_client, over, _stop) = asked().await;
        let ended = timeout(2 * WRITE_STALL, over).await;
        assert!(ended.is_ok(), "it is still held");
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_reads_slowly_keeps_its_connection() {
        let (mut client, mut over, _stop) = asked().await;
        for _ in 0..10 {
            assert!(timeout(WRITE_STALL / 2, &mut over).await.is_err(), "it was cut");
            client.read_exact(&mut [0; 32]).await.unwrap();
        }
    }
}
