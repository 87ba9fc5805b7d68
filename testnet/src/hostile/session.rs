//! The sessions of a hostile provider: what it claims to have, or what it says instead. It listens to nothing it is told.

use super::{
    Behaviour, State,
    serve::{read, write},
};
use crate::fixture;
use anyhow::{Result, bail};
use futures::{
    AsyncReadExt, AsyncWrite, AsyncWriteExt,
    future::try_join,
    io::{copy, sink},
};
use libp2p::Stream;
use protocol::{ShardRun, SwarmTell};
use std::ops::Range;

/// Bytes of garbage behind a right length.
pub(super) const GARBAGE_LEN: usize = 64;

/// Answers a session that somebody opened, until they close it.
pub(super) async fn accept(state: &State, mut stream: Stream) -> Result<()> {
    let Some(SwarmTell::Join { manifest }) = read(&mut stream).await? else {
        bail!("a session that begins otherwise");
    };
    state.asked.send_modify(|asked| asked.have += 1);
    if manifest != state.holdings.manifest.hash() {
        write(&mut stream, &SwarmTell::Nothing).await?;
        return Ok(stream.close().await?);
    }
    speak(state, stream).await
}

/// Opens a session with somebody, and returns when they have closed it.
pub(super) async fn open(state: &State, mut stream: Stream) -> Result<()> {
    let manifest = state.holdings.manifest.hash();
    write(&mut stream, &SwarmTell::Join { manifest }).await?;
    speak(state, stream).await
}

/// Says what it says, and lets the other side talk until it closes.
async fn speak(state: &State, stream: Stream) -> Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut nowhere = sink();
    let listening = async { Ok(copy(&mut reader, &mut nowhere).await?) };
    let behaviour = state.mood().behaviour;
    try_join(listening, say(state, behaviour, &mut writer)).await?;
    Ok(writer.close().await?)
}

async fn say(state: &State, behaviour: Behaviour, writer: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    let count = state.holdings.map.count();
    match behaviour {
        Behaviour::GarbageFrames => raw(writer, &garbage()).await,
        Behaviour::OversizePrefix => raw(writer, &u32::MAX.to_le_bytes()).await,
        Behaviour::OutOfRange => {
            let first = count.next_multiple_of(8);
            let bits = vec![0xff];
            write(writer, &SwarmTell::Bits { first, bits }).await
        }
        Behaviour::FloodsGot => {
            write(writer, &bits(&(0..0))).await?;
            let first = SwarmTell::Got(vec![ShardRun { first: 0, count: 1 }]);
            loop {
                write(writer, &first).await?;
            }
        }
        _ if state.holds == (0..count) => write(writer, &SwarmTell::Everything).await,
        _ => write(writer, &bits(&state.holds)).await,
    }
}

/// A frame whose length is right and whose message is of a kind that there is not.
fn garbage() -> Vec<u8> {
    let mut frame = (GARBAGE_LEN as u32).to_le_bytes().to_vec();
    frame.push(0xff);
    frame.extend(fixture::bytes(0, "garbage", GARBAGE_LEN - 1));
    frame
}

async fn raw(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<()> {
    writer.write_all(bytes).await?;
    Ok(writer.flush().await?)
}

/// Says that it has these shards.
fn bits(shards: &Range<u32>) -> SwarmTell {
    let first = shards.start / 8 * 8;
    let mut bits = vec![0; usize::try_from((shards.end - first.min(shards.end)).div_ceil(8)).unwrap_or(0)];
    for shard in shards.clone() {
        bits[((shard - first) / 8) as usize] |= 1 << (shard % 8);
    }
    SwarmTell::Bits { first, bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_shards() {
        for shards in [0..0, 0..1, 0..8, 3..9, 8..8, 17..40] {
            let tell = bits(&shards);
            tell.check(40).unwrap();
            let told: Vec<u32> = tell.runs().flatten().collect();
            assert_eq!(told, shards.clone().collect::<Vec<_>>());
        }
    }

    #[test]
    fn garbage_is_no_message() {
        let error = protocol::wire::decode_frame::<SwarmTell>(&garbage()).unwrap_err();
        assert_eq!(error, protocol::WireError::Message);
    }
}
