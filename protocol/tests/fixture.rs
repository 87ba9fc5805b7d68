//! Valid values of every format: fixed ones for golden bytes, and strategies for random ones.

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use proptest::collection::{hash_set, vec};
use proptest::option;
use proptest::prelude::*;
use protocol::shard::{self, SHARD_LEN};
use protocol::{
    Attestation, CatalogAsk, CatalogTell, ChainingValue, Challenge, Denial, Denied, Denylist, Differences,
    FileEntry, Finite, GitId, Hash, Kind, Known, Manifest, PeerHint, Proof, Publisher, Reason, Release,
    ReleaseId, RepoId, RepoName, RepoPath, Sha256, ShardRun, SignedAttestation, SignedRelease,
    SignedStatement, Statement, Summary, SwarmTell, Ticket, Upstream, Verdict,
};

/// A moment at which the fixed releases are in force, in Unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;

/// A peer id as text, of the length that an Ed25519 key gives.
pub(crate) const PEER: &str = "12D3KooWGRUY2DzjEuZb8gSGFqZzyBqFYDtHbYQWJWPvFRHhsXbN";

/// The key pair whose secret half is `number` 32 times over.
pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub(crate) fn publisher(number: u8) -> Publisher {
    key(number).verifying_key().into()
}

pub(crate) fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

pub(crate) fn path(text: &str) -> RepoPath {
    text.parse().unwrap()
}

/// The bytes of BLAKE3's own test vectors: 0 to 250 and again.
pub(crate) fn pattern(len: u64) -> Vec<u8> {
    (0..=250).cycle().take(usize::try_from(len).unwrap()).collect()
}

/// The chaining values of a blob's shards, as a proof wants them.
pub(crate) fn values_of(blob: &[u8]) -> Vec<ChainingValue> {
    let len = u64::try_from(blob.len()).unwrap();
    if len <= SHARD_LEN {
        return Vec::new();
    }
    let shards = blob.chunks(usize::try_from(SHARD_LEN).unwrap());
    (0..)
        .step_by(usize::try_from(SHARD_LEN).unwrap())
        .zip(shards)
        .map(|(offset, bytes)| shard::chaining_value(offset, bytes))
        .collect()
}

/// An entry whose digests are made up, but for the BLAKE3 of its size, so that equal sizes are equal blobs.
pub(crate) fn entry(at: &str, size: u64) -> FileEntry {
    let made_up = Hash::of(&[b"blob", size.to_le_bytes().as_slice()].concat());
    FileEntry {
        path: path(at),
        size,
        blake3: if size == 0 { Hash::EMPTY } else { made_up },
        sha256: None,
        sha1: None,
    }
}

/// The files of the golden manifest, and their bytes.
pub(crate) fn golden_files() -> Vec<(FileEntry, Vec<u8>)> {
    let readme = b"# Golden\n".to_vec();
    let config = b"{}\n".to_vec();
    let weights = pattern(2 * SHARD_LEN + 12_345);
    let digest = |hex: &str| Some(hex.parse::<Sha256>().unwrap());
    let git = |hex: &str| Some(hex.parse::<GitId>().unwrap());
    let file = |at, bytes: &[u8], sha256, sha1| FileEntry {
        path: path(at),
        size: u64::try_from(bytes.len()).unwrap(),
        blake3: Hash::of(bytes),
        sha256,
        sha1,
    };
    vec![
        (
            file(
                "README.md",
                &readme,
                digest("859c6352ea55ca0b218285fbd4866df877912e3fab76e953e77f3b70f478f16a"),
                git("4871ee39dd9eec127b5b4db155aecbad70fde7d8"),
            ),
            readme,
        ),
        (
            file(
                "config.json",
                &config,
                digest("ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356"),
                git("0967ef424bce6791893e9a57bb952f80fd536e93"),
            ),
            config,
        ),
        (
            file("empty", b"", Some(Sha256::EMPTY), Some(GitId::EMPTY)),
            Vec::new(),
        ),
        (
            file(
                "weights/größe.safetensors",
                &weights,
                digest("2e5e321c61c38df2ec144156f2f70495fa0551a75f1d8cd234ffe54b01d11fba"),
                None,
            ),
            weights,
        ),
    ]
}

pub(crate) fn golden_manifest() -> Manifest {
    Manifest::new(golden_files().into_iter().map(|(entry, _)| entry).collect()).unwrap()
}

