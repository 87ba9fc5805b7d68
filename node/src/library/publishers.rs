//! Publishers as the user knows them: whom they follow, as which key each goes on, and which release of a name counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::key::{ForkKind, Standing};
use protocol::{Alias, Publisher, RepoId, SignedRelease, SignedStatement, lookalike};
use serde::{Deserialize, Serialize};

use super::{Library, LibraryError, now};
use crate::names::{Follow, Followed, NamesError};

/// Characters at either end of two keys that look the same to who compares only these.
const ENDS: usize = 6;

/// A publisher that is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowView {
    /// What the user calls it.
    pub alias: Alias,
    /// Who it is by now.
    pub publisher: Publisher,
    /// Since when, in Unix seconds.
    pub since: u64,
    /// Who it was when the user began to follow it, if that is another key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed_as: Option<Publisher>,
    /// Why its key was revoked; `None`: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// What its keys signed against themselves, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forks: Vec<String>,
}

impl Library {
    /// Where the publisher stands to whom a key belongs.
    pub fn standing_of(&self, key: Publisher) -> Arc<Standing> {
        self.0.statements.standing(key)
    }

    /// Who we publish as.
    pub fn publisher(&self) -> Publisher {
        self.standing_of(self.identity().first()).current()
    }

    /// Whether a key is ours, or was: not one that somebody who has ours went on to.
    pub fn is_ours(&self, key: Publisher) -> bool {
        self.identity().has(key)
    }

    /// What the user calls the publisher to whom a key belongs.
    pub fn alias_of(&self, key: Publisher) -> Option<Alias> {
        let following = &self.0.following;
        let home = || self.0.statements.home(key);
        following
            .alias_of(key)
            .or_else(|| home().and_then(|home| following.alias_of(home)))
    }

    /// Calls a publisher by an alias from now on.
    pub fn follow(&self, publisher: Publisher, alias: &Alias) -> Result<Followed, LibraryError> {
        let followed = self.0.following.follow(publisher, alias, now())?;
        self.concern()?;
        Ok(followed)
    }

    /// Forgets a publisher's alias, by any of its keys; `false` when there was none.
    pub fn unfollow(&self, publisher: Publisher) -> Result<bool, LibraryError> {
        let mut unfollowed = self.0.following.unfollow(publisher)?;
        if !unfollowed && let Some(home) = self.0.statements.home(publisher) {
            unfollowed = self.0.following.unfollow(home)?;
        }
        self.concern()?;
        self.settle_mirrors()?;
        Ok(unfollowed)
    }

    /// Returns the publishers that have an alias, by their keys of today.
    pub fn following(&self) -> Vec<Follow> {
        let mut all = self.0.following.all();
        for follow in &mut all {
            follow.publisher = self.standing_of(follow.publisher).current();
        }
        all
    }

    /// The same, with what there is to say of each.
    pub fn follow_views(&self) -> Vec<FollowView> {
        let view = |follow: Follow| {
            let standing = self.standing_of(follow.publisher);
            let publisher = standing.current();
            FollowView {
                alias: follow.alias,
                publisher,
                since: follow.since,
                followed_as: (publisher != follow.publisher).then_some(follow.publisher),
                revoked: standing.revoked().map(|revoked| revoked.reason.to_string()),
                forks: forks_of(&standing)
                    .into_iter()
                    .chain(self.forked_names(publisher))
                    .collect(),
            }
        };
        self.0.following.all().into_iter().map(view).collect()
    }

    /// Names of which a publisher signed two releases with one number.
    fn forked_names(&self, publisher: Publisher) -> Vec<String> {
        let mut forked = Vec::new();
        for repo in self.0.names.repos_of(publisher).unwrap_or_default() {
            for fork in self.forks_of(&repo).unwrap_or_default() {
                forked.push(format!("{}: {fork}", repo.name));
            }
        }
        forked
    }

    /// Says to who keeps statements whom they concern.
    pub(crate) fn concern(&self) -> Result<(), LibraryError> {
        let own = self.identity().first();
        let followed = self.0.following.all().into_iter().map(|follow| follow.publisher);
        let roots = std::iter::once(own).chain(followed.filter(|publisher| *publisher != own));
        Ok(self.0.statements.concern(roots.collect())?)
    }

    /// Every key of ours and of those whom the user follows.
    pub(crate) fn near(&self) -> Vec<Publisher> {
        self.0.statements.near()
    }

