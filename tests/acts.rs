//! What the tests do with nodes, in one word each. Whatever goes wrong ends the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use node::http::control::{self, Door};
use node::library::Library;
use node::node::Node;
use node::progress::Progress;
use node::publish::{PublishRequest, Published};
use node::verify::Report;
use node::{fetch::FetchError, fetch::FetchRequest, fetch::FetchWhat, fetch::Fetched};
use protocol::{RepoId, RepoName, RepoRef, Ticket};
use testnet::nodes::within;
use ureq::Agent;

/// Longest that one act of a test may take.
const ACT: Duration = Duration::from_secs(90);

/// How long a fetch waits while nobody has what it wants.
const WAIT: Duration = Duration::from_secs(20);

/// Opens the doors of a node, on any port.
pub(crate) async fn open_doors(node: &Node) -> Door {
    control::serve(node.clone(), ([127, 0, 0, 1], 0).into())
        .await
        .unwrap()
}

/// A tool that asks at doors, and takes every answer as it is.
pub(crate) fn tool() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .timeout_global(Some(ACT));
    config.build().into()
}

/// Nobody watches.
pub(crate) fn unseen() -> Progress {
    Progress::default()
}

/// Asks to publish a folder under a name.
pub(crate) fn request(folder: &Path, name: &str) -> PublishRequest {
    PublishRequest {
        name: Some(RepoName::from_str(name).unwrap()),
        ..PublishRequest::new(folder)
    }
}

/// Publishes a folder by reference.
pub(crate) async fn publish(node: &Node, folder: &Path, name: &str) -> (Published, Ticket) {
    publish_as(node, request(folder, name)).await
}

/// Publishes a folder by copying it.
pub(crate) async fn publish_copy(node: &Node, folder: &Path, name: &str) -> (Published, Ticket) {
    publish_as(
        node,
        PublishRequest {
            copy: true,
            ..request(folder, name)
        },
    )
    .await
}

async fn publish_as(node: &Node, request: PublishRequest) -> (Published, Ticket) {
    let unseen = unseen();
    within(ACT, "publish", node.publish(request, &unseen))
        .await
        .unwrap()
        .unwrap()
}

/// What can be fetched.
pub(crate) trait What {
    fn what(self) -> FetchWhat;
}

impl What for &RepoId {
    fn what(self) -> FetchWhat {
        FetchWhat::Repo(RepoRef::Id(self.clone()))
    }
}

impl What for &RepoRef {
    fn what(self) -> FetchWhat {
        FetchWhat::Repo(self.clone())
    }
}

impl What for &str {
    fn what(self) -> FetchWhat {
        FetchWhat::Repo(self.parse().unwrap())
    }
}

impl What for &Ticket {
    fn what(self) -> FetchWhat {
        FetchWhat::Ticket(self.clone())
    }
}

/// Fetches, and hands out to `to`.
pub(crate) async fn fetch(node: &Node, what: impl What, to: Option<&Path>) -> Fetched {
    try_fetch(node, what, to).await.unwrap()
}

/// Fetches what may not be had.
pub(crate) async fn try_fetch(
    node: &Node,
    what: impl What,
    to: Option<&Path>,
) -> Result<Fetched, FetchError> {
    let request = FetchRequest {
        to: to.map(PathBuf::from),
        wait: Some(WAIT),
        ..FetchRequest::new(what.what())
    };
    within(ACT, "fetch", node.fetch(request, &unseen()))
        .await
        .unwrap()
}

/// Verifies what a library has of a repo.
pub(crate) async fn verify(library: &Library, repo: &RepoId) -> Report {
    let (repo, unseen) = (RepoRef::Id(repo.clone()), unseen());
    within(ACT, "verify", library.verify(&repo, &unseen))
        .await
        .unwrap()
        .unwrap()
}

/// Verifies that a library has all of a repo as it was published.
pub(crate) async fn assert_verifies(library: &Library, repo: &RepoId) {
    let report = verify(library, repo).await;
    assert!(report.ok, "{repo}: {:?}", report.bad);
}

/// Makes all files of a folder an hour old, so that their times prove that they have not changed since they were read.
pub(crate) fn age(folder: &Path) {
    let then = SystemTime::now() - Duration::from_secs(3600);
    for path in files(folder) {
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(then)
            .unwrap();
    }
}

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path())
            } else {
                found.push(entry.path())
            }
        }
    }
    found.sort();
    found
}

/// Bytes of all files below a folder.
pub(crate) fn bytes_in(folder: &Path) -> u64 {
    files(folder)
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum()
}