pub(crate) fn golden_release() -> Release {
    Release {
        publisher: publisher(7),
        name: name("golden-model"),
        kind: Kind::Model,
        manifest: golden_manifest().hash(),
        seq: 2,
        prev: Some(Hash::of(b"the manifest before")),
        issued: NOW - 60,
        expires: NOW + 30 * 24 * 60 * 60,
        upstream: Some(Upstream {
            commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            hub: "huggingface.co".to_owned(),
            repo: "some-org/Golden-Model".to_owned(),
        }),
        card: Some(Hash::of(b"the card")),
    }
}

pub(crate) fn golden_signed() -> SignedRelease {
    SignedRelease::sign(golden_release(), &key(7)).unwrap()
}

pub(crate) fn finite(number: f64) -> Finite {
    Finite::new(number).unwrap()
}

pub(crate) fn golden_attestation() -> Attestation {
    let challenge = |nonce: u8, count: u8| Challenge {
        nonce: [nonce; 16],
        digest: Hash::of(&[nonce]),
        numbers: (0..count)
            .map(|number| finite(f64::from(number) * 2.5 - 1.0))
            .collect(),
    };
    Attestation {
        by: publisher(7),
        manifest: golden_manifest().hash(),
        structure: Verdict::Passed,
        numbers: Verdict::Passed,
        behaviour: Verdict::Passed,
        probes: Some(Hash::of(b"the probes")),
        differences: Differences {
            embed: None,
            logits: Some(finite(5.5e-5)),
            nll: Some(finite(0.0)),
        },
        challenges: vec![challenge(3, 2), challenge(4, 2)],
        bits_per_byte: Some(finite(0.75)),
        runtime: "candle 0.11.1 f32".to_owned(),
        features: "x86_64 avx2 fma".to_owned(),
        issued: NOW,
    }
}

pub(crate) fn golden_attested() -> SignedAttestation {
    SignedAttestation::sign(golden_attestation(), &key(7)).unwrap()
}

/// An attestation that says nothing more than it has to: that the files are in order.
pub(crate) fn plain_attestation(key_number: u8) -> Attestation {
    Attestation {
        by: publisher(key_number),
        manifest: Hash::from_bytes([9; 32]),
        structure: Verdict::Passed,
        numbers: Verdict::NotDone,
        behaviour: Verdict::NotDone,
        probes: None,
        differences: Differences::default(),
        challenges: Vec::new(),
        bits_per_byte: None,
        runtime: "r".to_owned(),
        features: "f".to_owned(),
        issued: NOW,
    }
}

/// The summary of a card with every field.
pub(crate) fn golden_summary() -> Summary {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
    Summary {
        base_model: texts(&["some-org/Golden-Base"]),
        base_relation: Some("finetune".to_owned()),
        bytes: Some(2_109_510),
        description: Some("Writes \"größe\" in gold, and little else.".to_owned()),
        dtype: Some("bfloat16".to_owned()),
        formats: texts(&["safetensors", "gguf"]),
        languages: texts(&["en", "de"]),
        library: Some("transformers".to_owned()),
        license: Some("apache-2.0".to_owned()),
        parameters: Some(1_048_576),
        tags: texts(&["gold", "arxiv:1706.03762"]),
        task: Some("text-generation".to_owned()),
    }
}

/// The release of the golden model that names the golden summary.
pub(crate) fn golden_known() -> Known {
    let mut release = golden_release();
    release.card = Some(golden_summary().hash().unwrap());
    Known {
        release: SignedRelease::sign(release, &key(7)).unwrap().encode(),
        card: Some(golden_summary().encode().unwrap()),
    }
}

/// Signs a statement with whichever of the keys 0 to 39 it asks for.
pub(crate) fn stated(statement: Statement) -> SignedStatement {
    static KEYS: LazyLock<Vec<SigningKey>> = LazyLock::new(|| (0..40).map(key).collect());
    SignedStatement::sign(statement, &KEYS.iter().collect::<Vec<_>>()).unwrap()
}

pub(crate) fn introduce(key: u8, recovery: u8) -> Statement {
    Statement::Introduce {
        key: publisher(key),
        recovery: publisher(recovery),
        issued: NOW,
    }
}

pub(crate) fn rotate(from: u8, to: u8) -> Statement {
    Statement::Rotate {
        from: publisher(from),
        to: publisher(to),
        issued: NOW,
    }
}

