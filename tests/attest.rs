//! Attestations: told to who asks, believed by their signature, counted by who is followed.

use std::fs;

use node::attest::{Kept, Standing};
use protocol::{Hash, SignedAttestation, Verdict};
use testnet::fixture;
use testnet::hostile::{Behaviour, Hostile, HostileOptions};
use testnet::nodes::Testnet;

use crate::acts::{fetch, publish};
use crate::program::{self, Shoal, field, text};

const B: usize = 0;
const A: usize = 1;
const C: usize = 2;

/// The standing of a model with a node.
fn standing(net: &Testnet, index: usize, manifest: Hash) -> Standing {
    net.node(index).library().standing(manifest).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn attestation_reaches_who_asks_and_counts_once_its_key_is_followed() {
    let net = Testnet::start(3).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::toy_model(&folder, 1).unwrap();
    let (published, _) = publish(net.node(A), &folder, "model").await;
    let key = fixture::publisher_key(&net.data(A)).unwrap();
    let signed = fixture::attestation(&key, published.manifest, 2.0);
    assert_eq!(net.node(A).library().attested(&signed).unwrap(), Kept::New);
    assert_eq!(standing(&net, A, published.manifest).here, Some(Verdict::Passed));

    // Of a model that is not here nothing is kept.
    assert_eq!(net.node(C).gather_attestations(published.manifest).await, 0);
    fetch(net.node(C), &published.repo, None).await;
    // It is asked for when a model has come; nobody has to look.
    let came = async || (standing(&net, C, published.manifest).others > 0).then_some(());
    net.until("the attestation", came).await.unwrap();
    assert_eq!(net.node(C).gather_attestations(published.manifest).await, 0);

    let stranger = standing(&net, C, published.manifest);
    assert_eq!((stranger.reproduced, stranger.others), (0, 1));
    let library = net.node(C).library();
    library
        .follow(published.repo.publisher, &"friend".parse().unwrap())
        .unwrap();
    let followed = standing(&net, C, published.manifest);
    assert_eq!((followed.reproduced, followed.others), (1, 0));
    // Our own result decides who agrees, and the newer of one key counts.
    let ours = fixture::publisher_key(&net.data(C)).unwrap();
    let other = fixture::attestation(&ours, published.manifest, 3.0);
    assert_eq!(library.attested(&other).unwrap(), Kept::New);
    let against = standing(&net, C, published.manifest);
    assert_eq!((against.reproduced, against.disagree), (0, 1));
    // It is told on, too.
    assert_eq!(net.node(A).gather_attestations(published.manifest).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attestations_survive_a_restart_and_a_rebuilt_catalog() {
    let mut net = Testnet::start(1).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::toy_model(&folder, 1).unwrap();
    let (published, _) = publish(net.node(B), &folder, "model").await;
    let key = fixture::publisher_key(&net.data(B)).unwrap();
    let signed = fixture::attestation(&key, published.manifest, 2.0);
    net.node(B).library().attested(&signed).unwrap();
    net.restart(B).await.unwrap();
    assert_eq!(standing(&net, B, published.manifest).here, Some(Verdict::Passed));
    net.node(B).library().rebuild_catalog().await.unwrap();
    assert_eq!(standing(&net, B, published.manifest).here, Some(Verdict::Passed));
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_floods_or_forges_attestations_gains_nothing() {
    let net = Testnet::start(2).await.unwrap();
    let folder = net.scratch().join("model");
    fixture::toy_model(&folder, 1).unwrap();
    let (published, _) = publish(net.node(A), &folder, "model").await;
    let manifest = published.manifest;
    let friend = fixture::stranger(200);
    let library = net.node(A).library();
    let by = fixture::attestation(&friend, manifest, 2.0).attestation().by;
    library.follow(by, &"friend".parse().unwrap()).unwrap();

    let hostile = async |attestations: Vec<Vec<u8>>| {
        let options = HostileOptions {
            attestations,
            ..HostileOptions::new(&folder, Behaviour::Honest)
        };
        let hostile = Hostile::start_with(options).await.unwrap();
        let address = hostile.addresses().remove(0);
        net.node(A).swarm().dial(address).await.unwrap();
        let new = net.node(A).gather_attestations(manifest).await;
        hostile.stop().await;
        new
    };
    let encoded = |signed: SignedAttestation| signed.encode().to_vec();
    // Of a friend, with one bit changed; and about another model, moved to this one by hand or not.
    let mut forged = encoded(fixture::attestation(&friend, manifest, 2.0));
    *forged.last_mut().unwrap() ^= 1;
    let other = Hash::of(b"another model");
    let elsewhere = encoded(fixture::attestation(&friend, other, 2.0));
    let moved = String::from_utf8_lossy(&elsewhere[64..]).replace(&other.to_string(), &manifest.to_string());
    let moved = [&elsewhere[..64], moved.as_bytes()].concat();
    for lie in [forged, elsewhere, moved, b"noise".to_vec()] {
        assert_eq!(hostile(vec![lie]).await, 0);
    }
    assert_eq!(standing(&net, A, manifest), Standing::default());

    // As many keys as anybody likes: a few are kept, none counts, and a friend still finds room.
    let flood =
        (0..64).map(|number| encoded(fixture::attestation(&fixture::stranger(number), manifest, 9.0)));
    let kept = hostile(flood.collect()).await;
    assert!((1..=16).contains(&kept), "{kept}");
    assert_eq!(
        hostile(vec![encoded(fixture::attestation(&friend, manifest, 2.0))]).await,
        1
    );
    let stands = standing(&net, A, manifest);
    assert_eq!((stands.reproduced, stands.disagree, stands.others), (1, 0, kept));
}

#[test]
fn attestations_are_carried_by_hand_in_a_file() {
    let toy = program::toy();
    let model = toy.path().join("toy-model");
    let (giver, taker) = (Shoal::new(), Shoal::new());
    let published = giver.publish(&model, &[]);
    let manifest: Hash = field(&published, "manifest").parse().unwrap();
    let name = format!("blake3/{manifest}");
    // The same folder is the same model, whoever publishes it.
    assert_eq!(
        field(&taker.publish(&model, &[]), "manifest"),
        manifest.to_string()
    );

    let file = toy.path().join("all.attestations");
    let nothing = giver.fails(1, &["attest", "export", &name, "--out", text(&file)]);
    assert!(nothing.stderr.contains("hint: shoal validate"), "{nothing:?}");
    let key = fixture::publisher_key(giver.data()).unwrap();
    let signed = fixture::attestation(&key, manifest, 2.0);
    fs::write(&file, protocol::attestation::encode_bundle(&[signed])).unwrap();
    let import = |shoal: &Shoal| shoal.json(&["attest", "import", text(&file)]);
    assert_eq!(import(&giver)["new"], 1);
    assert_eq!(import(&giver)["known"], 1);
    fs::remove_file(&file).unwrap();
    giver.json(&["attest", "export", &name, "--out", text(&file)]);
    assert_eq!(import(&taker)["new"], 1);
    assert_eq!(import(&Shoal::new())["unknown"], 1);

    let listed = taker.json(&["attest", "ls"]);
    assert_eq!(
        (&listed[0]["own"], &listed[0]["levels"][2]),
        (&false.into(), &"passed".into())
    );
    let shown = taker.json(&["show", &name]);
    assert_eq!(
        (&shown["standing"]["others"], &shown["standing"]["reproduced"]),
        (&1.into(), &0.into())
    );
    taker.run(&[
        "follow",
        field(&giver.json(&["id"]), "publisher"),
        "--as",
        "giver",
    ]);
    let said = taker.run(&["show", &name]);
    assert!(said.stdout.contains("reproduced by 1 key you follow"), "{said:?}");
    assert!(taker.run(&["attest", "ls", &name]).stdout.contains("giver"));

    // A daemon does the same.
    let up = taker.up();
    assert_eq!(import(&taker)["known"], 1);
    assert_eq!(taker.json(&["attest", "ls", &name])[0]["alias"], "giver");
    giver.json(&["attest", "ls"]);
    taker.json(&["attest", "export", &name, "--out", text(&file)]);
    drop(up);

    let mut spoiled = fs::read(&file).unwrap();
    *spoiled.last_mut().unwrap() ^= 1;
    fs::write(&file, spoiled).unwrap();
    let said = giver.fails(1, &["attest", "import", text(&file)]);
    assert!(said.stderr.contains("attestation number 1"), "{said:?}");
}