    /// Takes in statements about keys; returns those that are kept and were not known.
    pub(crate) fn heard(&self, told: &[SignedStatement]) -> Result<Vec<SignedStatement>, LibraryError> {
        Ok(self.0.statements.take(told)?)
    }

    /// The repo that a name means by now: under the last key of its publisher that released it here, or else under the current one.
    pub(crate) fn newest(&self, repo: &RepoId) -> RepoId {
        let standing = self.standing_of(repo.publisher);
        let from = standing
            .steps
            .iter()
            .skip_while(|step| step.key != repo.publisher);
        let named = |key| RepoId {
            publisher: key,
            name: repo.name.clone(),
        };
        let mut names: Vec<RepoId> = from.map(|step| named(step.key)).collect();
        names.reverse();
        if names.len() < 2 {
            return repo.clone();
        }
        let here = names.iter().find(|name| self.0.names.has(name));
        here.unwrap_or(&names[0]).clone()
    }

    /// The key that the publisher has today to whom a key belongs.
    pub(crate) fn today(&self, key: Publisher) -> Publisher {
        let standing = self.standing_of(key);
        if standing.step(key).is_some() {
            standing.current()
        } else {
            key
        }
    }

    /// The repo of this name under the key that its publisher has today.
    pub(crate) fn current(&self, repo: &RepoId) -> RepoId {
        RepoId {
            publisher: self.today(repo.publisher),
            name: repo.name.clone(),
        }
    }

    /// The repos that a publisher released, each under the last of its keys that released it here.
    pub(crate) fn repos_of(&self, publisher: Publisher) -> Result<Vec<RepoId>, LibraryError> {
        let standing = self.standing_of(publisher);
        let mut repos = BTreeSet::new();
        for key in std::iter::once(publisher).chain(standing.steps.iter().map(|step| step.key)) {
            for repo in self.0.names.repos_of(key)? {
                repos.insert(self.newest(&repo));
            }
        }
        Ok(repos.into_iter().collect())
    }

    /// Whether new releases of a key may be followed.
    ///
    /// # Errors
    /// [`NamesError::Revoked`], [`NamesError::Replaced`], [`NamesError::KeysDamaged`].
    pub(crate) fn admit(&self, release: &SignedRelease) -> Result<(), NamesError> {
        let key = release.release().publisher;
        self.0.statements.check(key)?;
        let standing = self.standing_of(key);
        if standing.follows(key) {
            return Ok(());
        }
        // What we follow already is not new.
        let repo = release.release().repo();
        if self.0.names.get(&repo)?.as_ref() == Some(release) {
            return Ok(());
        }
        let revoked = standing.step(key).and_then(|step| step.revoked);
        Err(match revoked {
            Some(revoked) => NamesError::Revoked { repo, revoked },
            None => NamesError::Replaced {
                repo,
                by: standing.current(),
            },
        })
    }

    /// Why the key of a repo was revoked.
    pub(crate) fn revocation_of(&self, key: Publisher) -> Option<String> {
        let standing = self.standing_of(key);
        let revoked = standing.step(key)?.revoked?;
        Some(revoked.reason.to_string())
    }

    /// What the user may mistake about somebody whom they are to follow by this alias, one sentence each.
    ///
    /// - `names`: repos that are known of that publisher.
    pub fn look_alikes(&self, publisher: Publisher, alias: &Alias, names: &[String]) -> Vec<String> {
        let mut warnings = Vec::new();
        let id = publisher.to_string();
        for follow in self.following() {
            if follow.publisher == self.standing_of(publisher).current() {
                continue;
            }
            if lookalike::looks_like(follow.alias.as_str(), alias.as_str()) {
                warnings.push(format!("{alias} looks like {}, whom you follow", follow.alias));
            }
            let other = follow.publisher.to_string();
            let begins = id.chars().zip(other.chars()).take(ENDS).all(|(a, b)| a == b);
            let ends = id.chars().rev().zip(other.chars().rev());
            if begins || ends.take(ENDS).all(|(a, b)| a == b) || lookalike::looks_like(&id, &other) {
                warnings.push(format!(
                    "{id} looks like {other}, whom you follow as {}",
                    follow.alias
                ));
            }
            let theirs = self.0.names.repos_of(follow.publisher).unwrap_or_default();
            let alike = |name: &&String| {
                let like = |known: &RepoId| {
                    known.name.as_str() == *name || lookalike::looks_like(known.name.as_str(), name)
                };
                theirs.iter().any(like)
            };
            if let Some(name) = names.iter().find(alike) {
                let more = names.iter().filter(alike).count() - 1;
                let more = if more == 0 {
                    String::new()
                } else {
                    format!(", and {more} more")
                };
                warnings.push(format!(
                    "its {name} looks like a repo of {}, whom you follow{more}",
                    follow.alias
                ));
            }
        }
        warnings
    }
}

