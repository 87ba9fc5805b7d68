//! The Hub's own clients, unchanged, against the doors of a node that has nothing of what they ask for: only a peer has it.
//!
//! `.ci/run` installs them from their registries and says by these variables where they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use node::config::OnDemand;
use node::http::control::Door;
use node::library::Library;
use node::publish::PublishRequest;
use protocol::{Alias, Kind};
use testnet::nodes::{Testnet, within};
use testnet::{fixture, skip};

use crate::acts::{open_doors, request, unseen};
use crate::relay::{Asked, Relay};

/// The Python that has huggingface_hub 2, transformers and datasets.
const HUB_2: &str = "SHOAL_HUB_2";
/// The Python that has huggingface_hub 0.36.
const HUB_0: &str = "SHOAL_HUB_0";
/// The folder whose `node_modules` has @huggingface/hub and vega-datasets.
const NODE: &str = "SHOAL_NODE_DIR";
/// The folder of the MiniLM package's model.
const MINILM: &str = "SHOAL_MINILM_DIR";

/// Longest that a client may take, installing nothing.
const CLIENT: Duration = Duration::from_secs(240);

/// Longer than what a client sends within a commit: 64 MiB.
const TOO_LARGE: &str = "70000000";

/// Bytes of an answer after which a connection is cut: more than one read of the Python clients, 10 MiB, and less than the file.
const CUT_AFTER: u64 = 15_000_000;

const A: usize = 1;
const C: usize = 2;

/// A has something; C follows A as `alice`, and has the doors.
pub(crate) struct Stage {
    pub(crate) net: Testnet,
    pub(crate) door: Door,
}

impl Stage {
    pub(crate) async fn with(folder: &Path, kind: Kind) -> Stage {
        let net = Testnet::start_with(3, |_, config| config.on_demand = OnDemand::Followed)
            .await
            .unwrap();
        let publish = PublishRequest {
            kind,
            ..request(folder, "model")
        };
        let unseen = unseen();
        within(CLIENT, "publish", net.node(A).publish(publish, &unseen))
            .await
            .unwrap()
            .unwrap();
        let alice = Alias::new("alice").unwrap();
        let library: &Library = net.node(C).library();
        library.follow(net.node(A).library().publisher(), &alice).unwrap();
        let door = open_doors(net.node(C)).await;
        Stage { net, door }
    }

    /// Runs a client until it says that all held.
    async fn run(&self, program: &Path, arguments: &[&str], token: Option<&str>) {
        self.run_with(program, arguments, token, &[]).await;
    }

    /// The same with more variables.
    async fn run_with(
        &self,
        program: &Path,
        arguments: &[&str],
        token: Option<&str>,
        variables: &[(&str, &str)],
    ) {
        let mut command = self.command(program, token, variables);
        command.args(arguments);
        let ran = Stage::end_of(command).await;
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(
            ran.status.success() && said.trim_end().ends_with("all held"),
            "{arguments:?} ended with {}\n{said}\n{}",
            ran.status,
            String::from_utf8_lossy(&ran.stderr)
        );
    }

    /// A client in a world of its own, that knows where the doors are.
    pub(crate) fn command(&self, program: &Path, token: Option<&str>, variables: &[(&str, &str)]) -> Command {
        let home = self.net.scratch().join("home");
        fs::create_dir_all(&home).unwrap();
        let mut command = Command::new("timeout");
        command
            .arg(CLIENT.as_secs().to_string())
            .arg(program)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("HF_HOME", home.join("hf"))
            .env("HF_ENDPOINT", self.endpoint())
            .env("HF_HUB_DISABLE_TELEMETRY", "1")
            .env("HF_HUB_DISABLE_UPDATE_CHECK", "1")
            .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            .env("NO_PROXY", "127.0.0.1,localhost")
            .envs(variables.iter().copied());
        if let Some(token) = token {
            command.env("HF_TOKEN", token);
        }
        if let Ok(node) = std::env::var(NODE) {
            command.current_dir(node);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn end_of(mut command: Command) -> Output {
        let ran = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap();
        ran.unwrap()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.door.address())
    }

    pub(crate) fn token(&self) -> String {
        let token = node::http::UploadToken::load_or_create(self.net.node(C).library().data());
        token.unwrap().text().to_owned()
    }

    pub(crate) async fn end(self) {
        self.door.close().await;
    }
}

/// Where a tool is, if it was installed.
fn installed(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        skip(format!(
            "{variable} does not name an installed client: .ci/run installs them"
        ));
    }
    found
}

fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
    path.to_str().unwrap().to_owned()
}

/// The largest file of [`model`].
pub(crate) const LARGEST: &str = "weights.safetensors";

/// A folder like a model's: small files that the Hub keeps in git, large ones that it does not, and folders.
pub(crate) fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        (LARGEST, 24_000_000),
        ("deep/er/part.bin", 12_000_001),
        ("vocab.txt", 230_000),
        ("empty.txt", 0),
    ];
    fixture::folder(folder.path(), 1, &files).unwrap();
    fs::write(folder.path().join("config.json"), r#"{"model_type": "none"}"#).unwrap();
    fs::write(
        folder.path().join("README.md"),
        "---\nlicense: mit\ntags: [test]\n---\n# A model\n",
    )
    .unwrap();
    folder
}

async fn reads(python: &str) {
    let Some(python) = installed(python) else { return };
    let folder = model();
    let stage = Stage::with(folder.path(), Kind::Model).await;
    let of = folder.path().to_str().unwrap();
    stage
        .run(&python, &[&script("read.py"), "alice/model", of], None)
        .await;
    stage.end().await;
}

async fn writes(python: &str) {
    let Some(python) = installed(python) else { return };
    let folder = model();
    let stage = Stage::with(folder.path(), Kind::Model).await;
    let token = stage.token();
    stage
        .run(&python, &[&script("write.py"), "written"], Some(&token))
        .await;
    stage.end().await;
}

/// Publishes a large file, in a `way` of `large.py`.
async fn writes_large(python: &str, way: &str, variables: &[(&str, &str)]) {
    let Some(python) = installed(python) else { return };
    let folder = model();
    let stage = Stage::with(folder.path(), Kind::Model).await;
    let token = stage.token();
    let arguments = [&script("large.py"), "large", TOO_LARGE, way];
    stage.run_with(&python, &arguments, Some(&token), variables).await;
    stage.end().await;
}

