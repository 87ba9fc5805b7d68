//! The streams of a hostile provider: reads what is asked, and answers in its way and time.

use super::{Behaviour, State, session};
use anyhow::{Context, Result};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{Stream, StreamProtocol};
use node::swarm::InboundStream;
use protocol::{
    CatalogAsk, CatalogTell, RepoId,
    wire::{self, BLOBS_PROTOCOL, CATALOG_PROTOCOL, PREFIX_LEN},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{future::pending, ops::Range, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc::Receiver,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// Longest request for bytes, in bytes.
const REQUEST_LEN_MAX: u64 = 1024 * 1024;

/// Streams answered at once; more wait. Those that never end count too.
const STREAMS_MAX: usize = 256;

/// Answers all streams of one protocol until the swarm stops.
pub(super) async fn answer(
    state: Arc<State>,
    protocol: StreamProtocol,
    mut streams: Receiver<InboundStream>,
) {
    // Dropped with us, and all streams with it.
    let mut answering = JoinSet::new();
    while let Some(InboundStream { stream, .. }) = streams.recv().await {
        while answering.try_join_next().is_some() {}
        if answering.len() >= STREAMS_MAX {
            answering.join_next().await;
        }
        let (state, protocol) = (Arc::clone(&state), protocol.clone());
        answering.spawn(async move {
            // Whoever asks badly, or goes away, is not our concern.
            let _ = match protocol.as_ref() {
                BLOBS_PROTOCOL => blobs(&state, stream).await,
                CATALOG_PROTOCOL => catalog(&state, stream).await,
                _ => session::accept(&state, stream).await,
            };
        });
    }
}

async fn catalog(state: &State, mut stream: Stream) -> Result<()> {
    while let Some(ask) = read(&mut stream).await? {
        let tell = match ask {
            CatalogAsk::Version => CatalogTell::Version(1),
            CatalogAsk::Attestations { .. } => CatalogTell::Attestations(state.attestations.clone()),
            // Asks of version 2, which it does not speak: the stream is closed.
            CatalogAsk::Reconcile { .. }
            | CatalogAsk::Get(_)
            | CatalogAsk::Have(_)
            | CatalogAsk::Keys { .. }
            | CatalogAsk::Heard(_) => break,
            CatalogAsk::Release { publisher, name } => {
                state.asked.send_modify(|asked| asked.releases += 1);
                let release = state.mood().releases.get(&RepoId { publisher, name }).cloned();
                CatalogTell::Release(release.map(|release| release.encode()))
            }
        };
        write(&mut stream, &tell).await?;
    }
    Ok(stream.close().await?)
}

async fn blobs(state: &State, mut stream: Stream) -> Result<()> {
    let mut request = Vec::new();
    (&mut stream)
        .take(REQUEST_LEN_MAX)
        .read_to_end(&mut request)
        .await?;
    let answer = match state.holdings.answer(&request) {
        Err(_) if state.holdings.claimed => {
            state.asked.send_modify(|asked| asked.blobs += 1);
            return pending().await;
        }
        answer => answer?,
    };
    let behaviour = match answer.manifest && !state.manifest_too {
        true => Behaviour::Honest,
        false => state.mood().behaviour,
    };
    state.asked.send_modify(|asked| asked.blobs += 1);
    if !holds(state, behaviour, answer.shards.as_ref()) {
        // The stream ends with its last handle.
        return Ok(());
    }
    let bytes = answer.spoil(behaviour);
    match behaviour {
        Behaviour::Honest
        | Behaviour::WrongBytes
        | Behaviour::WrongSize
        | Behaviour::TooMany
        | Behaviour::Garbage
        | Behaviour::LiesInBits
        | Behaviour::GarbageFrames
        | Behaviour::OversizePrefix
        | Behaviour::OutOfRange
        | Behaviour::FloodsGot => {
            stream.write_all(&bytes).await?;
        }
        Behaviour::Resets => return Ok(()),
        Behaviour::Nothing | Behaviour::StallsHalf => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            // Holds the stream until the provider stops.
            return pending().await;
        }
        Behaviour::OneBytePerSecond => {
            let mut second = interval(Duration::from_secs(1));
            second.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for byte in bytes {
                second.tick().await;
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
            }
        }
    }
    Ok(stream.close().await?)
}

/// Tells whether it has all the shards that were asked for, whatever it claims.
fn holds(state: &State, behaviour: Behaviour, shards: Option<&Range<u32>>) -> bool {
    let half = state.holdings.map.count().div_ceil(2);
    shards.is_none_or(|shards| {
        let truly = behaviour != Behaviour::LiesInBits || shards.end <= half;
        truly && shards.start >= state.holds.start && shards.end <= state.holds.end
    })
}

/// Reads the next frame; `None` at the end of the stream.
pub(super) async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<T>> {
    let mut prefix = [0; PREFIX_LEN];
    if stream.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut prefix[1..]).await?;
    let mut body = vec![0; wire::frame_len(prefix)?];
    stream.read_exact(&mut body).await?;
    Ok(Some(wire::decode_body(&body).context("a frame")?))
}

pub(super) async fn write<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<()> {
    stream.write_all(&wire::encode_frame(message)?).await?;
    Ok(stream.flush().await?)
}
