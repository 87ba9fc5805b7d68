//! How bytes reach another node: TCP with Noise and Yamux, QUIC, names by DNS, circuits through relays.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture, io::BufReader};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        Endpoint,
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent, timeout::TransportTimeout},
        upgrade::Version,
    },
    dns, identity, noise, quic, relay, tcp,
};
use tracing::warn;

use super::{address::Carrier, gulps::Gulps, mux};

/// How long one attempt to connect may take, handshakes included. Shorter than what callers wait for a stream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Head start of the preferred carrier when both are dialled at once (RFC 8305 calls 250 ms the connection attempt delay).
const HEAD_START: Duration = Duration::from_millis(250);
/// Streams one peer may have open on one connection.
const STREAMS_MAX: u32 = 256;
/// Bytes read from a TCP socket at a time: one Noise frame. Noise alone reads 8 KiB at a time; a tenth of the CPU that receiving
/// costs is saved.
const TCP_READ: usize = 64 * 1024;
/// Bytes on their way per QUIC stream: 400 Mbit/s over 50 ms are 2.5 MB, 1 Gbit/s over 80 ms are 10 MB.
const QUIC_STREAM_WINDOW: u32 = 10 * 1024 * 1024;
/// Bytes on their way per QUIC connection: one full stream does not stop the others.
const QUIC_CONNECTION_WINDOW: u32 = 24 * 1024 * 1024;
/// When a silent QUIC connection is given up: about when a ping that is not answered would end it.
const QUIC_IDLE: Duration = Duration::from_secs(30);
/// When a quiet QUIC connection says that it lives. Pings go out more often: this is for a peer that sends none, and before a router forgets who talks.
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(20);

type Muxed = (PeerId, StreamMuxerBox);

/// The whole transport, with the behaviour that belongs to its relay part.
pub(super) fn build(
    key: &identity::Keypair,
    preferred: Carrier,
) -> io::Result<(Boxed<Muxed>, relay::client::Behaviour)> {
    let named = match dns::tokio::Transport::system(direct(key, preferred)?) {
        Ok(named) => named.boxed(),
        Err(error) => {
            warn!(%error, "no DNS: addresses with names cannot be dialled");
            direct(key, preferred)?
        }
    };
    let (circuits, behaviour) = relay::client::new(key.public().to_peer_id());
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).map_err(io::Error::other)?)
        .multiplex(mux::Config::new(STREAMS_MAX))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let all = circuits.or_transport(named).map(|either, _| either.into_inner());
    Ok((TransportTimeout::new(all, CONNECT_TIMEOUT).boxed(), behaviour))
}

fn direct(key: &identity::Keypair, preferred: Carrier) -> io::Result<Boxed<Muxed>> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .map(|socket, _| BufReader::with_capacity(TCP_READ, Gulps::new(socket)))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).map_err(io::Error::other)?)
        .multiplex(mux::Config::new(STREAMS_MAX))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = quic::tokio::Transport::new(quic_config(key))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let tcp = Late {
        inner: tcp,
        late: preferred == Carrier::Quic,
    };
    let quic = Late {
        inner: quic,
        late: preferred == Carrier::Tcp,
    };
    Ok(tcp
        .or_transport(quic)
        .map(|either, _| either.into_inner())
        .boxed())
}

fn quic_config(key: &identity::Keypair) -> quic::Config {
    let mut config = quic::Config::new(key);
    config.max_concurrent_stream_limit = STREAMS_MAX;
    config.max_stream_data = QUIC_STREAM_WINDOW;
    config.max_connection_data = QUIC_CONNECTION_WINDOW;
    config.max_idle_timeout = QUIC_IDLE.as_millis() as u32;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config
}

/// A transport whose dials start a little late, so that a faster carrier wins where both would work.
///
/// Hole punching is exempt: there both sides must dial at the same moment.
struct Late<T> {
    inner: T,
    late: bool,
}

impl<T> Transport for Late<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
    T::Output: 'static,
    T::Error: 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<T::Error>> {
        let dial = self.inner.dial(address, opts)?;
        if !self.late || opts.role == Endpoint::Listener {
            return Ok(dial.boxed());
        }
        Ok(tokio::time::sleep(HEAD_START).then(move |()| dial).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