pub(crate) fn recover(from: u8, to: u8, recovery: u8) -> Statement {
    Statement::Recover {
        from: publisher(from),
        to: publisher(to),
        recovery: publisher(recovery),
        issued: NOW,
    }
}

pub(crate) fn revoke(key: u8, by: u8) -> Statement {
    Statement::Revoke {
        key: publisher(key),
        by: publisher(by),
        reason: Reason::Compromised,
        issued: NOW,
    }
}

pub(crate) fn golden_denylist() -> Denylist {
    let denial = |what, reason: &str, expires| Denial {
        what,
        reason: reason.to_owned(),
        since: NOW,
        expires,
    };
    let repo = RepoId {
        publisher: publisher(1),
        name: name("bad-model"),
    };
    Denylist::new(vec![
        denial(Denied::Repo(repo), "carries code that steals keys", None),
        denial(
            Denied::Manifest(golden_manifest().hash()),
            "größe is wrong",
            Some(NOW + 86_400),
        ),
        denial(Denied::Blob(Hash::of(b"bad")), "malware", None),
        denial(Denied::Publisher(publisher(0)), "spam", Some(NOW + 1)),
    ])
    .unwrap()
}

pub(crate) fn golden_ticket() -> Ticket {
    let addresses = [
        format!("/ip4/192.0.2.7/udp/4001/quic-v1/p2p/{PEER}"),
        format!("/ip6/2001:db8::7/tcp/4001/p2p/{PEER}"),
    ];
    let repo = RepoId {
        publisher: publisher(7),
        name: name("golden-model"),
    };
    Ticket::new(golden_manifest().hash(), addresses.to_vec(), Some(repo)).unwrap()
}

pub(crate) fn golden_proof() -> Proof {
    let shards = golden_files().iter().map(|(_, bytes)| values_of(bytes)).collect();
    Proof::new(golden_manifest(), Some(golden_signed()), shards).unwrap()
}

/// A release that says nothing more than it has to.
pub(crate) fn plain_release(key_number: u8, seq: u64, content: u8) -> Release {
    Release {
        publisher: publisher(key_number),
        name: name("m"),
        kind: Kind::Model,
        manifest: Hash::from_bytes([content; 32]),
        seq,
        prev: None,
        issued: NOW,
        expires: NOW + 1,
        upstream: None,
        card: None,
    }
}

pub(crate) fn hashes() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash::from_bytes)
}

pub(crate) fn names() -> impl Strategy<Value = RepoName> {
    "[A-Za-z0-9_]{1,20}([._-][A-Za-z0-9_]{1,20}){0,3}"
        .prop_filter_map("ends with .git", |text| text.parse().ok())
}

pub(crate) fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Model), Just(Kind::Dataset), Just(Kind::Space)]
}

/// Paths from a small alphabet, so that collisions happen, with letters outside ASCII.
pub(crate) fn repo_paths() -> impl Strategy<Value = RepoPath> {
    "[a-zA-Z0-9_ßéü日本-]{1,8}([.][a-z]{1,5})?(/[a-zA-Z0-9_é]{1,6}){0,4}"
        .prop_filter_map("breaks a rule", |text| text.parse().ok())
}

fn entries() -> impl Strategy<Value = FileEntry> {
    let sizes = prop_oneof![0..4_u64, any::<u32>().prop_map(u64::from), 0..1_u64 << 42];
    let sha256 = option::of(any::<[u8; 32]>().prop_map(Sha256::from_bytes));
    let sha1 = option::of(any::<[u8; 20]>().prop_map(GitId::from_bytes));
    (repo_paths(), sizes, hashes(), sha256, sha1).prop_map(|(path, size, blake3, sha256, sha1)| {
        let empty = size == 0;
        FileEntry {
            path,
            size,
            blake3: if empty { Hash::EMPTY } else { blake3 },
            sha256: sha256.map(|it| if empty { Sha256::EMPTY } else { it }),
            sha1: sha1.map(|it| if empty { GitId::EMPTY } else { it }),
        }
    })
}

pub(crate) fn manifests() -> impl Strategy<Value = Manifest> {
    vec(entries(), 1..12).prop_filter_map("paths collide", |files| Manifest::new(files).ok())
}

fn upstreams() -> impl Strategy<Value = Upstream> {
    (
        prop_oneof!["[0-9a-f]{40}", "[0-9a-f]{64}"],
        "[a-z0-9.:-]{1,40}",
        "[A-Za-z0-9_-]{1,20}(/[A-Za-z0-9_.-]{1,20}x)?",
    )
        .prop_map(|(commit, hub, repo)| Upstream { commit, hub, repo })
}

