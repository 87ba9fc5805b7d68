//! How a model stands: counted by keys that the user follows, never by number alone. Pure.

use protocol::{Attestation, Verdict};
use serde::{Deserialize, Serialize};

use super::{Valued, Worth};
use crate::validate::challenge;

/// How a model stands with the user and with those whom the user follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// What we found ourselves; `None`: we did not look, or not so far.
    pub here: Option<Verdict>,
    /// Keys that the user follows and that found what the model should do, and the same as each other.
    pub reproduced: u64,
    /// Keys that the user follows and that found something else.
    pub disagree: u64,
    /// The largest difference that those who agree found, to the probes or to each other.
    pub max_diff: Option<f64>,
    /// Keys that the user does not follow: they count nothing.
    pub others: u64,
}

impl Standing {
    /// Counts the attestations of one model, at most one by each key.
    ///
    /// Those who passed it are compared with us, if we passed it too; and else with the one of them with whom most others agree.
    pub(crate) fn of(all: &[&Attestation], valued: &Valued) -> Standing {
        let worth = |worth| all.iter().copied().filter(move |it| valued.worth(it.by) == worth);
        let own = worth(Worth::Own).next();
        let here = own.and_then(verdict);
        let followed: Vec<(&Attestation, Verdict)> = worth(Worth::Followed)
            .filter_map(|attestation| Some((attestation, verdict(attestation)?)))
            .collect();
        let passed: Vec<&Attestation> = followed
            .iter()
            .filter(|(_, verdict)| *verdict == Verdict::Passed)
            .map(|(attestation, _)| *attestation)
            .collect();
        let own = own.filter(|_| here == Some(Verdict::Passed));
        let agreeing = |anchor: &Attestation| passed.iter().filter(|it| compare(anchor, it).agrees).count();
        // Of several with as many, always the same one.
        let most = || {
            let by = |anchor: &&&Attestation| (agreeing(anchor), anchor.by);
            passed.iter().max_by_key(by).copied()
        };
        let Some(anchor) = own.or_else(most) else {
            return Standing {
                here,
                disagree: followed.len() as u64,
                others: worth(Worth::Other).count() as u64,
                ..Standing::default()
            };
        };
        let (agree, contradict): (Vec<&Attestation>, Vec<&Attestation>) =
            passed.iter().partition(|it| compare(anchor, it).agrees);
        let failed = followed.len() - passed.len();
        let differences = agree.iter().chain(own.iter()).flat_map(|it| {
            let declared = [it.differences.embed, it.differences.logits, it.differences.nll];
            let declared = declared.into_iter().flatten().map(|difference| difference.get());
            declared.chain(
                (it.by != anchor.by)
                    .then(|| compare(anchor, it).difference)
                    .flatten(),
            )
        });
        Standing {
            here,
            reproduced: agree.len() as u64,
            disagree: (contradict.len() + failed) as u64,
            max_diff: differences.max_by(f64::total_cmp),
            others: worth(Worth::Other).count() as u64,
        }
    }
}

/// How two attestations of one model compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Compared {
    /// Whether nothing in them contradicts: where they took the same challenge or the same text, the numbers are the same.
    pub(crate) agrees: bool,
    /// The largest difference of the results of the same challenge.
    pub(crate) difference: Option<f64>,
}

/// Compares what can be compared.
pub(crate) fn compare(a: &Attestation, b: &Attestation) -> Compared {
    let bits = a.bits_per_byte.zip(b.bits_per_byte);
    let mut compared = Compared {
        agrees: bits.is_none_or(|(a, b)| challenge::bits_agree(a, b)),
        difference: None,
    };
    for one in &a.challenges {
        let Some(other) = b.challenge(&one.nonce) else {
            continue;
        };
        compared.agrees &= challenge::agree(one, other);
        let before = compared.difference.unwrap_or(0.0);
        let largest = challenge::difference(one, other).map(|difference| difference.max(before));
        compared.difference = largest.or(compared.difference);
    }
    compared
}

