//! Many streams over one connection: Yamux, as libp2p speaks it, with frames and windows of our choice.
//!
//! libp2p-yamux lets nobody choose: it cuts what is sent into 16 KiB, each an encryption and a system call of its own, and a
//! peer may fill 1 GiB per connection. What goes over the wire is the same protocol.

use std::{
    collections::VecDeque,
    future::{self, Ready},
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};
use tracing::debug;
use yamux::{Connection, ConnectionError, Mode};

/// What libp2p calls this protocol.
const NAME: &str = "/yamux/1.0.0";
/// Most bytes of one frame that we send: with its header of 12 bytes, exactly one Noise frame (64 KiB - 1,025 bytes). Four times
/// the 16 KiB of libp2p-yamux save a third of the CPU; four times as many again save nothing more. Up to twelve wait per stream.
const FRAME_LEN: usize = 64 * 1024 - 1_025 - 12;
/// Window of every stream at its beginning, in bytes: Yamux fixes it.
const WINDOW: usize = 256 * 1024;
/// What all windows of a connection may grow by, in bytes, beyond that. One doubles whenever half of it was read within two round
/// trips. 1 Gbit/s over 80 ms are 10 MB.
const GROWTH: usize = 16 * 1024 * 1024;
/// Inbound streams that wait until libp2p takes them; more are reset. Who uses the same library opens no more than that before
/// it hears of the first.
const WAITING_MAX: usize = 256;

/// How to speak Yamux.
#[derive(Clone, Debug)]
pub(super) struct Config(yamux::Config);

impl Config {
    /// Lets a connection have `streams` streams. A peer that opens more loses the connection; what it can make us hold is
    /// `streams` × 256 KiB + 16 MiB, and of that only what it may send into streams that nobody reads.
    pub(super) fn new(streams: u32) -> Self {
        let streams = streams as usize;
        let mut config = yamux::Config::default();
        config
            .set_max_num_streams(streams)
            .set_max_connection_receive_window(Some(streams * WINDOW + GROWTH))
            .set_split_send_size(FRAME_LEN);
        Self(config)
    }
}

impl UpgradeInfo for Config {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(NAME)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Config {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        future::ready(Ok(Muxer::new(socket, self, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Config {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        future::ready(Ok(Muxer::new(socket, self, Mode::Client)))
    }
}

/// One connection's streams.
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// Yamux moves only while it is asked for inbound streams, libp2p wants it to move without taking one: those that turn up
    /// meanwhile wait here.
    waiting: VecDeque<yamux::Stream>,
    /// Whom to tell when a stream waits.
    taker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(socket: C, Config(config): Config, mode: Mode) -> Self {
        Self {
            connection: Connection::new(socket, config, mode),
            waiting: VecDeque::new(),
            taker: None,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, ConnectionError>> {
        self.connection
            .poll_next_inbound(cx)
            .map(|next| next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<yamux::Stream, ConnectionError>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.poll_next(cx);
        if next.is_pending() {
            self.taker = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<yamux::Stream, ConnectionError>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        let stream = ready!(self.poll_next(cx))?;
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(stream);
            if let Some(taker) = self.taker.take() {
                taker.wake();
            }
        } else {
            debug!(%stream, "inbound stream reset: too many wait");
        }
        // There may be more: come back, after others had their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
