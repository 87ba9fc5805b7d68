//! Random histories of a mirror: publishers release, users pin and forget, fetches fail, and the process dies in the middle. What is decided is
//! decided by what the task decides with.

use super::*;
use super::{
    fit::{Fit, Needed, Shelved, fit, may_go, oldest_first, union},
    inventory::{Dropping, List},
};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use protocol::{Hash, RepoId};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What happens.
#[derive(Clone, Debug)]
enum Act {
    /// A name gets a new revision of these blobs.
    Release { name: u8, blobs: BTreeSet<u8> },
    /// A name gets a revision that there was before, perhaps under another name.
    Again { name: u8, revision: usize },
    /// The mirror fetches the newest revision of a name, or fails.
    Fetch { name: u8, comes: bool },
    /// The same, and the process dies after something was begun to be dropped.
    Die { name: u8 },
    /// The user fetches or pins a revision.
    Claim { revision: usize },
    /// The user lets a revision go.
    Forget { revision: usize },
}

fn acts() -> impl Strategy<Value = Act> {
    let blobs = prop::collection::btree_set(0_u8..12, 1..5);
    prop_oneof![
        4 => (0_u8..4, blobs).prop_map(|(name, blobs)| Act::Release { name, blobs }),
        1 => (0_u8..4, any::<usize>()).prop_map(|(name, revision)| Act::Again { name, revision }),
        6 => (0_u8..4, any::<bool>()).prop_map(|(name, comes)| Act::Fetch { name, comes }),
        1 => (0_u8..4).prop_map(|name| Act::Die { name }),
        1 => any::<usize>().prop_map(|revision| Act::Claim { revision }),
        1 => any::<usize>().prop_map(|revision| Act::Forget { revision }),
    ]
}

#[derive(Default)]
struct World {
    quota: u64,
    clock: u64,
    /// All revisions there ever were, with what they take.
    revisions: Vec<(Hash, Vec<(Hash, u64)>)>,
    newest: BTreeMap<RepoId, (Hash, u64)>,
    list: List,
    /// What is here whole.
    here: HashSet<Hash>,
    /// What the user chose.
    users: HashSet<Hash>,
}

fn repo(name: u8) -> RepoId {
    RepoId {
        publisher: SigningKey::from_bytes(&[1; 32]).verifying_key().into(),
        name: format!("r{name}").parse().unwrap(),
    }
}

impl World {
    fn blobs(&self, manifest: Hash) -> &[(Hash, u64)] {
        let mut revisions = self.revisions.iter();
        &revisions.find(|(hash, _)| *hash == manifest).unwrap().1
    }

    fn release(&mut self, name: u8, manifest: Hash) {
        self.clock += 1;
        self.newest.insert(repo(name), (manifest, self.clock));
    }

    fn needed(&self) -> Needed {
        Needed {
            newest: self.newest.values().map(|(manifest, _)| *manifest).collect(),
            busy: HashSet::new(),
        }
    }

    fn fit(&self, wanted: &RepoId, manifest: Hash) -> (Fit, Vec<Kept>) {
        let is_this = |kept: &Kept| kept.repo == *wanted && kept.manifest == manifest;
        let mut kept: Vec<&Kept> = self.list.kept.iter().filter(|kept| !is_this(kept)).collect();
        oldest_first(&mut kept);
        let needed = self.needed();
        let newest = |kept: &Kept| self.newest.get(&kept.repo).map(|(manifest, _)| *manifest);
        let shelved: Vec<_> = kept
            .iter()
            .map(|kept| Shelved {
                blobs: self.blobs(kept.manifest),
                droppable: may_go(kept, newest(kept), &needed),
            })
            .collect();
        let fit = fit(Some(self.quota), &shelved, self.blobs(manifest));
        (fit, kept.into_iter().cloned().collect())
    }