/// Releases that can be signed with [`key`] of the number.
pub(crate) fn releases() -> impl Strategy<Value = (u8, Release)> {
    let numbers = (1..1_u64 << 53, 0..1_u64 << 53, 1..400 * 24 * 60 * 60_u64);
    let optional = (
        option::of(hashes()),
        option::of(upstreams()),
        option::of(hashes()),
    );
    (0..4_u8, names(), kinds(), hashes(), numbers, optional).prop_map(
        |(number, name, kind, manifest, (seq, issued, life), (prev, upstream, card))| {
            let release = Release {
                publisher: publisher(number),
                name,
                kind,
                manifest,
                seq,
                prev,
                issued,
                expires: issued + life,
                upstream,
                card,
            };
            (number, release)
        },
    )
}

pub(crate) fn signed_releases() -> impl Strategy<Value = SignedRelease> {
    releases().prop_map(|(number, release)| SignedRelease::sign(release, &key(number)).unwrap())
}

pub(crate) fn finites() -> impl Strategy<Value = Finite> {
    let number = prop_oneof![
        any::<f64>(),
        -1e3..1e3_f64,
        Just(-0.0),
        Just(f64::MIN_POSITIVE / 2.0)
    ];
    number.prop_filter_map("no number", Finite::new)
}

fn challenges() -> impl Strategy<Value = Vec<Challenge>> {
    let one = (any::<[u8; 15]>(), hashes(), vec(finites(), 1..=32));
    vec(one, 0..=3).prop_map(|all| {
        let numbered = (0..).zip(all);
        let challenge = |(number, (rest, digest, numbers)): (u8, ([u8; 15], Hash, _))| {
            let mut nonce = [number; 16];
            nonce[1..].copy_from_slice(&rest);
            Challenge {
                nonce,
                digest,
                numbers,
            }
        };
        numbered.map(challenge).collect()
    })
}

/// Attestations that can be signed with [`key`] of the number.
pub(crate) fn attestations() -> impl Strategy<Value = (u8, Attestation)> {
    let verdict = || {
        prop_oneof![
            Just(Verdict::Passed),
            Just(Verdict::Failed),
            Just(Verdict::NotDone)
        ]
    };
    let size = || option::of(finites().prop_map(|number| finite(number.get().abs())));
    let texts = ("[ -~]{1,64}", "[ -~]{1,256}");
    let parts = (0..4_u8, hashes(), option::of(hashes()), 0..1_u64 << 53);
    let levels = (verdict(), verdict(), verdict());
    let results = (size(), size(), size(), size(), challenges());
    (parts, levels, results, texts).prop_filter_map(
        "breaks a rule",
        |((number, manifest, probes, issued), levels, results, (runtime, features))| {
            let (structure, numbers, behaviour) = levels;
            let (embed, logits, nll, bits_per_byte, challenges) = results;
            let done = behaviour != Verdict::NotDone;
            let declared = done && probes.is_some();
            let attestation = Attestation {
                by: publisher(number),
                manifest,
                structure,
                numbers,
                behaviour,
                probes,
                differences: match declared {
                    true => Differences { embed, logits, nll },
                    false => Differences::default(),
                },
                challenges: if done { challenges } else { Vec::new() },
                bits_per_byte: bits_per_byte.filter(|_| done),
                runtime,
                features,
                issued,
            };
            let kept = SignedAttestation::sign(attestation.clone(), &key(number)).is_ok();
            kept.then_some((number, attestation))
        },
    )
}

pub(crate) fn signed_attestations() -> impl Strategy<Value = SignedAttestation> {
    attestations()
        .prop_map(|(number, attestation)| SignedAttestation::sign(attestation, &key(number)).unwrap())
}

pub(crate) fn repo_ids() -> impl Strategy<Value = RepoId> {
    (0..4_u8, names()).prop_map(|(number, name)| RepoId {
        publisher: publisher(number),
        name,
    })
}

pub(crate) fn tickets() -> impl Strategy<Value = Ticket> {
    let way = "(/(ip4|dns|tcp|udp)/[!-.0-~]{1,20}){0,5}";
    let address = way.prop_map(|way| format!("{way}/p2p/{PEER}"));
    (hashes(), vec(address, 0..=16), option::of(repo_ids()))
        .prop_map(|(manifest, addresses, repo)| Ticket::new(manifest, addresses, repo).unwrap())
}

