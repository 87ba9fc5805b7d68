//! Asking peers for attestations of a model. What they tell is verified like what comes from a file; a peer that tells what was not
//! asked for, or what no key signed, is heard no further.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::{PeerId, StreamProtocol};
use protocol::{CatalogAsk, CatalogTell, Hash, SignedAttestation, wire};
use tokio::time::timeout;
use tracing::debug;

use super::{AttestError, KeepError, Kept};
use crate::{frame, node::Node, store::blocking, swarm::Swarm};

/// Peers asked about one model.
const PEERS_ASKED: usize = 16;

/// How long they are waited for when somebody looks at a model: what comes later is there at the next look.
const LOOK_WAIT: Duration = Duration::from_millis(1500);

/// How long they are waited for when a model is validated, or came.
const WAIT: Duration = Duration::from_secs(10);

/// Pause between two rounds about one model, unless it is validated.
const PAUSE: Duration = Duration::from_secs(60);

impl Node {
    /// Asks peers what they know of who validated a model, in little time, and not often: somebody looks at it.
    pub async fn glance_at_attestations(&self, manifest: Hash) {
        if self
            .library()
            .attestations()
            .ask_now(manifest, PAUSE, Instant::now())
        {
            let _ = timeout(LOOK_WAIT, self.hear_attestations(manifest)).await;
        }
    }

    /// Asks peers in the background, when a model came.
    pub(crate) fn ask_for_attestations(&self, manifest: Hash) {
        let node = self.clone();
        self.task(async move {
            node.gather_attestations(manifest).await;
        });
    }

    /// Asks peers for attestations of a model, and returns how many came that were not here.
    pub async fn gather_attestations(&self, manifest: Hash) -> u64 {
        let now = Instant::now();
        // Whoever looks at it soon after need not ask again.
        self.library()
            .attestations()
            .ask_now(manifest, Duration::ZERO, now);
        timeout(WAIT, self.hear_attestations(manifest))
            .await
            .unwrap_or_default()
    }

    async fn hear_attestations(&self, manifest: Hash) -> u64 {
        let peers = self.swarm().peers().await;
        let mut asked: FuturesUnordered<_> = peers
            .iter()
            .take(PEERS_ASKED)
            .map(|peer| ask(self.swarm(), peer.peer, manifest))
            .collect();
        let mut new = 0;
        while let Some((peer, told)) = asked.next().await {
            match self.take_attestations(manifest, told).await {
                Ok(taken) => new += taken,
                Err(error) => debug!(%peer, %error, "attestations are not kept"),
            }
        }
        new
    }

    /// Keeps what a peer told, as far as it is what was asked for.
    async fn take_attestations(&self, manifest: Hash, told: Vec<Vec<u8>>) -> Result<u64, AttestError> {
        let library = self.library().clone();
        let taken = blocking(move || {
            let mut new = 0;
            for encoding in told {
                let signed = match SignedAttestation::decode(&encoding) {
                    Ok(signed) if signed.attestation().manifest == manifest => signed,
                    Ok(_) | Err(_) => break,
                };
                match library.attested(&signed) {
                    Ok(Kept::New) => new += 1,
                    Ok(Kept::Known) => {}
                    // Others may still find room.
                    Err(AttestError::Keep(KeepError::Crowded { .. } | KeepError::NotYetIssued { .. })) => {}
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(new))
        });
        taken.await.map_err(crate::library::LibraryError::from)?
    }
}

/// Asks one peer.
async fn ask(swarm: &Swarm, peer: PeerId, manifest: Hash) -> (PeerId, Vec<Vec<u8>>) {
    let told = async {
        let protocol = StreamProtocol::new(wire::CATALOG_PROTOCOL);
        let mut stream = swarm.open_stream(peer, protocol).await.ok()?;
        let ask = CatalogAsk::Attestations { manifest };
        frame::write(&mut stream, &ask).await.ok()?;
        match frame::read(&mut stream).await.ok()? {
            CatalogTell::Attestations(told) => Some(told),
            CatalogTell::Release(_)
            | CatalogTell::Version(_)
            | CatalogTell::Reconcile(_)
            | CatalogTell::Known(_)
            | CatalogTell::Have
            | CatalogTell::Keys(_) => None,
        }
    };
    (peer, told.await.unwrap_or_default())
}
