//! Bodies of requests, within bounds of length and patience: short ones whole, long ones as a stream for work that blocks.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::StatusCode;
use axum::http::{header, request::Parts};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::problem::Problem;

/// How long a client may send nothing in the middle of a body.
const STALL: Duration = Duration::from_secs(30);
/// How long we wait for the bytes of a body, all waits together, before their number counts.
const PATIENCE: Duration = Duration::from_secs(60);
/// Fewest bytes in each second of waiting beyond that: with less, the largest commit would hold its connection for more than a
/// day. What our disk takes to keep them is not waiting.
const PACE_MIN: u64 = 16 * 1024;
/// Pieces of a body that wait to be worked on; each is at most a read buffer long.
const PIECES_MAX: usize = 16;

/// How long what is read of a refused body may take to come: the next piece, and all of it.
const REFUSED_STALL: Duration = Duration::from_secs(1);
const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// Bytes of a refused body that are read.
const REFUSED_LEN_MAX: u64 = 256 * 1024 * 1024;

/// Does the checks that need no body. Where they refuse it, it is read all the same, within bounds: a client that is still
/// sending would not hear why.
pub(super) async fn after<T>(
    body: Body,
    checks: impl Future<Output = Result<T, Problem>>,
) -> Result<(T, Body), Problem> {
    match checks.await {
        Ok(checked) => Ok((checked, body)),
        Err(problem) => {
            let mut stream = body.into_data_stream();
            let mut seen = 0;
            let drain = async {
                while let Ok(Some(Ok(piece))) = timeout(REFUSED_STALL, stream.next()).await {
                    seen += piece.len() as u64;
                    if seen > REFUSED_LEN_MAX {
                        break;
                    }
                }
            };
            // Whether it ended or not, the answer is the same.
            let _ = timeout(REFUSED_WAIT, drain).await;
            Err(problem)
        }
    }
}

/// Reads a short body as JSON.
pub(super) async fn json<T: DeserializeOwned>(head: &Parts, body: Body, max: usize) -> Result<T, Problem> {
    of_json(&whole(head, body, max).await?)
}

/// Reads JSON.
pub(super) fn of_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|wrong| Problem::bad(format!("the body is wrong: {wrong}")))
}

/// Reads a short body.
pub(super) async fn whole(head: &Parts, body: Body, max: usize) -> Result<Vec<u8>, Problem> {
    let max_len = max as u64;
    let (_, body) = after(body, async { check_len(head, max_len) }).await?;
    let mut bytes = Vec::new();
    let mut coming = Coming::of(body);
    while let Some(piece) = coming.next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > max {
            return Err(too_long(max_len));
        }
    }
    Ok(bytes)
}

/// Lets `work`, which blocks, read a body of at most `max` bytes. What it leaves unread is read to the end, so that the client
/// hears the answer.
pub(super) async fn through<T: Send + 'static>(
    head: &Parts,
    body: Body,
    max: u64,
    work: impl FnOnce(&mut BodyReader) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (_, body) = after(body, async { check_len(head, max) }).await?;
    let (pieces, from) = mpsc::channel(PIECES_MAX);
    let mut reader = BodyReader {
        from,
        piece: Bytes::new(),
        ended: false,
    };
    let worker = tokio::task::spawn_blocking(move || work(&mut reader));
    let mut coming = Coming::of(body);
    let broken = loop {
        let piece = match coming.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => break None,
            Err(problem) => break Some(problem),
        };
        if coming.seen > max {
            break Some(too_long(max));
        }
        if !piece.is_empty() {
            // An error means that the work is done, or has failed.
            let _ = pieces.send(piece).await;
        }
    };
    if broken.is_none() {
        // An empty piece is the end; without one the body broke off.
        let _ = pieces.send(Bytes::new()).await;
    }
    drop(pieces);
    let worked = worker.await?;
    match broken {
        Some(problem) => Err(problem),
        None => worked,
    }
}

