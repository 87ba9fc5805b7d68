//! Names of repos that a user may take for one that they know: those of whom they follow, prepared so that many others are compared with them quickly.

use std::collections::HashMap;

use protocol::{RepoName, lookalike};

use crate::library::Library;

/// Names of followed publishers that others are compared with, at most: a search compares each hit with all, in a few microseconds for a thousand.
const NAMES_MAX: usize = 16_384;

/// The names that the user knows.
#[derive(Default)]
pub(super) struct KnownNames {
    names: Vec<Known>,
    /// By skeleton, for those that look the same.
    skeletons: HashMap<String, usize>,
}

struct Known {
    name: RepoName,
    /// `ALIAS/NAME`.
    shown: String,
    letters: u64,
}

impl KnownNames {
    /// Reads the names of all who are followed.
    pub(super) fn of(library: &Library) -> KnownNames {
        let mut known = KnownNames::default();
        for follow in library.following() {
            for repo in library.names().repos_of(follow.publisher).unwrap_or_default() {
                known.add(repo.name, follow.alias.as_str());
            }
        }
        known
    }

    fn add(&mut self, name: RepoName, alias: &str) {
        if self.names.len() >= NAMES_MAX {
            return;
        }
        let skeleton = lookalike::skeleton(name.as_str());
        self.skeletons.entry(skeleton).or_insert(self.names.len());
        self.names.push(Known {
            letters: letters(name.as_str()),
            shown: format!("{alias}/{name}"),
            name,
        });
    }

    /// The known repo for which one of a stranger with this name could be taken: of the same name, or one that looks like it.
    pub(super) fn like(&self, name: &RepoName) -> Option<String> {
        let skeleton = lookalike::skeleton(name.as_str());
        if let Some(known) = self.skeletons.get(&skeleton) {
            return Some(self.names[*known].shown.clone());
        }
        let letters = letters(name.as_str());
        // One slip adds a letter, takes one away, or both.
        let near = |known: &&Known| (known.letters ^ letters).count_ones() <= 2;
        let alike = |known: &&Known| lookalike::looks_like(known.name.as_str(), name.as_str());
        let found = self.names.iter().filter(near).find(alike);
        found.map(|known| known.shown.clone())
    }
}

/// Which letters and digits there are in a name.
fn letters(name: &str) -> u64 {
    let bit = |c: u8| match c.to_ascii_lowercase() {
        c @ b'a'..=b'z' => 1 << (c - b'a'),
        c @ b'0'..=b'9' => 1 << (26 + c - b'0'),
        _ => 0,
    };
    name.bytes().map(bit).fold(0, |all, bit| all | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_found_as_if_each_had_been_compared() {
        let names = [
            "sea-llama-7b",
            "Tiny.Bert",
            "modern",
            "qwen2-vl",
            "granite",
            "mistral-large",
        ];
        let mut known = KnownNames::default();
        for name in names {
            known.add(name.parse().unwrap(), "meta");
        }
        let others = [
            "sea-llama-7b",
            "sea-1lama-7b",
            "sea-lama-7b",
            "sea-llamas-7b",
            "sea-llama-8b",
            "SEA_LLAMA_7B",
            "sea-lxama-7b",
            "tiny-bert",
            "tiny-bart",
            "tinybert",
            "modem",
            "rnodern",
            "qwen2-v1",
            "qvven2-vl",
            "granit",
            "garnite",
            "grinate",
            "mistral-lagre",
            "mistrallarge",
            "whale",
            "7b-sea-llama",
        ];
        for other in others {
            let alike = |name: &&str| **name == *other || lookalike::looks_like(name, other);
            let wanted = names.iter().any(alike);
            let name = other.parse().unwrap();
            assert_eq!(known.like(&name).is_some(), wanted, "{other}");
        }
        assert_eq!(known.like(&"modem".parse().unwrap()).unwrap(), "meta/modern");
        assert_eq!(known.like(&"whale".parse().unwrap()), None);
    }
}