/// Reads through a connection that breaks once, and asks for no byte that it has.
async fn resumes(python: &str) {
    let Some(python) = installed(python) else { return };
    let folder = model();
    let stage = Stage::with(folder.path(), Kind::Model).await;
    let relay = Relay::before(stage.door.address(), LARGEST, CUT_AFTER).await;
    let of = folder.path().to_str().unwrap();
    let arguments = [&script("resume.py"), "alice/model", of, LARGEST];
    let endpoint = relay.url();
    stage
        .run_with(&python, &arguments, None, &[("HF_ENDPOINT", &endpoint)])
        .await;
    let mut gets: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for asked in relay.asked().into_iter().filter(Asked::is_for_bytes) {
        gets.entry(asked.path).or_default().push(asked.range);
    }
    let (_, broken) = gets.iter().find(|(path, _)| path.ends_with(LARGEST)).unwrap();
    let [None, Some(range)] = &broken[..] else {
        panic!("{gets:?}")
    };
    let start = range
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-'));
    let start: u64 = start.unwrap().parse().unwrap();
    assert!(0 < start && start < CUT_AFTER, "{range}");
    let once = gets.values().filter(|asked| asked[..] == [None]).count();
    // All the others, whether an empty one is asked for or not.
    assert!(once == gets.len() - 1 && once >= 4, "{gets:?}");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_huggingface_hub_is_told_what_to_set_for_a_large_file() {
    writes_large(HUB_2, "refused", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_huggingface_hub_publishes_a_large_file_without_xet() {
    writes_large(HUB_2, "lfs", &[("HF_HUB_DISABLE_XET", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huggingface_hub_0_36_publishes_a_large_file_without_hf_xet() {
    // To the client the same as if it were not installed.
    writes_large(HUB_0, "lfs", &[("HF_HUB_DISABLE_XET", "1")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huggingface_hub_0_36_publishes_a_large_file_as_it_is_installed() {
    writes_large(HUB_0, "lfs", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_huggingface_hub_goes_on_after_a_cut_and_asks_for_nothing_twice() {
    resumes(HUB_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huggingface_hub_0_36_goes_on_after_a_cut_and_asks_for_nothing_twice() {
    resumes(HUB_0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_huggingface_hub_reads_what_a_peer_has() {
    reads(HUB_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huggingface_hub_0_36_reads_what_a_peer_has() {
    reads(HUB_0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_huggingface_hub_publishes() {
    writes(HUB_2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn huggingface_hub_0_36_publishes() {
    writes(HUB_0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transformers_load_a_model_from_a_peer() {
    let (Some(python), Some(model)) = (installed(HUB_2), installed(MINILM)) else {
        return;
    };
    let stage = Stage::with(&model, Kind::Model).await;
    stage
        .run(&python, &[&script("transform.py"), "alice/model"], None)
        .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn datasets_load_a_dataset_from_a_peer() {
    let (Some(python), Some(packages)) = (installed(HUB_2), installed(NODE)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let table = packages.join("node_modules/vega-datasets/data/flights-3m.parquet");
    fs::copy(table, folder.path().join("flights-3m.parquet")).unwrap();
    let stage = Stage::with(folder.path(), Kind::Dataset).await;
    stage
        .run(&python, &[&script("dataset.py"), "alice/model", "3000000"], None)
        .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn datasets_and_transformers_publish() {
    let Some(python) = installed(HUB_2) else { return };
    let folder = model();
    let stage = Stage::with(folder.path(), Kind::Model).await;
    let token = stage.token();
    // As for large files: without it, the newest client sends shards by no way but `xet`.
    let plain = [("HF_HUB_DISABLE_XET", "1")];
    stage
        .run_with(&python, &[&script("push.py")], Some(&token), &plain)
        .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_reads_and_publishes() {
    if installed(NODE).is_none() {
        return;
    }
    let folder = model();
    let stage = Stage::with(folder.path(), Kind::Model).await;
    let (endpoint, token) = (stage.endpoint(), stage.token());
    let of = folder.path().to_str().unwrap();
    let arguments = [&script("hub.mjs"), endpoint.as_str(), "alice/model", of, &token];
    stage.run(Path::new("node"), &arguments, None).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_hf_hub_crates_read_what_a_peer_has_and_the_newer_one_publishes() {
    let folder = model();
    let stage = Stage::with(folder.path(), Kind::Model).await;
    let (endpoint, token) = (stage.endpoint(), stage.token());
    let cache = stage.net.scratch().join("cache");
    let of = folder.path().to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let same = |path: PathBuf, name: &str| {
            assert!(
                fs::read(path).unwrap() == fs::read(of.join(name)).unwrap(),
                "{name}"
            );
        };
        let old = hf_hub_04::api::sync::ApiBuilder::new()
            .with_endpoint(endpoint.clone())
            .with_cache_dir(cache.join("0.4"))
            .with_progress(false)
            .build()
            .unwrap();
        let repo = old.model("alice/model".to_owned());
        let files = repo.info().unwrap().siblings;
        assert_eq!(files.len(), 6);
        for file in files {
            same(repo.download(&file.rfilename).unwrap(), &file.rfilename);
        }

        let new = hf_hub::HFClient::builder()
            .endpoint(endpoint)
            .cache_dir(cache.join("1"))
            .token(token)
            .build_sync()
            .unwrap();
        let repo = new.model("alice", "model");
        let files = repo.info().send().unwrap().siblings.unwrap();
        assert_eq!(files.len(), 6);
        for file in files {
            let path = repo.download_file().filename(file.rfilename.clone()).send();
            same(path.unwrap(), &file.rfilename);
        }
        let written = new.model("local", "from-rust");
        let source = hf_hub::repository::AddSource::Bytes(b"hello".to_vec().into());
        let upload = written.upload_file().source(source).path_in_repo("a.txt");
        upload.commit_message("from Rust").send().unwrap();
        let back = written.download_file().filename("a.txt".to_owned()).send();
        assert_eq!(fs::read(back.unwrap()).unwrap(), b"hello");
    });
    within(CLIENT, "both crates", reading).await.unwrap().unwrap();
    stage.end().await;
}
