//! Messages on a stream: a length, then postcard, as `protocol::wire` has it. Small ones go one ask and one tell a stream.

use crate::limits::ANSWER_WAIT;
use futures::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use protocol::{WireError, limits::FRAME_LEN_MAX, wire};
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tokio::time::timeout;

/// Bytes of a body for which room is made at once: who announces a long one and sends nothing holds no more.
const ROOM_LEN: usize = 16 * 1024;

/// Why a small message did not come or go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream broke.
    #[error("the stream")]
    Stream(#[from] io::Error),
    /// It is not one of our messages.
    #[error("the message")]
    Wire(#[from] WireError),
    /// It took longer than [`ANSWER_WAIT`].
    #[error("no answer within {ANSWER_WAIT:?}")]
    Timeout,
}

/// Writes one message and closes our side.
pub(crate) async fn write<T: Serialize>(stream: &mut Stream, message: &T) -> Result<(), FrameError> {
    send(stream, message).await?;
    let closed = timeout(ANSWER_WAIT, stream.close()).await;
    Ok(closed.map_err(|_| FrameError::Timeout)??)
}

/// Writes one message; more may follow.
pub(crate) async fn send<T: Serialize>(stream: &mut Stream, message: &T) -> Result<(), FrameError> {
    let bytes = wire::encode_frame(message)?;
    let sent = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    Ok(timeout(ANSWER_WAIT, sent)
        .await
        .map_err(|_| FrameError::Timeout)??)
}

/// Reads the next message; `None` where the other side closed instead.
pub(crate) async fn next<T: DeserializeOwned>(stream: &mut Stream) -> Result<Option<T>, FrameError> {
    let body = async {
        let mut prefix = [0; wire::PREFIX_LEN];
        if stream.read(&mut prefix[..1]).await? == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut prefix[1..]).await?;
        let body = read_body::<FrameError>(stream, prefix, FRAME_LEN_MAX).await?;
        Ok::<_, FrameError>(Some(body))
    };
    let body = timeout(ANSWER_WAIT, body)
        .await
        .map_err(|_| FrameError::Timeout)??;
    Ok(body.map(|body| wire::decode_body(&body)).transpose()?)
}

/// Reads one message.
pub(crate) async fn read<T: DeserializeOwned>(stream: &mut Stream) -> Result<T, FrameError> {
    let body = async {
        let mut prefix = [0; wire::PREFIX_LEN];
        stream.read_exact(&mut prefix).await?;
        read_body::<FrameError>(stream, prefix, FRAME_LEN_MAX).await
    };
    let body = timeout(ANSWER_WAIT, body)
        .await
        .map_err(|_| FrameError::Timeout)??;
    Ok(wire::decode_body(&body)?)
}

/// Reads the body that a prefix announces, at most `max` bytes; room for it is made as it comes.
pub(crate) async fn read_body<E: From<io::Error> + From<WireError>>(
    reader: &mut (impl AsyncRead + Unpin),
    prefix: [u8; wire::PREFIX_LEN],
    max: usize,
) -> Result<Vec<u8>, E> {
    let len = wire::frame_len(prefix)?;
    if len > max {
        return Err(WireError::TooLong { len, max }.into());
    }
    let mut body = Vec::new();
    while body.len() < len {
        let read = body.len();
        body.resize(len.min(read + ROOM_LEN.max(read)), 0);
        reader.read_exact(&mut body[read..]).await?;
    }
    Ok(body)
}