/// Proofs of a few real blobs of up to three shards.
pub(crate) fn proofs() -> impl Strategy<Value = Proof> {
    let sizes = prop_oneof![0..3_u64, SHARD_LEN - 1..=3 * SHARD_LEN];
    (vec(sizes, 1..4), option::of(0..4_u8)).prop_map(|(sizes, signer)| {
        let mut files = Vec::new();
        let mut shards = Vec::new();
        for (number, size) in sizes.into_iter().enumerate() {
            let bytes = pattern(size);
            shards.push(values_of(&bytes));
            files.push(FileEntry {
                path: path(&format!("file-{number}")),
                size,
                blake3: Hash::of(&bytes),
                sha256: None,
                sha1: None,
            });
        }
        let manifest = Manifest::new(files).unwrap();
        let release = signer.map(|number| {
            let mut release = plain_release(number, 1, 0);
            release.manifest = manifest.hash();
            SignedRelease::sign(release, &key(number)).unwrap()
        });
        Proof::new(manifest, release, shards).unwrap()
    })
}

/// Summaries that follow every rule but, rarely, the one about all of it together.
pub(crate) fn summaries() -> impl Strategy<Value = Summary> {
    let word = || option::of("[a-zA-Z0-9._:+-]{1,64}");
    let words = |most| hash_set("[a-z0-9._-]{1,20}", 0..most).prop_map(Vec::from_iter);
    let number = || option::of(0..=1_u64 << 53);
    let texts = || "[a-zßé日\"\\\\][a-z ßé日\"\\\\]{0,30}";
    let lists = (
        hash_set("[A-Za-z0-9]{1,20}(/[A-Za-z0-9._-]{1,20}x)?", 0..4).prop_map(Vec::from_iter),
        words(8),
        words(20),
        hash_set(texts(), 0..30).prop_map(Vec::from_iter),
    );
    let words = (word(), word(), word(), word(), word());
    (lists, words, (number(), number()), option::of(texts())).prop_map(
        |(
            (base_model, formats, languages, tags),
            (base_relation, dtype, library, license, task),
            (bytes, parameters),
            description,
        )| Summary {
            base_model,
            base_relation,
            bytes,
            description,
            dtype,
            formats,
            languages,
            library,
            license,
            parameters,
            tags,
            task,
        },
    )
}

/// Statements about and by few keys, so that many of them meet.
pub(crate) fn statements() -> impl Strategy<Value = Statement> {
    let issued = NOW..NOW + 2;
    (0..4_u8, 0..9_u8, 0..5_u8, 5..9_u8, issued).prop_filter_map(
        "one key twice",
        |(kind, key, to, recovery, issued)| {
            let (key, to, recovery) = (publisher(key % 5), publisher(to), publisher(recovery));
            let by = if issued % 2 == 0 { key } else { recovery };
            let reason = Reason::Lost;
            match kind {
                0 => Some(Statement::Introduce {
                    key,
                    recovery,
                    issued,
                }),
                1 if key != to => Some(Statement::Rotate {
                    from: key,
                    to,
                    issued,
                }),
                2 if key != to => Some(Statement::Recover {
                    from: key,
                    to,
                    recovery,
                    issued,
                }),
                3 => Some(Statement::Revoke {
                    key,
                    by,
                    reason,
                    issued,
                }),
                _ => None,
            }
        },
    )
}

pub(crate) fn denylists() -> impl Strategy<Value = Denylist> {
    let what = prop_oneof![
        repo_ids().prop_map(Denied::Repo),
        hashes().prop_map(Denied::Manifest),
        hashes().prop_map(Denied::Blob),
        (0..4_u8).prop_map(|number| Denied::Publisher(publisher(number))),
    ];
    let one = (
        what,
        "[a-z ßé日\"\\\\]{1,40}",
        0..1_u64 << 52,
        option::of(1..1_u64 << 40),
    )
        .prop_map(|(what, reason, since, life)| Denial {
            what,
            reason,
            since,
            expires: life.map(|life| since + life),
        });
    vec(one, 0..8).prop_map(|entries| Denylist::new(entries).unwrap())
}

fn release_ids() -> impl Strategy<Value = Vec<ReleaseId>> {
    vec(any::<[u8; 32]>().prop_map(ReleaseId::from_bytes), 0..20)
}

