//! Two muxers over a TCP connection on loopback.

use std::time::Duration;

use futures::{
    AsyncReadExt, AsyncWriteExt,
    future::{join_all, poll_fn},
};
use libp2p::{
    core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox},
    tcp::tokio::TcpStream,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::*;

/// Longest wait for anything: generous, for a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const MIB: usize = 1024 * 1024;

/// One end of a connection that moves by itself.
struct End {
    wishes: mpsc::UnboundedSender<oneshot::Sender<SubstreamBox>>,
    inbound: mpsc::UnboundedReceiver<SubstreamBox>,
}

impl End {
    fn new<M>(muxer: M) -> Self
    where
        M: StreamMuxer<Substream: Send + 'static, Error: Send + Sync + 'static> + Send + 'static,
    {
        let mut muxer = StreamMuxerBox::new(muxer);
        let (wishes, mut wished) = mpsc::unbounded_channel::<oneshot::Sender<SubstreamBox>>();
        let (deliver, inbound) = mpsc::unbounded_channel();
        let mut wish = None;
        tokio::spawn(poll_fn(move |cx| {
            loop {
                if let Poll::Ready(Err(_)) = muxer.poll_unpin(cx) {
                    return Poll::Ready(());
                }
                match muxer.poll_inbound_unpin(cx) {
                    Poll::Ready(Ok(stream)) => {
                        let _ = deliver.send(stream);
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
                if wish.is_none() {
                    let Poll::Ready(next) = wished.poll_recv(cx) else {
                        return Poll::Pending;
                    };
                    match next {
                        Some(next) => wish = Some(next),
                        // Nobody holds this end any more.
                        None => return Poll::Ready(()),
                    }
                }
                match ready!(muxer.poll_outbound_unpin(cx)) {
                    Ok(stream) => drop(wish.take().map(|wish| wish.send(stream))),
                    Err(_) => return Poll::Ready(()),
                }
            }
        }));
        Self { wishes, inbound }
    }

    async fn open(&self) -> SubstreamBox {
        let (wish, granted) = oneshot::channel();
        self.wishes.send(wish).unwrap();
        within("a stream", granted).await.unwrap()
    }

    async fn accept(&mut self) -> SubstreamBox {
        within("an inbound stream", self.inbound.recv()).await.unwrap()
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialling = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dialling, listener.accept());
    (TcpStream(dialled.unwrap()), TcpStream(accepted.unwrap().0))
}

async fn ours(config: Config) -> (End, End) {
    let (dialled, accepted) = sockets().await;
    let client = config.clone().upgrade_outbound(dialled, NAME).await.unwrap();
    let server = config.upgrade_inbound(accepted, NAME).await.unwrap();
    (End::new(client), End::new(server))
}

/// Sends back what comes.
fn echo(stream: SubstreamBox) {
    tokio::spawn(async move {
        let (reader, mut writer) = stream.split();
        let _ = futures::io::copy(futures::io::BufReader::with_capacity(MIB, reader), &mut writer).await;
        let _ = writer.close().await;
    });
}

/// Sends `len` bytes and expects them back.
async fn exchange(stream: SubstreamBox, len: usize) {
    let piece: Vec<u8> = (0..=250).cycle().take(MIB).collect();
    let (mut reader, mut writer) = stream.split();
    let writing = async {
        let mut left = len;
        while left > 0 {
            let next = left.min(MIB);
            writer.write_all(&piece[..next]).await.unwrap();
            left -= next;
        }
        writer.close().await.unwrap();
    };
    let reading = async {
        let (mut left, mut got) = (len, vec![0; MIB]);
        while left > 0 {
            let next = left.min(MIB);
            reader.read_exact(&mut got[..next]).await.unwrap();
            assert!(got[..next] == piece[..next], "{left} bytes before the end");
            left -= next;
        }
        assert_eq!(reader.read(&mut got).await.unwrap(), 0);
    };
    within("an exchange", async { futures::join!(writing, reading) }).await;
}

#[tokio::test]
async fn a_stream_carries_64_mib_both_ways() {
    let (client, mut server) = ours(Config::new(8)).await;
    let stream = client.open().await;
    let (exchanged, ()) = tokio::join!(tokio::spawn(exchange(stream, 64 * MIB)), async {
        echo(server.accept().await);
    });
    exchanged.unwrap();
}

#[tokio::test]
async fn a_plain_libp2p_peer_is_understood_in_both_roles() {
    use libp2p::yamux as plain;
    let (dialled, accepted) = sockets().await;
    let client = plain::Config::default().upgrade_outbound(dialled, NAME);
    let server = Config::new(8).upgrade_inbound(accepted, NAME);
    let dialled_by_it = (End::new(client.await.unwrap()), End::new(server.await.unwrap()));
    let (dialled, accepted) = sockets().await;
    let client = Config::new(8).upgrade_outbound(dialled, NAME);
    let server = plain::Config::default().upgrade_inbound(accepted, NAME);
    let dialled_by_us = (End::new(client.await.unwrap()), End::new(server.await.unwrap()));
    for (mut client, mut server) in [dialled_by_it, dialled_by_us] {
        for (from, to) in [(0, 1), (1, 0)] {
            let ends = [&mut client, &mut server];
            let exchanged = tokio::spawn(exchange(ends[from].open().await, 5 * MIB));
            echo(ends[to].inbound.recv().await.unwrap());
            exchanged.await.unwrap();
        }
    }
}

#[tokio::test]
async fn who_has_said_all_may_still_listen() {
    let (client, mut server) = ours(Config::new(8)).await;
    let mut stream = client.open().await;
    stream.write_all(b"question").await.unwrap();
    stream.close().await.unwrap();
    let mut answering = server.accept().await;
    let mut heard = Vec::new();
    within("the question", answering.read_to_end(&mut heard))
        .await
        .unwrap();
    assert_eq!(heard, b"question");
    answering.write_all(b"answer").await.unwrap();
    answering.close().await.unwrap();
    heard.clear();
    within("the answer", stream.read_to_end(&mut heard))
        .await
        .unwrap();
    assert_eq!(heard, b"answer");
}

#[tokio::test]
async fn a_dropped_stream_ends_for_the_other_side_and_no_other_stream_does() {
    let (client, mut server) = ours(Config::new(8)).await;
    let mut dropped = client.open().await;
    dropped.write_all(b"begun").await.unwrap();
    let mut left = server.accept().await;
    drop(dropped);
    let ended = within("the end", async {
        // What was sent before the end is heard, then nothing; and nothing can be said.
        let mut heard = Vec::new();
        left.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"begun");
        loop {
            if let Err(error) = left.write_all(&[0; 1024]).await {
                break error;
            }
        }
    });
    assert_eq!(ended.await.kind(), io::ErrorKind::WriteZero);
    let exchanged = tokio::spawn(exchange(client.open().await, MIB));
    echo(server.accept().await);
    exchanged.await.unwrap();
}

#[tokio::test]
async fn two_hundred_streams_share_a_connection() {
    let (client, mut server) = ours(Config::new(256)).await;
    let serving = tokio::spawn(async move {
        for _ in 0..200 {
            echo(server.accept().await);
        }
        server
    });
    let exchanges = (0..200).map(|n| {
        let client = &client;
        async move { exchange(client.open().await, 1_000 * n + 1).await }
    });
    join_all(exchanges).await;
    drop(within("serving", serving).await.unwrap());
}

#[tokio::test]
async fn a_stream_that_nobody_reads_stops_no_other() {
    let (client, mut server) = ours(Config::new(8)).await;
    let mut stuck = client.open().await;
    // Its window, no more: it can be written without a reader.
    stuck.write_all(&vec![1; WINDOW]).await.unwrap();
    let mut unread = server.accept().await;
    let more = tokio::spawn(async move {
        stuck.write_all(&[2; MIB]).await.unwrap();
        stuck.close().await.unwrap();
    });
    let exchanged = tokio::spawn(exchange(client.open().await, 8 * MIB));
    echo(server.accept().await);
    exchanged.await.unwrap();
    assert!(
        !more.is_finished(),
        "more than a window went into a stream that nobody reads"
    );
    let mut late = Vec::new();
    within("the late reader", unread.read_to_end(&mut late))
        .await
        .unwrap();
    assert_eq!(late.len(), WINDOW + MIB);
    more.await.unwrap();
}

#[tokio::test]
async fn who_opens_more_streams_than_allowed_loses_the_connection() {
    let (dialled, accepted) = sockets().await;
    let client = End::new(Config::new(8).upgrade_outbound(dialled, NAME).await.unwrap());
    let server = End::new(Config::new(4).upgrade_inbound(accepted, NAME).await.unwrap());
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut stream = client.open().await;
        let _ = stream.write_all(b"here").await;
        held.push(stream);
    }
    let mut heard = Vec::new();
    // The first of them is within what is allowed, and ends all the same.
    let _ = within("the end", held[0].read_to_end(&mut heard)).await;
    assert!(heard.is_empty());
    drop(server);
}
