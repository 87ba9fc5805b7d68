//! Reading a socket in gulps. Packets of a busy line come one by one, and each would wake the whole connection: at 50 Mbit/s
//! that costs more than decrypting and verifying what is in them. So a socket that was just emptied, and fills at a rate that
//! the kernel can keep for a moment, is left alone for a moment.

use futures::{AsyncRead, AsyncWrite, ready};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Duration, Instant, Sleep, sleep_until};

/// A read of this many bytes or more did not empty the socket, or is a gulp already.
const ENOUGH: usize = 16 * 1024;
/// Bytes that should come together before they are read.
const GULP: f64 = 32.0 * 1024.0;
/// Longest time that a socket is left alone: well below a round trip that somebody would notice.
const PAUSE_MAX: Duration = Duration::from_millis(8);
/// Shortest time worth a timer, whose ticks are a millisecond.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Rates, in bytes a second, at which it is worth it: below, packets are few; above, they come in gulps by themselves, and the
/// kernel's buffer, small at first, must not stand in their way.
const RATES: std::ops::Range<f64> = 100e3..20e6;
/// Over how long the rate is measured.
const MEASURE: Duration = Duration::from_millis(100);

/// A socket that is read in gulps, and written as it is.
pub(super) struct Gulps<T> {
    inner: T,
    pause: Option<Pin<Box<Sleep>>>,
    since: Instant,
    bytes: usize,
    rate: f64,
}

impl<T> Gulps<T> {
    pub(super) fn new(inner: T) -> Gulps<T> {
        Gulps {
            inner,
            pause: None,
            since: Instant::now(),
            bytes: 0,
            rate: 0.0,
        }
    }

    /// Takes in that a read gave `len` bytes; returns how long the socket is left alone.
    fn read(&mut self, len: usize, now: Instant) -> Option<Duration> {
        self.bytes += len;
        let span = now - self.since;
        if span >= MEASURE {
            self.rate = self.bytes as f64 / span.as_secs_f64();
            (self.bytes, self.since) = (0, now);
        }
        let pause = Duration::from_secs_f64(GULP / self.rate.max(1.0)).min(PAUSE_MAX);
        let worth = len > 0 && len < ENOUGH && RATES.contains(&self.rate);
        (worth && pause >= PAUSE_MIN).then_some(pause)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gulps<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let len = ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let now = Instant::now();
        self.pause = self
            .read(len, now)
            .map(|pause| Box::pin(sleep_until(now + pause)));
        Poll::Ready(Ok(len))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gulps<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::AsyncReadExt;

    /// How long a socket is left alone that gives `len` bytes every so often.
    fn pause(len: usize, every: Duration) -> Option<Duration> {
        let mut gulps = Gulps::new(());
        let mut now = gulps.since;
        for _ in 0..1_000 {
            now += every;
            gulps.read(len, now);
        }
        gulps.read(len, now)
    }

    #[tokio::test]
    async fn only_a_line_of_middling_speed_is_read_in_gulps() {
        let (ms, us) = (Duration::from_millis, Duration::from_micros);
        assert_eq!(pause(1_400, ms(2)), Some(PAUSE_MAX));
        assert!(pause(1_400, us(140)).is_some_and(|pause| pause < ms(4)));
        assert_eq!(pause(100, ms(100)), None, "a quiet line");
        assert_eq!(pause(1_400, us(20)), None, "a fast line");
        assert_eq!(pause(60_000, ms(4)), None, "gulps already");
    }

    #[tokio::test]
    async fn every_byte_comes_in_order() {
        let (near, mut far) = tokio::io::duplex(5_000);
        let sent: Vec<u8> = (0..2_000_000u32).map(|at| (at % 251) as u8).collect();
        let wanted = sent.clone();
        let sending = tokio::spawn(async move {
            for packet in sent.chunks(1_400) {
                tokio::io::AsyncWriteExt::write_all(&mut far, packet)
                    .await
                    .unwrap();
            }
        });
        let compat = tokio_pipe(near);
        let mut gulps = Gulps::new(compat);
        let mut read = Vec::new();
        gulps.read_to_end(&mut read).await.unwrap();
        sending.await.unwrap();
        assert!(read == wanted);
    }

    /// A tokio pipe with the traits that libp2p uses.
    fn tokio_pipe(pipe: tokio::io::DuplexStream) -> impl AsyncRead + Unpin {
        struct Pipe(tokio::io::DuplexStream);
        impl AsyncRead for Pipe {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                let mut buf = tokio::io::ReadBuf::new(buf);
                ready!(tokio::io::AsyncRead::poll_read(
                    Pin::new(&mut self.0),
                    cx,
                    &mut buf
                ))?;
                Poll::Ready(Ok(buf.filled().len()))
            }
        }
        Pipe(pipe)
    }
}