    /// What the mirror does for a name; `dies`: up to where something is begun to be dropped.
    fn fetch(&mut self, name: u8, comes: bool, dies: bool) {
        self.list.gone();
        let repo = repo(name);
        let Some((manifest, issued)) = self.newest.get(&repo).copied() else {
            return;
        };
        if self.here.contains(&manifest) || self.list.let_go.contains(&manifest) {
            return;
        }
        let (Fit::Fits { drop }, kept) = self.fit(&repo, manifest) else {
            return;
        };
        let needed = self.needed();
        for at in drop {
            if self.list.begin_drop(&kept[at]) == Dropping::Bytes {
                let dropped = kept[at].manifest;
                assert!(!self.users.contains(&dropped), "the user's is never dropped");
                assert!(!needed.newest.contains(&dropped), "nor the newest of a name");
                self.here.remove(&dropped);
            }
            if dies {
                return;
            }
        }
        self.list.gone();
        let entry = Kept {
            repo: repo.clone(),
            manifest,
            seq: issued,
            issued,
            bytes: 0,
            shared: self.users.contains(&manifest),
            going: false,
        };
        self.list.add(entry.clone()).unwrap();
        self.check();
        if comes {
            self.here.insert(manifest);
        } else if self.list.begin_drop(&entry) == Dropping::Bytes {
            self.list.gone();
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Release { name, blobs } => {
                let blobs: Vec<_> = blobs
                    .into_iter()
                    .map(|blob| (Hash::of(&[blob]), u64::from(blob) * 7 + 1))
                    .collect();
                let manifest = Hash::of(format!("{}", self.revisions.len()).as_bytes());
                self.revisions.push((manifest, blobs));
                self.release(name, manifest);
            }
            Act::Again { name, revision } if !self.revisions.is_empty() => {
                let manifest = self.revisions[revision % self.revisions.len()].0;
                self.release(name, manifest);
            }
            Act::Fetch { name, comes } => self.fetch(name, comes, false),
            Act::Die { name } => self.fetch(name, true, true),
            Act::Claim { revision } if !self.revisions.is_empty() => {
                let manifest = self.revisions[revision % self.revisions.len()].0;
                self.list.claim(manifest);
                self.users.insert(manifest);
                // A fetch of the user's own comes at once, or has not come yet.
                if revision % 2 == 0 {
                    self.here.insert(manifest);
                }
            }
            Act::Forget { revision } if !self.revisions.is_empty() => {
                let manifest = self.revisions[revision % self.revisions.len()].0;
                self.list.let_go(manifest);
                self.users.remove(&manifest);
                self.here.remove(&manifest);
            }
            Act::Again { .. } | Act::Claim { .. } | Act::Forget { .. } => {}
        }
    }

    /// What holds at every moment.
    fn check(&self) {
        let taken = union(self.list.kept.iter().map(|kept| self.blobs(kept.manifest)));
        assert!(taken <= self.quota, "{taken} of {}", self.quota);
        for (manifest, _) in &self.revisions {
            let listed = self.list.kept.iter().any(|kept| kept.manifest == *manifest);
            let known = listed || self.users.contains(manifest);
            assert!(!self.here.contains(manifest) || known, "nobody answers for it");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn quota_holds_at_every_moment_and_the_newest_is_missing_only_where_it_does_not_fit(
        quota in 0_u64..300,
        history in prop::collection::vec(acts(), 1..60),
    ) {
        let mut world = World { quota, ..World::default() };
        for act in history {
            world.act(act);
            world.check();
        }
        for _ in 0..2 {
            for name in 0..4 {
                world.fetch(name, true, false);
                world.check();
            }
        }
        for (repo, (manifest, _)) in &world.newest {
            if world.here.contains(manifest) || world.list.let_go.contains(manifest) {
                continue;
            }
            let (fit, kept) = world.fit(repo, *manifest);
            prop_assert!(matches!(fit, Fit::No { .. }), "{fit:?}");
            let needed = world.needed();
            let staying = kept.iter().filter(|kept| {
                !may_go(kept, world.newest.get(&kept.repo).map(|(manifest, _)| *manifest), &needed)
            });
            let staying = staying.map(|kept| world.blobs(kept.manifest));
            prop_assert!(union(staying.chain([world.blobs(*manifest)])) > quota);
        }
    }
}

#[test]
fn manifest_counts_and_a_blob_that_is_listed_twice_counts_once() {
    let entry = |path: &str, size| protocol::FileEntry {
        path: path.parse().unwrap(),
        size,
        blake3: Hash::of(&[1]),
        sha256: None,
        sha1: None,
    };
    let manifest = Manifest::new(vec![entry("a", 5), entry("b", 5)]).unwrap();
    let blobs = blobs_of(&manifest);
    assert_eq!(blobs.len(), 2);
    assert_eq!(union([&*blobs]), 5 + manifest.encode().len() as u64);
}
