use super::*;
use ed25519_dalek::SigningKey;
use protocol::RepoId;
use std::fs;

fn kept(name: &str, content: u8) -> Kept {
    Kept {
        repo: RepoId {
            publisher: SigningKey::from_bytes(&[1; 32]).verifying_key().into(),
            name: name.parse().unwrap(),
        },
        manifest: Hash::of(&[content]),
        seq: 1,
        issued: 1,
        bytes: 10,
        shared: false,
        going: false,
    }
}

#[test]
fn list_is_there_after_reopening() {
    let data = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(data.path());
    assert!(inventory.all().unwrap().is_empty());
    let (one, two) = (kept("one", 1), kept("two", 2));
    inventory.add(one.clone()).unwrap();
    inventory.add(two.clone()).unwrap();
    inventory.add(two.clone()).unwrap();
    inventory.let_go(Hash::of(b"gone")).unwrap();
    let inventory = Inventory::open(data.path());
    assert_eq!(inventory.all().unwrap(), [one.clone(), two.clone()]);
    assert!(inventory.was_let_go(Hash::of(b"gone")));
    assert!(inventory.claim(one.manifest).unwrap());
    assert!(!inventory.claim(one.manifest).unwrap());
    assert!(inventory.claim(Hash::of(b"gone")).unwrap());
    let inventory = Inventory::open(data.path());
    assert_eq!(inventory.all().unwrap(), [two]);
    assert!(!inventory.was_let_go(Hash::of(b"gone")));
}

#[test]
fn what_is_being_dropped_stays_on_the_list_until_it_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(data.path());
    let one = kept("one", 1);
    inventory.add(one.clone()).unwrap();
    assert_eq!(inventory.begin_drop(&one).unwrap(), Dropping::Bytes);
    assert_eq!(inventory.staying().unwrap(), []);
    let inventory = Inventory::open(data.path());
    inventory.keep_only(|_| false).unwrap();
    assert!(inventory.all().unwrap()[0].going);
    inventory.gone().unwrap();
    assert!(Inventory::open(data.path()).all().unwrap().is_empty());
    assert_eq!(inventory.begin_drop(&one).unwrap(), Dropping::NotOurs);
}

#[test]
fn bytes_go_only_when_no_other_name_and_no_user_needs_them() {
    let data = tempfile::tempdir().unwrap();
    let inventory = Inventory::open(data.path());
    let (one, twin) = (kept("one", 1), kept("twin", 1));
    let shared = Kept {
        shared: true,
        ..kept("shared", 2)
    };
    for kept in [&one, &twin, &shared] {
        inventory.add(kept.clone()).unwrap();
    }
    assert_eq!(inventory.begin_drop(&shared).unwrap(), Dropping::NotOurs);
    assert_eq!(inventory.begin_drop(&one).unwrap(), Dropping::EntryOnly);
    assert_eq!(inventory.begin_drop(&twin).unwrap(), Dropping::Bytes);
    // The user pins it in this moment: it is the user's.
    assert!(inventory.claim(twin.manifest).unwrap());
    assert_eq!(inventory.all().unwrap(), [shared]);
}

#[test]
fn damaged_file_is_refused_with_words_and_left_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("mirrored");
    Inventory::open(data.path()).add(kept("one", 1)).unwrap();
    let good = fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mut cases: Vec<Vec<u8>> = (0..good.len()).step_by(7).map(flipped).collect();
    cases.extend([
        Vec::new(),
        b"\n".to_vec(),
        good[..good.len() - 1].to_vec(),
        vec![0xff; 99],
    ]);
    let unknown = br#"{"kept":[],"let_go":[],"more":1}"#;
    cases.push([format!("{HEADING}{}\n", Hash::of(unknown)).as_bytes(), unknown].concat());
    for bytes in cases {
        fs::write(&path, &bytes).unwrap();
        let inventory = Inventory::open(data.path());
        let words = inventory.all().unwrap_err().to_string();
        assert!(
            words.contains("mirrored is damaged") && words.contains("removed"),
            "{words}"
        );
        assert!(inventory.add(kept("two", 2)).is_err());
        assert!(inventory.claim(Hash::of(&[1])).is_err());
        assert!(inventory.gone().is_err());
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    let inventory = Inventory::open(data.path());
    fs::remove_file(&path).unwrap();
    assert!(inventory.all().unwrap().is_empty(), "removing it is enough");
}

#[test]
fn what_was_let_go_is_bounded() {
    let mut list = List::default();
    for number in 0..LET_GO_MAX as u64 + 3 {
        list.let_go(Hash::of(&number.to_le_bytes()));
    }
    assert_eq!(list.let_go.len(), LET_GO_MAX);
    assert_eq!(list.let_go[0], Hash::of(&3_u64.to_le_bytes()));
    list.kept = vec![kept("one", 1); KEPT_MAX];
    assert!(list.add(kept("one", 1)).is_ok(), "it is there already");
    assert!(list.add(kept("two", 1)).is_err());
}
