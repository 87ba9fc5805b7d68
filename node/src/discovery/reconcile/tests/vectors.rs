//! The golden bytes: another implementation has to make the same. A change of the file is a change of the wire.

use super::{
    super::{
        super::set::{Item, Snapshot},
        Answerer, Next, Opener,
        fingerprint::SessionKey,
    },
    ANSWERER, OPENER, snapshot,
};
use std::fmt::Write;

const GOLDEN: &str = include_str!("../../../../../protocol/vectors/reconcile.txt");

/// Item `n`: four to a time, the id is the hash of `n` as 8 bytes.
fn item(n: u64) -> Item {
    Item::new(1_700_000_000 + n / 4 * 60, blake3::hash(&n.to_le_bytes()).into()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every message of a session, and what it found.
fn transcript(text: &mut String, name: &str, opener: &Snapshot, answerer: &Snapshot) {
    let (mut opener, mut message) = Opener::new(opener.clone(), OPENER);
    let mut answerer = Answerer::new(answerer.clone(), ANSWERER);
    loop {
        writeln!(text, "{name}, opener: {}", hex(&message)).unwrap();
        let told = answerer.take(&message).unwrap();
        writeln!(text, "{name}, answerer: {}", hex(&told)).unwrap();
        let step = opener.take(&told).unwrap_or_else(|error| panic!("{error}"));
        for (what, items) in [("need", step.need), ("have", step.have.iter().collect())] {
            for item in items {
                writeln!(text, "{name}, {what}: {} {}", item.issued(), hex(item.id())).unwrap();
            }
        }
        match step.next {
            Next::Ask(next) => message = next,
            end => break assert_eq!(end, Next::Done),
        }
    }
}

fn made() -> String {
    let mut text = String::new();
    let key = SessionKey::new(&OPENER, &ANSWERER);
    let all = snapshot((0..1_000).map(item));
    writeln!(text, "opener's nonce: {}", hex(&OPENER)).unwrap();
    writeln!(text, "answerer's nonce: {}", hex(&ANSWERER)).unwrap();
    for (name, number) in key.numbers() {
        writeln!(text, "{name}: {number}").unwrap();
    }
    for n in [0, 1, 999] {
        let item = item(n);
        writeln!(text, "item {n}: {} {}", item.issued(), hex(item.id())).unwrap();
        writeln!(text, "mark of item {n}: {}", hex(&key.mark(&item).to_le_bytes())).unwrap();
    }
    for count in [0, 1, 2, 1_000] {
        let print = key.fingerprint(key.fold(&all, 0..count));
        writeln!(text, "fingerprint of the first {count} items: {}", hex(&print)).unwrap();
    }
    let some = |from: u64, to: u64| (from..to).map(item);
    transcript(&mut text, "equal", &snapshot(some(0, 40)), &snapshot(some(0, 40)));
    transcript(&mut text, "listed", &snapshot(some(0, 3)), &snapshot(some(1, 4)));
    transcript(&mut text, "empty", &snapshot([]), &snapshot(some(0, 3)));
    let without = some(0, 101).filter(|one| *one != item(17));
    transcript(
        &mut text,
        "differing",
        &snapshot(some(0, 100)),
        &snapshot(without),
    );
    transcript(
        &mut text,
        "window",
        &snapshot(some(0, 3)),
        &snapshot(some(2, 9)).since(1_700_000_060),
    );
    transcript(
        &mut text,
        "sparse",
        &snapshot(some(0, 40)),
        &snapshot(some(20, 21)),
    );
    let without = some(0, 300).filter(|one| *one != item(100) && *one != item(200));
    transcript(&mut text, "apart", &snapshot(some(0, 300)), &snapshot(without));
    text
}

#[test]
fn golden_bytes_are_made() {
    let made = made();
    for (made, golden) in made.lines().zip(GOLDEN.lines()) {
        assert_eq!(made, golden);
    }
    assert_eq!(made.len(), GOLDEN.len(), "what is made is:\n{made}");
}