/// A body that comes no slower than its pace.
struct Coming {
    stream: BodyDataStream,
    seen: u64,
    waited: Duration,
}

impl Coming {
    fn of(body: Body) -> Coming {
        Coming {
            stream: body.into_data_stream(),
            seen: 0,
            waited: Duration::ZERO,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let allowed = PATIENCE + Duration::from_secs(self.seen / PACE_MIN);
        let wait = STALL.min(allowed.saturating_sub(self.waited));
        let begun = Instant::now();
        let next = timeout(wait, self.stream.next()).await;
        self.waited += begun.elapsed();
        match next {
            Ok(Some(Ok(piece))) => {
                self.seen += piece.len() as u64;
                Ok(Some(piece))
            }
            Ok(None) => Ok(None),
            Ok(Some(Err(_))) => Err(Problem::bad("the body broke off")),
            Err(_) => Err(Problem::refused(
                StatusCode::REQUEST_TIMEOUT,
                format!(
                    "the body comes too slowly: {} bytes in {} s",
                    self.seen,
                    self.waited.as_secs()
                ),
            )),
        }
    }
}

/// The length that the head states, if it does.
pub(super) fn stated_len(head: &Parts) -> Option<u64> {
    head.headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn check_len(head: &Parts, max: u64) -> Result<(), Problem> {
    match stated_len(head) {
        Some(len) if len > max => Err(too_long(max)),
        _ => Ok(()),
    }
}

fn too_long(max: u64) -> Problem {
    let message = format!("the body is longer than {max} bytes, which is the most that is taken here");
    Problem::refused(StatusCode::PAYLOAD_TOO_LARGE, message)
}

/// A body as it comes, for work that blocks.
pub(super) struct BodyReader {
    from: mpsc::Receiver<Bytes>,
    piece: Bytes,
    ended: bool,
}

impl BufRead for BodyReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.is_empty() && !self.ended {
            match self.from.blocking_recv() {
                Some(piece) if piece.is_empty() => self.ended = true,
                Some(piece) => self.piece = piece,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, len: usize) {
        self.piece = self.piece.slice(len.min(self.piece.len())..);
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let here = self.fill_buf()?;
        let len = here.len().min(buffer.len());
        buffer[..len].copy_from_slice(&here[..len]);
        self.consume(len);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::Request;

    use super::*;

    /// A body of so many pieces of so many bytes, with a pause before each; and what is made of it.
    async fn read(pieces: u64, len: usize, pause: Duration) -> Result<usize, Problem> {
        let pieces = futures::stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(Bytes::from(vec![0; len]))
        });
        let (head, body) = Request::new(Body::from_stream(pieces)).into_parts();
        whole(&head, body, 64 << 20).await.map(|bytes| bytes.len())
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_trickles_or_stalls_is_ended_and_one_that_keeps_its_pace_is_not() {
        let second = Duration::from_secs(1);
        let begun = Instant::now();
        read(1_000_000, 1, 29 * second).await.unwrap_err();
        assert!(begun.elapsed() <= PATIENCE + second);
        read(2, 1, STALL + second).await.unwrap_err();
        assert_eq!(read(2, 1, STALL - second).await.unwrap(), 2);
        let pace = usize::try_from(PACE_MIN).unwrap();
        assert_eq!(read(1_000, pace, second).await.unwrap(), 1_000 * pace);
        read(1_000, pace / 2, second).await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn refused_body_is_read_for_a_while_and_no_longer() {
        let pieces = futures::stream::iter(0..1_000_000).then(|_| async move {
            tokio::time::sleep(REFUSED_STALL / 2).await;
            Ok::<_, Infallible>(Bytes::from_static(b"x"))
        });
        let begun = Instant::now();
        let refused = async { Err::<(), _>(Problem::nothing_here()) };
        after(Body::from_stream(pieces), refused).await.unwrap_err();
        assert!(begun.elapsed() <= REFUSED_WAIT);
    }
}
