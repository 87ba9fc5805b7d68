//! The set as a node holds it: read from the catalog while the node is already at work, a minute for millions on a cold disk.

use std::{mem, time::Duration};

use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{
    Discovery,
    set::{self, Item, KnownSet, SetError, Snapshot},
};
use crate::{
    catalog::{CatalogError, PAGE_ROWS_MAX},
    library::LibraryError,
    store::blocking,
};

/// From a reading that failed to the next one.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// The known releases as a set.
#[derive(Default)]
pub(super) enum Held {
    /// Nobody compares: there is no network.
    #[default]
    No,
    /// It is being read. What came meanwhile, in order, each with what it took the place of.
    Reading(Vec<(Option<Item>, Item)>),
    /// All that is in the catalog.
    Whole(KnownSet),
}

impl Held {
    /// Notes what came, in place of `old`.
    ///
    /// # Errors
    /// [`SetError::Full`].
    pub(super) fn put(&mut self, old: Option<Item>, new: Item) -> Result<(), SetError> {
        match self {
            Held::No => {}
            Held::Reading(came) => came.push((old, new)),
            Held::Whole(set) => replace(set, old, new)?,
        }
        Ok(())
    }

    /// What is known now; nothing until it is read.
    pub(super) fn snapshot(&self) -> Snapshot {
        match self {
            Held::No | Held::Reading(_) => KnownSet::default().snapshot(),
            Held::Whole(set) => set.snapshot(),
        }
    }

    /// Ends the reading. Of what came meanwhile some was read: all of it is put in once more, which changes nothing about that.
    fn end(&mut self, mut set: KnownSet) -> Result<(), SetError> {
        let came = match mem::take(self) {
            Held::Reading(came) => came,
            Held::No | Held::Whole(_) => Vec::new(),
        };
        let put = came
            .into_iter()
            .try_for_each(|(old, new)| replace(&mut set, old, new));
        *self = Held::Whole(set);
        put
    }
}

fn replace(set: &mut KnownSet, old: Option<Item>, new: Item) -> Result<(), SetError> {
    match old {
        Some(old) => set.replace(&old, new),
        None => set.insert(new),
    }
    .map(|_| ())
}

impl Discovery {
    /// Reads what is known, to compare it with what peers know; ends when it is read, or the catalog is closed.
    pub(crate) async fn read_set(self) {
        loop {
            self.state().set = Held::Reading(Vec::new());
            match self.build().await {
                Ok(set) => {
                    info!(releases = set.len(), "what is known of others' releases");
                    if let Err(error) = self.state().set.end(set) {
                        warn!(%error, "releases are known and not told of");
                    }
                    self.0.is_read.send_replace(true);
                    return;
                }
                Err(LibraryError::Catalog(CatalogError::Closed)) => {
                    debug!("closed before all was read");
                    return;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "what is known is not compared with peers yet");
                }
            }
            self.state().set = Held::No;
            sleep(READ_AGAIN).await;
        }
    }

    async fn build(&self) -> Result<KnownSet, LibraryError> {
        let items = self.walk().await?;
        Ok(blocking(move || Ok(KnownSet::build(items).unwrap_or_default())).await?)
    }

    /// Goes through all that is known, and returns it; what the search index lacks of it is put in.
    pub(super) async fn walk(&self) -> Result<Vec<Item>, LibraryError> {
        let (room, behind) = {
            let state = self.state();
            (usize::try_from(state.names).unwrap_or(usize::MAX), state.behind)
        };
        let mut lacking = Vec::new();
        let mut items = Vec::with_capacity(room.min(set::ITEMS_MAX));
        let mut after = None;
        loop {
            let library = self.0.library.clone();
            let page = blocking(move || Ok(library.catalog().known_items(after, PAGE_ROWS_MAX))).await??;
            let Some(last) = page.last() else { break };
            after = Some(last.id.name_half());
            if let Some(upto) = behind {
                let later = page.iter().filter(|known| known.arrived > upto);
                lacking.extend(later.map(|known| known.id.name_half()));
            }
            let known = page.iter();
            items.extend(known.filter_map(|known| Item::new(known.issued, *known.id.as_bytes()).ok()));
            items.truncate(set::ITEMS_MAX);
        }
        if behind.is_some() {
            {
                let mut state = self.state();
                state.unindexed.append(&mut lacking);
                state.behind = None;
            }
            let discovery = self.clone();
            let index = move || {
                discovery.catch_up();
                Ok(())
            };
            blocking(index).await?;
        }
        Ok(items)
    }

    /// Waits until what is known here can be compared with what a peer knows.
    pub async fn is_read(&self) {
        // Whoever reads it is there as long as this is.
        let _ = self.0.is_read.subscribe().wait_for(|read| *read).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{
        Relay,
        samples::{discovery, peer, signed, told},
    };

    fn item(n: u8) -> Item {
        Item::new(u64::from(n), [n; set::ID_LEN]).unwrap()
    }

    /// Whatever of them the reading saw: before a change, between two, or after all.
    #[test]
    fn what_comes_while_it_is_read_is_there_once_and_what_it_replaced_is_not() {
        let others = [item(50), item(60)];
        for seen in [vec![], vec![item(1)], vec![item(2)], vec![item(3)]] {
            let mut held = Held::Reading(Vec::new());
            let begins_with = (seen != [item(2)]).then(|| item(1));
            held.put(begins_with, item(2)).unwrap();
            held.put(Some(item(2)), item(3)).unwrap();
            held.put(None, item(4)).unwrap();
            assert_eq!(held.snapshot().len(), 0);
            held.end(KnownSet::build([&others[..], &seen].concat()).unwrap())
                .unwrap();
            let all: Vec<Item> = held.snapshot().iter().collect();
            assert_eq!(all, [item(3), item(4), item(50), item(60)], "{seen:?}");
            held.put(Some(item(3)), item(5)).unwrap();
            assert!(held.snapshot().contains(&item(5)) && !held.snapshot().contains(&item(3)));
        }
    }

    #[test]
    fn where_nobody_compares_nothing_is_kept() {
        let mut held = Held::default();
        held.put(None, item(1)).unwrap();
        assert_eq!(held.snapshot().len(), 0);
    }

    #[tokio::test]
    async fn what_was_known_before_and_what_comes_after_it_was_read_is_compared() {
        let (discovery, _data) = discovery(Relay::All).await;
        let take = |name: &str| discovery.take(&[told(&signed(1, name, 1))], peer()).unwrap();
        take("herring");
        take("sprat");
        let compared = || discovery.snapshot_of(&[]).unwrap().len();
        assert_eq!((compared(), discovery.len()), (0, 2));
        discovery.clone().read_set().await;
        discovery.is_read().await;
        assert_eq!(compared(), 2);
        take("eel");
        assert_eq!((compared(), discovery.len()), (3, 3));
    }
}