/// What an attestation says in one word: it failed on some level, or behaves. `None`: it did not come so far.
fn verdict(attestation: &Attestation) -> Option<Verdict> {
    let levels = [attestation.structure, attestation.numbers, attestation.behaviour];
    if levels.contains(&Verdict::Failed) {
        return Some(Verdict::Failed);
    }
    (attestation.behaviour == Verdict::Passed).then_some(Verdict::Passed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use protocol::{Challenge, Differences, Finite, Hash, Publisher, SignedAttestation};

    pub(in crate::attest) const NOW: u64 = 1_800_000_000;

    pub(in crate::attest) fn key(number: u16) -> SigningKey {
        let mut seed = [1; 32];
        seed[..2].copy_from_slice(&number.to_le_bytes());
        SigningKey::from_bytes(&seed)
    }

    pub(in crate::attest) fn publisher(number: u16) -> Publisher {
        key(number).verifying_key().into()
    }

    /// An attestation that all is well, changed.
    pub(in crate::attest) fn signed(number: u16, change: impl FnOnce(&mut Attestation)) -> SignedAttestation {
        let mut attestation = Attestation {
            by: publisher(number),
            manifest: Hash::of(b"a model"),
            structure: Verdict::Passed,
            numbers: Verdict::Passed,
            behaviour: Verdict::Passed,
            probes: None,
            differences: Differences::default(),
            challenges: vec![challenge(1, 2.0)],
            bits_per_byte: Finite::new(0.5),
            runtime: "r".to_owned(),
            features: "f".to_owned(),
            issued: NOW,
        };
        change(&mut attestation);
        SignedAttestation::sign(attestation, &key(number)).unwrap()
    }

    fn challenge(nonce: u8, number: f64) -> Challenge {
        Challenge {
            nonce: [nonce; 16],
            digest: Hash::of(&number.to_le_bytes()),
            numbers: vec![Finite::new(number).unwrap(); 32],
        }
    }

    /// Key 0 is our own, 1 to 4 are followed.
    fn standing(all: &[SignedAttestation]) -> Standing {
        let valued = Valued {
            own: publisher(0),
            followed: (1..=4).map(publisher).collect(),
        };
        let all: Vec<&Attestation> = all.iter().map(SignedAttestation::attestation).collect();
        Standing::of(&all, &valued)
    }

    fn counts(all: &[SignedAttestation]) -> (u64, u64, u64) {
        let standing = standing(all);
        (standing.reproduced, standing.disagree, standing.others)
    }

    fn failed(number: u16) -> SignedAttestation {
        signed(number, |it| it.behaviour = Verdict::Failed)
    }

    fn other(number: u16) -> SignedAttestation {
        signed(number, |it| it.challenges = vec![challenge(1, 2.1)])
    }

    #[test]
    fn nobody_counts_but_who_is_followed() {
        assert_eq!(standing(&[]), Standing::default());
        let strangers: Vec<_> = (10..60).map(|number| signed(number, |_| {})).collect();
        assert_eq!(counts(&strangers), (0, 0, 50));
        let mut all = strangers;
        all.push(signed(1, |_| {}));
        all.push(failed(2));
        assert_eq!(counts(&all), (1, 1, 50));
    }

    #[test]
    fn who_found_other_numbers_disagrees_though_it_passed() {
        assert_eq!(
            counts(&[signed(1, |_| {}), signed(2, |_| {}), other(3)]),
            (2, 1, 0)
        );
        // Ours decides, against any number of others.
        let against = [other(1), other(2), signed(0, |_| {}), signed(3, |_| {})];
        assert_eq!(counts(&against), (1, 2, 0));
        // Within the tolerance it is the same.
        let near = signed(2, |it| it.challenges = vec![challenge(1, 2.0005)]);
        let close = standing(&[signed(1, |_| {}), near]);
        assert_eq!((close.reproduced, close.disagree), (2, 0));
        assert!(
            close.max_diff.is_some_and(|max| (max - 5e-4).abs() < 1e-6),
            "{close:?}"
        );
        let bits = signed(2, |it| it.bits_per_byte = Finite::new(0.6));
        assert_eq!(counts(&[signed(0, |_| {}), bits]), (0, 1, 0));
    }

    #[test]
    fn where_nothing_can_be_compared_the_verdict_is_all_there_is() {
        let alone = |number: u16| {
            signed(number, |it| {
                it.challenges = vec![challenge(number as u8, f64::from(number))];
                it.bits_per_byte = None;
            })
        };
        let apart = standing(&[alone(1), alone(2), alone(3)]);
        assert_eq!((apart.reproduced, apart.disagree, apart.max_diff), (3, 0, None));
        // One repeats the challenge of another, and gets something else.
        let repeated = signed(4, |it| {
            it.challenges = vec![challenge(4, 4.0), challenge(1, 9.0)];
            it.bits_per_byte = None;
        });
        assert_eq!(counts(&[alone(0), alone(1), repeated.clone()]), (2, 0, 0));
        assert!(!compare(alone(1).attestation(), repeated.attestation()).agrees);
        assert_eq!(
            compare(alone(1).attestation(), repeated.attestation()).difference,
            Some(8.0)
        );
    }

    #[test]
    fn what_did_not_come_so_far_says_nothing_and_what_failed_below_does() {
        let shallow = |number, numbers| {
            signed(number, |it| {
                (it.numbers, it.behaviour) = (numbers, Verdict::NotDone);
                it.challenges.clear();
                it.bits_per_byte = None;
            })
        };
        assert_eq!(
            counts(&[shallow(1, Verdict::Passed), shallow(2, Verdict::NotDone)]),
            (0, 0, 0)
        );
        assert_eq!(counts(&[shallow(1, Verdict::Failed)]), (0, 1, 0));
        assert_eq!(standing(&[shallow(0, Verdict::Passed)]).here, None);
        assert_eq!(
            standing(&[shallow(0, Verdict::Failed)]).here,
            Some(Verdict::Failed)
        );
        assert_eq!(standing(&[signed(0, |_| {})]).here, Some(Verdict::Passed));
        let against = standing(&[failed(0), signed(1, |_| {}), signed(2, |_| {})]);
        assert_eq!(
            (against.here, against.reproduced, against.disagree),
            (Some(Verdict::Failed), 2, 0)
        );
    }

    #[test]
    fn largest_difference_is_that_to_the_probes_or_to_each_other() {
        let declared = |number, difference| {
            signed(number, |it| {
                it.probes = Some(Hash::of(b"probes"));
                it.differences.embed = Finite::new(difference);
            })
        };
        let all = [declared(1, 1e-7), declared(2, 2e-7), declared(30, 9e-5)];
        assert_eq!(standing(&all).max_diff, Some(2e-7));
        assert_eq!(standing(&all[..1]).max_diff, Some(1e-7));
    }
}