/// What a publisher's keys signed against themselves, in words.
pub(super) fn forks_of(standing: &Standing) -> Vec<String> {
    let word = |kind| match kind {
        ForkKind::Introductions => "two recovery keys; the one that was seen first counts",
        ForkKind::Rotations => "two rotations to different keys; neither is followed",
        ForkKind::Recoveries => "two recoveries to different keys; neither is followed",
    };
    let forks = standing.forks.iter();
    forks
        .map(|fork| format!("its key {} signed {}", fork.key, word(fork.kind)))
        .collect()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use protocol::{Hash, Kind, Reason, Release, Statement};

    use super::*;

    fn release(key: &SigningKey, seq: u64, content: u8, expires: u64) -> SignedRelease {
        let release = Release {
            publisher: key.verifying_key().into(),
            name: "model".parse().unwrap(),
            kind: Kind::Model,
            manifest: Hash::of(&[content]),
            seq,
            prev: None,
            issued: expires - 1_000,
            expires,
            upstream: None,
            card: None,
        };
        SignedRelease::sign(release, key).unwrap()
    }

    fn refused(library: &Library, release: &SignedRelease) -> NamesError {
        match library.accept(release, now()) {
            Err(LibraryError::Names(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_stale_forked_revoked_or_replaced_is_shown_as_such_and_nothing_new_of_it_is_taken() {
        let data = tempfile::tempdir().unwrap();
        let library = Library::open(data.path()).await.unwrap();
        let [key, next] = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
        let [publisher, to] = [&key, &next].map(|key| Publisher::from(key.verifying_key()));
        library.follow(publisher, &"meta".parse().unwrap()).unwrap();
        // Long expired, and yet it can be used.
        let old = release(&key, 1, 1, now() - 1_000);
        library.accept(&old, now()).unwrap();
        assert!(library.list().unwrap()[0].stale);
        library
            .accept(&release(&key, 2, 2, now() + 1_000), now())
            .unwrap();
        assert!(!library.list().unwrap()[0].stale);
        let fork = refused(&library, &release(&key, 2, 3, now() + 1_000));
        assert!(matches!(fork, NamesError::Fork { seq: 2, .. }), "{fork}");
        let views = library.follow_views();
        let forks = &views[0].forks;
        for manifest in [2, 3].map(|content| Hash::of(&[content]).to_string()) {
            assert!(forks[0].contains(&manifest), "{forks:?}");
        }

        let issued = now();
        let rotate = Statement::Rotate {
            from: publisher,
            to,
            issued,
        };
        let rotate = SignedStatement::sign(rotate, &[&key, &next]).unwrap();
        library.heard(&[rotate]).unwrap();
        let late = refused(&library, &release(&key, 3, 4, now() + 1_000));
        assert!(
            matches!(late, NamesError::Replaced { by, .. } if by == to),
            "{late}"
        );
        let view = library.follow_views().remove(0);
        assert_eq!((view.publisher, view.followed_as), (to, Some(publisher)));
        // Until the new key released it, a name leads to what the old one did.
        let repo = library.repo_of(&"meta/model".parse().unwrap()).unwrap().unwrap();
        assert_eq!(repo.publisher, publisher);
        library
            .accept(&release(&next, 1, 2, now() + 1_000), now())
            .unwrap();
        let repo = library.repo_of(&"meta/model".parse().unwrap()).unwrap().unwrap();
        assert_eq!(repo.publisher, to);

        let revoke = Statement::Revoke {
            key: to,
            by: to,
            reason: Reason::Lost,
            issued,
        };
        library
            .heard(&[SignedStatement::sign(revoke, &[&next]).unwrap()])
            .unwrap();
        let late = refused(&library, &release(&next, 2, 5, now() + 1_000));
        assert!(matches!(late, NamesError::Revoked { .. }), "{late}");
        assert_eq!(library.list().unwrap()[0].revoked.as_deref(), Some("lost"));
        assert_eq!(library.follow_views()[0].revoked.as_deref(), Some("lost"));
        // By any of its keys.
        assert!(library.unfollow(to).unwrap());
        library.close().await;
    }
}