fn known() -> impl Strategy<Value = Known> {
    (vec(any::<u8>(), 0..300), option::of(vec(any::<u8>(), 0..100)))
        .prop_map(|(release, card)| Known { release, card })
}

pub(crate) fn catalog_asks() -> impl Strategy<Value = CatalogAsk> {
    prop_oneof![
        repo_ids().prop_map(|RepoId { publisher, name }| CatalogAsk::Release { publisher, name }),
        Just(CatalogAsk::Version),
        hashes().prop_map(|manifest| CatalogAsk::Attestations { manifest }),
        (vec((0..4_u8).prop_map(publisher), 0..5), vec(any::<u8>(), 0..300))
            .prop_map(|(of, message)| CatalogAsk::Reconcile { of, message }),
        release_ids().prop_map(CatalogAsk::Get),
        release_ids().prop_map(CatalogAsk::Have),
        vec(vec(any::<u8>(), 0..40), 0..=16).prop_map(CatalogAsk::Heard),
        (0..4_u8).prop_map(|number| CatalogAsk::Keys {
            publisher: publisher(number)
        }),
    ]
}

pub(crate) fn catalog_tells() -> impl Strategy<Value = CatalogTell> {
    prop_oneof![
        option::of(vec(any::<u8>(), 0..300)).prop_map(CatalogTell::Release),
        any::<u32>().prop_map(CatalogTell::Version),
        vec(vec(any::<u8>(), 0..40), 0..=64).prop_map(CatalogTell::Attestations),
        vec(any::<u8>(), 0..300).prop_map(CatalogTell::Reconcile),
        vec(known(), 0..20).prop_map(CatalogTell::Known),
        Just(CatalogTell::Have),
        vec(vec(any::<u8>(), 0..40), 0..=16).prop_map(CatalogTell::Keys),
    ]
}

fn hints() -> impl Strategy<Value = PeerHint> {
    let address = "/(ip4|dns|tcp|udp)/[!-~]{0,40}";
    (vec(any::<u8>(), 1..=64), vec(address, 0..=8)).prop_map(|(peer, addresses)| PeerHint { peer, addresses })
}

/// Messages that some manifest or other allows, or that break a rule about shards.
pub(crate) fn swarm_tells() -> impl Strategy<Value = SwarmTell> {
    let number = || prop_oneof![0..300_u32, any::<u32>(), u32::MAX - 300..=u32::MAX];
    let run = (number(), number()).prop_map(|(first, count)| ShardRun { first, count });
    prop_oneof![
        hashes().prop_map(|manifest| SwarmTell::Join { manifest }),
        Just(SwarmTell::Nothing),
        Just(SwarmTell::Everything),
        (number(), vec(any::<u8>(), 0..40)).prop_map(|(first, bits)| SwarmTell::Bits { first, bits }),
        vec(run, 0..20).prop_map(SwarmTell::Got),
        vec(hints(), 0..=32).prop_map(SwarmTell::Peers),
    ]
}

/// One change to some bytes; a position is taken modulo what is there.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Set(usize, u8),
    Flip(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
    /// Puts a copy of some bytes behind them.
    Repeat(usize, usize),
}

pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<usize>;
    let one = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        at().prop_map(Change::Remove),
        at().prop_map(Change::Cut),
        (at(), at()).prop_map(|(at, len)| Change::Repeat(at, len)),
    ];
    vec(one, 1..6)
}

pub(crate) fn change(bytes: &mut Vec<u8>, changes: &[Change]) {
    for change in changes {
        let len = bytes.len().max(1);
        match *change {
            Change::Set(at, byte) => {
                if let Some(old) = bytes.get_mut(at % len) {
                    *old = byte;
                }
            }
            Change::Flip(at, bit) => {
                if let Some(old) = bytes.get_mut(at % len) {
                    *old ^= 1 << bit;
                }
            }
            Change::Insert(at, byte) => bytes.insert(at % (bytes.len() + 1), byte),
            Change::Remove(at) => {
                if !bytes.is_empty() {
                    bytes.remove(at % len);
                }
            }
            Change::Cut(at) => bytes.truncate(at % len),
            Change::Repeat(at, count) => {
                let from = at % len;
                let to = bytes.len().min(from + count % 64);
                let copy = bytes.get(from..to).unwrap_or_default().to_vec();
                bytes.splice(to..to, copy);
            }
        }
    }
}
