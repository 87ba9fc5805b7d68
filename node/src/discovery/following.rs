//! Staying up with whom the user follows where no peer tells of it: who tells of a publisher's releases says so in the DHT, and those who
//! follow it look there.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use protocol::{Publisher, key::key_of_keys, release::teller_key};
use rand::Rng;
use tokio::time::sleep;
use tracing::debug;

use super::{
    Discovery,
    searching::{FindError, HITS_MAX, SearchAsk, SearchSort},
};
use crate::{
    library::{LibraryError, now},
    names::NamesError,
    node::{Node, WeakNode},
    store::blocking,
};

/// From one look into the DHT for a publisher to the next, about.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);
/// From one glance at who is due to the next.
const GLANCE: Duration = Duration::from_secs(10);
/// Looks are put off by so much at a start, at most: not everybody's at once, and by then there is somebody to ask.
const FIRST_WITHIN: Duration = Duration::from_secs(60);
/// Nodes that are asked about one publisher.
const TELLERS_ASKED: usize = 4;
/// Nodes that are looked for: some are gone.
const TELLERS_MAX: usize = 16;

impl Discovery {
    /// Makes what is known of a publisher what the user acts on, as for releases that come from now on. Blocking.
    pub(crate) fn adopt_known(&self, publisher: Publisher) -> Result<(), FindError> {
        // What came just now is to be among what a search finds.
        self.catch_up();
        let mut ask = SearchAsk {
            publisher: Some(publisher),
            sort: SearchSort::Name,
            ascending: true,
            limit: HITS_MAX,
            ..SearchAsk::default()
        };
        loop {
            let page = self.search(&ask)?;
            for hit in page.hits {
                let Some(row) = self.known(&hit.repo)? else {
                    continue;
                };
                let Ok(release) = row.signed() else { continue };
                if let Some(card) = row.card.as_ref().and_then(|card| card.encode().ok()) {
                    let kept = self.library().names().keep_card(&hit.repo, &card);
                    kept.map_err(LibraryError::from)?;
                }
                match self.library().accept(&release, now()) {
                    Err(LibraryError::Names(
                        error @ (NamesError::Io { .. } | NamesError::StorageFull { .. }),
                    )) => return Err(LibraryError::Names(error).into()),
                    Err(LibraryError::Names(error)) => {
                        debug!(repo = %hit.repo, %error, "a release is not followed")
                    }
                    accepted => accepted?,
                }
            }
            match page.next {
                Some(next) => ask.after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

impl Node {
    /// Asks those who tell of a publisher's releases; returns how many are new here.
    pub(crate) async fn look_for(&self, publisher: Publisher) -> usize {
        self.look_for_keys(publisher).await;
        let publisher = self.library().standing_of(publisher).current();
        let Ok(mut tellers) = self.swarm().providers(teller_key(publisher), TELLERS_MAX).await else {
            return 0;
        };
        let (mut asked, mut new) = (0, 0);
        while asked < TELLERS_ASKED
            && let Some(peer) = tellers.recv().await
        {
            match self.sync_about(peer, publisher).await {
                Ok(came) => (asked, new) = (asked + 1, new + came),
                Err(error) => {
                    debug!(%peer, error = &error as &dyn std::error::Error, "a teller told nothing");
                }
            }
        }
        debug!(%publisher, asked, new, "looked for a publisher's releases");
        new
    }

    /// Asks those who say that they know something about a publisher's key: the one as which we know it.
    async fn look_for_keys(&self, publisher: Publisher) {
        let home = self.library().statements().home(publisher).unwrap_or(publisher);
        for key in [home, publisher] {
            let Ok(mut tellers) = self.swarm().providers(key_of_keys(key), TELLERS_MAX).await else {
                return;
            };
            let mut asked = 0;
            while asked < TELLERS_ASKED
                && let Some(peer) = tellers.recv().await
            {
                match self.learn_from(peer, key).await {
                    Ok(()) => asked += 1,
                    Err(error) => {
                        debug!(%peer, error = &error as &dyn std::error::Error, "a teller told nothing of a key");
                    }
                }
            }
            if home == publisher {
                break;
            }
        }
    }

    /// Says in the DHT of whose releases we tell: of ours, and of those whom we mirror, who may be gone.
    async fn tell_of(&self, told: &mut HashSet<Publisher>) {
        let library = self.library();
        let mirrored = library.mirrors().into_iter().map(|(publisher, _)| publisher);
        let own = [library.publisher()];
        let has_repos = |publisher: &Publisher| {
            library
                .names()
                .repos_of(*publisher)
                .is_ok_and(|repos| !repos.is_empty())
        };
        let wanted: HashSet<Publisher> = mirrored.chain(own).filter(has_repos).collect();
        for publisher in told.extract_if(|publisher| !wanted.contains(publisher)) {
            self.swarm().stop_providing(teller_key(publisher)).await;
        }
        for publisher in wanted {
            if !told.contains(&publisher)
                && self
                    .swarm()
                    .start_providing(teller_key(publisher))
                    .await
                    .unwrap_or(false)
            {
                told.insert(publisher);
            }
        }
    }

    /// Says in the DHT which keys of ours and of those whom the user follows we know something about, as far as that was not said yet.
    async fn tell_keys(&self, told: &mut HashSet<Publisher>) {
        for key in self.library().near() {
            if !told.contains(&key)
                && !self.library().statements().about(key).is_empty()
                && self
                    .swarm()
                    .start_providing(key_of_keys(key))
                    .await
                    .unwrap_or(false)
            {
                told.insert(key);
            }
        }
    }

    /// Makes what is known of all whom the user follows what the user acts on: it may have been denied when it came.
    async fn adopt_allowed(&self) {
        let discovery = self.discovery().clone();
        let adopted = blocking(move || {
            for publisher in discovery.library().near() {
                if let Err(error) = discovery.adopt_known(publisher) {
                    debug!(%publisher, error = &error as &dyn std::error::Error, "what is known is not followed");
                }
            }
            Ok(())
        });
        if adopted.await.is_ok() {
            self.mirror_board().change();
        }
    }

    /// Stays up with a publisher that is followed from now on.
    pub fn keep_up_with(&self, publisher: Publisher) {
        let node = self.clone();
        self.task(async move {
            let discovery = node.discovery().clone();
            for peer in node.swarm().peers().await.iter().take(TELLERS_ASKED) {
                if let Err(error) = node.learn_from(peer.peer, publisher).await {
                    debug!(peer = %peer.peer, error = &error as &dyn std::error::Error, "a peer told nothing of a key");
                }
            }
            let publisher = node.library().standing_of(publisher).current();
            let adopted = blocking(move || Ok(discovery.adopt_known(publisher))).await;
            if let Ok(Err(error)) = adopted {
                debug!(%publisher, error = &error as &dyn std::error::Error, "what is known is not followed");
            }
            node.look_for(publisher).await;
            node.mirror_board().change();
        });
    }
}

/// Tells the DHT of whose releases we tell, and looks there for tellers of those whom the user follows; ends with the node.
pub(crate) async fn keep_following(node: WeakNode) {
    let mut due: HashMap<Publisher, Instant> = HashMap::new();
    let mut told: HashSet<Publisher> = HashSet::new();
    let mut told_of_keys = HashSet::new();
    let Some(mut denials) = node.upgrade().map(|node| node.library().denials().changes()) else {
        return;
    };
    // It may have been allowed while no node ran.
    denials.mark_changed();
    loop {
        sleep(GLANCE).await;
        let Some(node) = node.upgrade() else { return };
        if denials.has_changed().is_ok_and(|changed| changed) {
            denials.mark_unchanged();
            node.adopt_allowed().await;
        }
        let library = node.library().clone();
        node.tell_of(&mut told).await;
        node.tell_keys(&mut told_of_keys).await;
        let followed: Vec<Publisher> = library
            .following()
            .iter()
            .map(|follow| follow.publisher)
            .collect();
        due.retain(|publisher, _| followed.contains(publisher));
        let now = Instant::now();
        for publisher in followed {
            let first = || now + FIRST_WITHIN.mul_f64(rand::rng().random());
            let at = due.entry(publisher).or_insert_with(first);
            if *at <= now {
                *at = now + LOOK_AGAIN.mul_f64(rand::rng().random_range(0.7..1.3));
                node.look_for(publisher).await;
            }
        }
    }
}
