//! One small message on a stream: a length, then postcard, as `protocol::wire` has it. One ask and one tell a stream.

use crate::limits::ANSWER_WAIT;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use protocol::{WireError, wire};
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tokio::time::timeout;

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
    let bytes = wire::encode_frame(message)?;
    let sent = async {
        stream.write_all(&bytes).await?;
        stream.close().await
    };
    Ok(timeout(ANSWER_WAIT, sent)
        .await
        .map_err(|_| FrameError::Timeout)??)
}

/// Reads one message; its length is checked before anything is allocated.
pub(crate) async fn read<T: DeserializeOwned>(stream: &mut Stream) -> Result<T, FrameError> {
    let body = async {
        let mut prefix = [0; wire::PREFIX_LEN];
        stream.read_exact(&mut prefix).await?;
        let mut body = vec![0; wire::frame_len(prefix)?];
        stream.read_exact(&mut body).await?;
        Ok::<_, FrameError>(body)
    };
    let body = timeout(ANSWER_WAIT, body)
        .await
        .map_err(|_| FrameError::Timeout)??;
    Ok(wire::decode_body(&body)?)
}
