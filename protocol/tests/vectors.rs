//! The golden bytes of each format. A change of a file in `vectors/` is a change of the wire.
//!
//! `SHOAL_BLESS=1 cargo test -p protocol` writes them anew, and then fails, so that no run that writes is taken for a run that checks.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::fixture::{
    PEER, golden_attested, golden_denylist, golden_files, golden_known, golden_manifest, golden_proof,
    golden_signed, golden_summary, golden_ticket, introduce, key, name, pattern, plain_attestation,
    plain_release, publisher, recover, revoke, rotate, stated, values_of,
};
use protocol::key::{encode_bundle, key_of_keys};
use protocol::lookalike::skeleton;
use protocol::release::{copy_key, id_of, key_of, provider_key, teller_key};
use protocol::shard::{GROUP_LEN, SHARD_LEN, shard_count};
use protocol::wire::{decode_frame, encode_frame};
use protocol::{
    CatalogAsk, CatalogTell, Denylist, Hash, Known, Manifest, PeerHint, Proof, RepoPath, ShardMap, ShardRun,
    SignedAttestation, SignedRelease, SignedStatement, Statement, Summary, SwarmTell, Ticket,
};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(name)
}

/// Compares bytes with the golden file, or writes them there.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = file(name);
    if std::env::var_os("SHOAL_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        panic!("{name} was written: look at the difference, then test without SHOAL_BLESS");
    }
    let kept = std::fs::read(&path).unwrap();
    assert!(
        kept == bytes,
        "{name} is not what this program writes: the format changed"
    );
    kept
}

