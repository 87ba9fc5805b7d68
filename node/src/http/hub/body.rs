//! Bodies of requests, within bounds of length and patience: short ones whole, long ones as a stream for work that blocks.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::StatusCode;
use axum::http::{header, request::Parts};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::problem::Problem;

/// How long a client may send nothing in the middle of a body.
const STALL: Duration = Duration::from_secs(30);
/// Pieces of a body that wait to be worked on; each is at most a read buffer long.
const PIECES_MAX: usize = 16;

/// How long what is read of a refused body may take to come.
const REFUSED_STALL: Duration = Duration::from_secs(1);
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
            while let Ok(Some(Ok(piece))) = timeout(REFUSED_STALL, stream.next()).await {
                seen += piece.len() as u64;
                if seen > REFUSED_LEN_MAX {
                    break;
                }
            }
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
    let mut stream = body.into_data_stream();
    while let Some(piece) = next(&mut stream).await? {
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
    let mut stream = body.into_data_stream();
    let mut seen = 0;
    let broken = loop {
        let piece = match next(&mut stream).await {
            Ok(Some(piece)) => piece,
            Ok(None) => break None,
            Err(problem) => break Some(problem),
        };
        seen += piece.len() as u64;
        if seen > max {
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

async fn next(stream: &mut BodyDataStream) -> Result<Option<Bytes>, Problem> {
    match timeout(STALL, stream.next()).await {
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(None) => Ok(None),
        Ok(Some(Err(_))) => Err(Problem::bad("the body broke off")),
        Err(_) => Err(Problem::refused(
            StatusCode::REQUEST_TIMEOUT,
            format!("no more of the body came within {} s", STALL.as_secs()),
        )),
    }
}

/// The length that the head states, if it does.
fn stated_len(head: &Parts) -> Option<u64> {
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
