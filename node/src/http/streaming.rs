//! Bodies that are made while they are read: the work that makes one goes no further than it is read, and ends when nobody reads
//! any more.

use std::convert::Infallible;
use std::pin::Pin;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;

/// Where work puts the pieces of a body.
#[derive(Clone)]
pub(super) struct Pieces(mpsc::UnboundedSender<Bytes>);

impl Pieces {
    /// Puts a piece.
    pub(super) fn put(&self, piece: impl Into<Bytes>) {
        // The body holds both ends: there is somebody.
        let _ = self.0.send(piece.into());
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes a body of what `work` puts. The work is only moved on while no piece waits to be read, so that few ever do.
pub(super) fn body<W>(work: impl FnOnce(Pieces) -> W) -> Body
where
    W: Future<Output = ()> + Send + 'static,
{
    let (pieces, read) = mpsc::unbounded_channel();
    let work: Work = Box::pin(work(Pieces(pieces)));
    let next = async |(mut work, mut read): (Option<Work>, mpsc::UnboundedReceiver<Bytes>)| loop {
        let Some(under_way) = &mut work else {
            let piece = read.recv().await?;
            return Some((Ok::<_, Infallible>(piece), (work, read)));
        };
        tokio::select! {
            biased;
            piece = read.recv() => return Some((Ok(piece?), (work, read))),
            () = under_way => work = None,
        }
    };
    Body::from_stream(stream::unfold((Some(work), read), next))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn body_has_all_pieces_in_order() {
        let body = body(async |pieces| {
            for piece in ["a", "b", "c"] {
                pieces.put(piece);
                tokio::task::yield_now().await;
            }
            pieces.put("d");
        });
        let bytes = axum::body::to_bytes(body, 100).await.unwrap();
        assert_eq!(bytes, "abcd");
    }

    #[tokio::test]
    async fn work_ends_with_its_body_and_waits_for_its_reader() {
        let made = Arc::new(());
        let held = made.clone();
        let body = body(async move |pieces| {
            let _held = held;
            loop {
                pieces.put("x");
                tokio::task::yield_now().await;
            }
        });
        let mut stream = body.into_data_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "x");
        assert_eq!(Arc::strong_count(&made), 2);
        drop(stream);
        assert_eq!(Arc::strong_count(&made), 1);
    }
}