/// A JSON string in which everything outside ASCII is escaped.
fn ascii(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap();
    let mut units = [0; 2];
    json.chars().fold(String::new(), |mut out, c| {
        match c {
            ' '..='~' => out.push(c),
            _ => c
                .encode_utf16(&mut units)
                .iter()
                .for_each(|unit| write!(out, "\\u{unit:04x}").unwrap()),
        }
        out
    })
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[test]
fn manifest_is_what_it_was() {
    let manifest = golden_manifest();
    let bytes = golden("manifest.json", &manifest.encode());
    assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
}

#[test]
fn manifest_hash_is_what_it_was() {
    let manifest = golden_manifest();
    golden("manifest.hash", format!("{}\n", manifest.hash()).as_bytes());
    assert!(manifest.hash().to_string().starts_with(&manifest.commit_id()));
    assert_eq!(manifest.commit_id().len(), 40);
}

#[test]
fn release_is_what_it_was() {
    let bytes = golden("release.bin", &golden_signed().encode());
    assert_eq!(SignedRelease::decode(&bytes).unwrap(), golden_signed());
}

#[test]
fn shortest_release_is_what_it_was() {
    let signed = SignedRelease::sign(plain_release(7, 1, 9), &key(7)).unwrap();
    let bytes = golden("release-short.bin", &signed.encode());
    assert_eq!(SignedRelease::decode(&bytes).unwrap(), signed);
}

#[test]
fn attestation_is_what_it_was() {
    let bytes = golden("attestation.bin", golden_attested().encode());
    assert_eq!(SignedAttestation::decode(&bytes).unwrap(), golden_attested());
}

#[test]
fn shortest_attestation_is_what_it_was() {
    let signed = SignedAttestation::sign(plain_attestation(7), &key(7)).unwrap();
    let bytes = golden("attestation-short.bin", signed.encode());
    assert_eq!(SignedAttestation::decode(&bytes).unwrap(), signed);
}

#[test]
fn summary_is_what_it_was() {
    let bytes = golden("card.json", &golden_summary().encode().unwrap());
    assert_eq!(Summary::decode(&bytes).unwrap(), golden_summary());
}

#[test]
fn shortest_summary_is_what_it_was() {
    let bytes = golden("card-short.json", &Summary::default().encode().unwrap());
    assert!(Summary::decode(&bytes).unwrap().is_empty());
}

/// One statement of each kind: by the key 7, its recovery key 8 and its successor 9.
fn golden_statements() -> [(&'static str, Statement); 4] {
    [
        ("key-introduce.bin", introduce(7, 8)),
        ("key-rotate.bin", rotate(7, 9)),
        ("key-recover.bin", recover(7, 9, 8)),
        ("key-revoke.bin", revoke(7, 8)),
    ]
}

fn golden_statement(number: usize) {
    let (file, statement) = golden_statements()[number].clone();
    let bytes = golden(file, stated(statement.clone()).encode());
    assert_eq!(SignedStatement::decode(&bytes).unwrap().statement(), &statement);
}

#[test]
fn introduction_is_what_it_was() {
    golden_statement(0);
}

#[test]
fn rotation_is_what_it_was() {
    golden_statement(1);
}

#[test]
fn recovery_is_what_it_was() {
    golden_statement(2);
}

#[test]
fn revocation_is_what_it_was() {
    golden_statement(3);
}

#[test]
fn record_of_key_statements_is_what_it_was() {
    let all = golden_statements().map(|(_, statement)| stated(statement));
    let bytes = golden("keys.bin", &encode_bundle(&all));
    assert_eq!(protocol::key::decode_bundle(&bytes).unwrap(), all);
}

#[test]
fn denylist_is_what_it_was() {
    let bytes = golden("denylist.json", &golden_denylist().encode().unwrap());
    assert_eq!(Denylist::decode(&bytes).unwrap(), golden_denylist());
}

#[test]
fn skeletons_are_what_they_were() {
    let names = [
        "Llama-2_7b.GGUF",
        "l1ama",
        "gooogle",
        "modem",
        "modern",
        "vvhisper",
        "model-11",
        "part-iii",
        "g0_0d",
        "",
    ];
    let mut text = String::new();
    for name in names {
        writeln!(text, "{name}: {}", skeleton(name)).unwrap();
    }
    golden("skeletons.txt", text.as_bytes());
}

#[test]
fn ticket_is_what_it_was() {
    let text = format!("{}\n", golden_ticket());
    let kept = String::from_utf8(golden("ticket.txt", text.as_bytes())).unwrap();
    assert_eq!(kept.trim_end().parse::<Ticket>().unwrap(), golden_ticket());
    assert_eq!(golden_ticket().addresses().len(), 2);
    assert!(golden_ticket().addresses()[0].ends_with(PEER));
}

#[test]
fn shortest_ticket_is_what_it_was() {
    let ticket = Ticket::new(golden_manifest().hash(), Vec::new(), None).unwrap();
    golden("ticket-short.txt", format!("{ticket}\n").as_bytes());
}

#[test]
fn proof_is_what_it_was() {
    let bytes = golden("proof.bin", &golden_proof().encode());
    assert_eq!(Proof::decode(&bytes).unwrap(), golden_proof());
}

#[test]
fn golden_files_are_what_the_manifest_says() {
    for (entry, bytes) in golden_files() {
        assert_eq!(Hash::of(&bytes), entry.blake3, "{}", entry.path);
        assert_eq!(u64::try_from(bytes.len()).unwrap(), entry.size);
    }
}

#[test]
fn frames_are_what_they_were() {
    let ask = CatalogAsk::Release {
        publisher: publisher(7),
        name: name("golden-model"),
    };
    let frames = [
        ("catalog ask release", encode_frame(&ask)),
        ("catalog ask version", encode_frame(&CatalogAsk::Version)),
        (
            "catalog tell release",
            encode_frame(&CatalogTell::Release(Some(b"release".to_vec()))),
        ),
        (
            "catalog tell no release",
            encode_frame(&CatalogTell::Release(None)),
        ),
        ("catalog tell version", encode_frame(&CatalogTell::Version(1))),
        (
            "catalog ask attestations",
            encode_frame(&CatalogAsk::Attestations {
                manifest: golden_manifest().hash(),
            }),
        ),
        (
            "catalog tell no attestations",
            encode_frame(&CatalogTell::Attestations(Vec::new())),
        ),
        (
            "catalog tell attestations",
            encode_frame(&CatalogTell::Attestations(vec![b"one".to_vec(), b"two".to_vec()])),
        ),
    ];
    let ids = vec![id_of(&golden_signed())];
    let reconcile = |of: &[protocol::Publisher]| CatalogAsk::Reconcile {
        of: of.to_vec(),
        message: b"message".to_vec(),
    };
    let bare = Known {
        card: None,
        ..golden_known()
    };
    let later_frames = [
        ("catalog ask reconcile, all", encode_frame(&reconcile(&[]))),
        (
            "catalog ask reconcile, of one publisher",
            encode_frame(&reconcile(&[publisher(7)])),
        ),
        ("catalog ask get", encode_frame(&CatalogAsk::Get(ids.clone()))),
        ("catalog ask have", encode_frame(&CatalogAsk::Have(ids))),
        (
            "catalog ask keys",
            encode_frame(&CatalogAsk::Keys {
                publisher: publisher(7),
            }),
        ),
        (
            "catalog ask heard",
            encode_frame(&CatalogAsk::Heard(vec![b"one".to_vec(), b"two".to_vec()])),
        ),
        (
            "catalog tell reconcile",
            encode_frame(&CatalogTell::Reconcile(b"message".to_vec())),
        ),
        (
            "catalog tell known, with a card and without",
            encode_frame(&CatalogTell::Known(vec![golden_known(), bare])),
        ),
        ("catalog tell have", encode_frame(&CatalogTell::Have)),
        (
            "catalog tell keys",
            encode_frame(&CatalogTell::Keys(vec![b"one".to_vec(), b"two".to_vec()])),
        ),
    ];
    let mut text = String::new();
    for (name, frame) in frames.into_iter().chain(later_frames) {
        writeln!(text, "{name}: {}", hex(&frame.unwrap())).unwrap();
    }
    for (name, tell) in golden_tells() {
        let frame = encode_frame(&tell).unwrap();
        writeln!(text, "{name}: {}", hex(&frame)).unwrap();
        assert_eq!(decode_frame(&frame), Ok(Some((tell, frame.len()))));
    }
    golden("frames.txt", text.as_bytes());
}

/// Every message of the swarm, with numbers of one and of more bytes.
fn golden_tells() -> [(&'static str, SwarmTell); 8] {
    let manifest = golden_manifest().hash();
    let run = |first, count| ShardRun { first, count };
    let bits = |first, bits: &[u8]| SwarmTell::Bits {
        first,
        bits: bits.to_vec(),
    };
    // The binary form of `PEER`: an identity multihash of the key in protobuf.
    let peer = "0024080112206224a61e4437e0d1a53d13a55f7b0a6ac8a9264719a215cd04a956cedb91b851";
    let hint = PeerHint {
        peer: data_encoding::HEXLOWER.decode(peer.as_bytes()).unwrap(),
        addresses: vec!["/ip4/192.0.2.7/udp/4001/quic-v1".to_owned()],
    };
    [
        ("swarm join", SwarmTell::Join { manifest }),
        ("swarm nothing", SwarmTell::Nothing),
        ("swarm everything", SwarmTell::Everything),
        ("swarm bits, none", bits(0, &[])),
        ("swarm bits, 0 2 8 10", bits(0, &[0b101, 0b101])),
        ("swarm bits, 4096 4103", bits(4096, &[0b1000_0001])),
        (
            "swarm got, 4 and 300 to 499",
            SwarmTell::Got(vec![run(4, 1), run(300, 200)]),
        ),
        ("swarm peers", SwarmTell::Peers(vec![hint])),
    ]
}

#[test]
fn shards_are_numbered_as_they_were() {
    let map = ShardMap::new(&golden_manifest()).unwrap();
    let mut text = String::new();
    for blob in map.blobs() {
        let shards = blob.shards();
        writeln!(text, "{}: {} to {}", blob.hash, shards.start, shards.end - 1).unwrap();
    }
    golden("shards.txt", text.as_bytes());
}

#[test]
fn keys_are_what_they_were() {
    let mut text = String::new();
    for number in [0, 1, 7, 255] {
        let publisher = publisher(number);
        writeln!(text, "seed: {}", hex(&[number; 32])).unwrap();
        writeln!(text, "public key: {}", hex(publisher.as_bytes())).unwrap();
        writeln!(text, "publisher: {publisher}").unwrap();
        let key = key_of(publisher, &name("golden-model"));
        writeln!(text, "key of golden-model: {}", hex(&key)).unwrap();
        let key = copy_key(publisher, protocol::Kind::Model, "acme/golden");
        writeln!(text, "key of its copy of the model acme/golden: {}", hex(&key)).unwrap();
        writeln!(text, "key of its tellers: {}", hex(&teller_key(publisher))).unwrap();
        writeln!(
            text,
            "key of its key statements: {}",
            hex(&key_of_keys(publisher))
        )
        .unwrap();
    }
    writeln!(text, "id of release.bin: {}", id_of(&golden_signed())).unwrap();
    let manifest = golden_manifest().hash();
    writeln!(text, "manifest: {manifest}").unwrap();
    writeln!(text, "key of its providers: {}", hex(&provider_key(manifest))).unwrap();
    golden("keys.txt", text.as_bytes());
}

#[test]
fn trees_are_what_they_were() {
    let mut text = String::new();
    let sizes = [
        0,
        1,
        1024,
        GROUP_LEN - 1,
        GROUP_LEN,
        GROUP_LEN + 1,
        SHARD_LEN - 1,
        SHARD_LEN,
        SHARD_LEN + 1,
        2 * SHARD_LEN + 12_345,
        5 * SHARD_LEN,
    ];
    for size in sizes {
        let blob = pattern(size);
        let (hash, shards) = (Hash::of(&blob), shard_count(size));
        writeln!(text, "{size} bytes, {shards} shards: {hash}").unwrap();
        for value in values_of(&blob) {
            writeln!(text, "  {}", hex(value.as_bytes())).unwrap();
        }
    }
    golden("trees.txt", text.as_bytes());
}

#[test]
fn paths_are_judged_as_they_were() {
    let paths = [
        "a",
        "a/b.c",
        "größe",
        "日本語/モデル",
        "😀",
        "com10",
        "with space",
        "．．",
        "",
        "/a",
        "a//b",
        "a/",
        "..",
        "a/../b",
        "a\\b",
        "C:a",
        "a:b",
        "a?",
        "a\u{0}",
        "a\u{85}",
        "a\u{2028}",
        "a\u{202e}b",
        "a\u{200b}b",
        "a\u{ad}b",
        "a\u{fe0f}",
        "e\u{301}",
        "\u{212b}",
        "a.",
        "a ",
        "a /b",
        "con",
        "NUL.txt",
        "a/com¹.x",
        "lpt0",
        "CONIN$",
    ];
    let mut text = String::new();
    for path in paths {
        let shown = ascii(path);
        match RepoPath::new(path) {
            Ok(path) => writeln!(text, "{shown} folds to {}", ascii(&path.fold())).unwrap(),
            Err(error) => {
                let rule = format!("{error:?}");
                let rule = rule.split([' ', '{']).next().unwrap();
                writeln!(text, "{shown} breaks {rule}").unwrap();
            }
        }
    }
    golden("paths.txt", text.as_bytes());
}
