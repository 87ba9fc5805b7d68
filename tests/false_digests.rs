//! No file goes out whole under a digest that it does not have, whoever signed for it.

use std::fs::Permissions;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use node::config::OnDemand;
use node::http::control::Door;
use node::node::Limits;
use node::progress::Progress;
use node::verify::{Reason, Report};
use protocol::{FileEntry, GitId, Hash, RepoRef, Sha256};
use tempfile::TempDir;
use testnet::fixture;
use testnet::hostile::{Behaviour, Hostile, HostileOptions};
use testnet::nodes::{Testnet, within};
use tokio::task::spawn_blocking;

use crate::acts::open_doors;
use crate::gateway::{drain, get, head};

/// Longest that anything may take.
const DEADLINE: Duration = Duration::from_secs(90);

/// A range that nobody understands, so that all of the file is sent.
const ALL: &str = "all";

const LARGE: u64 = (4 << 20) + 7;
const FALSE: [&str; 2] = ["false.bin", "false.json"];
const FILES: [(&str, u64); 4] = [
    ("true.json", 500),
    ("true.bin", LARGE),
    (FALSE[0], LARGE),
    (FALSE[1], 500),
];

/// Names files by digests that they do not have.
fn lie(file: FileEntry) -> FileEntry {
    match file.path.as_str() {
        "false.bin" => FileEntry {
            sha256: Some(Sha256::from_bytes([7; 32])),
            ..file
        },
        "false.json" => FileEntry {
            sha1: Some(GitId::from_bytes([7; 20])),
            ..file
        },
        _ => file,
    }
}

/// A node that fetches whatever it is asked for, and a publisher who sends right bytes and says what is not so of some.
struct World {
    net: Testnet,
    liar: Hostile,
    door: Door,
    folder: TempDir,
}

impl World {
    async fn new() -> World {
        let net = Testnet::start_with(2, |_, config| config.on_demand = OnDemand::Any)
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        fixture::folder(folder.path(), 1, &FILES).unwrap();
        let liar = Hostile::start_with(HostileOptions {
            peers: net.meeting_point(),
            says: lie,
            ..HostileOptions::new(folder.path(), Behaviour::Honest)
        })
        .await
        .unwrap();
        liar.announce().await.unwrap();
        let door = open_doors(net.node(1)).await;
        World {
            net,
            liar,
            door,
            folder,
        }
    }

    fn at(&self, path: &str) -> String {
        format!("/blake3/{}/resolve/main/{path}", self.liar.manifest().hash())
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(path)).unwrap()
    }

    /// Reads a part of a file until the connection ends.
    async fn read(&self, path: &str, range: &str) -> (String, Vec<u8>) {
        let (at, path) = (self.door.address(), self.at(path));
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nRange: {range}\r\nConnection: close\r\n\r\n");
        let reading = spawn_blocking(move || {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            drain(stream)
        });
        within(DEADLINE, "an end", reading).await.unwrap().unwrap()
    }

    async fn verify(&self) -> Report {
        let what = RepoRef::Content(self.liar.manifest().hash());
        let unseen = Progress::default();
        let verified = self.net.node(1).library().verify(&what, &unseen);
        within(DEADLINE, "a verification", verified)
            .await
            .unwrap()
            .unwrap()
    }

    async fn idle(&self) {
        let idle = async || self.net.node(1).jobs().is_empty().then_some(());
        self.net.until("the fetches to end", idle).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_comes_under_a_false_digest_is_broken_off_and_then_refused() {
    let world = World::new().await;
    // All is well for a file that has the digest it is named by, while it comes and when it is here.
    for _ in 0..2 {
        for path in ["true.bin", "true.json"] {
            let answer = get(&world.door, &world.at(path), &[]).await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(answer.body == world.bytes(path), "{path}");
        }
    }
    let (said, body) = world.read("false.bin", ALL).await;
    assert!(
        said.starts_with("http/1.1 200") && said.contains(&format!("content-length: {LARGE}")),
        "{said}"
    );
    assert!((body.len() as u64) < LARGE, "all of it went out");
    assert!(body == world.bytes("false.bin")[..body.len()]);
    world.idle().await;
    // Now that it is known, it is said at once: to who wants all of it, a part, or its head.
    for path in FALSE {
        let address = world.at(path);
        for headers in [&[][..], &[("Range", "bytes=0-9")], &[("Range", "bytes=-9")]] {
            let answer = get(&world.door, &address, headers).await;
            assert_eq!(answer.status, 422, "{path} {headers:?}");
            let said = answer.header("x-error-message");
            assert!(
                said.contains(path) && said.contains("its publisher says"),
                "{said}"
            );
        }
        assert_eq!(head(&world.door, &address, &[]).await.status, 422, "{path}");
    }
    // Nor as a layer of an image.
    let id = format!("blake3/{}", world.liar.manifest().hash());
    let layer = format!("/v2/{id}/blobs/sha256:{}", Sha256::from_bytes([7; 32]));
    assert_eq!(get(&world.door, &layer, &[]).await.status, 422);
    // The bytes are right, and still had by their own name; what is said of them is not.
    let report = world.verify().await;
    let found = report.bad.iter().map(|bad| (bad.path.as_str(), bad.reason));
    assert_eq!(
        found.collect::<Vec<_>>(),
        FALSE.map(|path| (path, Reason::FalseDigest))
    );
    let damaged = world.net.node(1).status().await.unwrap().damaged;
    assert!(damaged.is_empty(), "{damaged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_file_never_add_up_to_it_under_a_false_digest() {
    let world = World::new().await;
    let half = LARGE / 2;
    // A look at a file that is not here yet is answered: there is nothing to hold its digest against.
    let slowly = Limits {
        down: Some(1 << 20),
        ..Limits::default()
    };
    world.net.node(1).set_limits(slowly);
    let looked = world.read("false.bin", "bytes=0-99").await;
    world.net.node(1).set_limits(Limits::default());
    assert!(looked.0.starts_with("http/1.1 206"), "{}", looked.0);
    assert_eq!(looked.1.len(), 100);
    // In whatever order the rest is read, the last of it makes it whole.
    let end = world.read("false.bin", &format!("bytes={half}-")).await;
    let middle = world.read("false.bin", &format!("bytes=100-{}", half - 1)).await;
    let parts = [looked, end, middle];
    let came: usize = parts
        .iter()
        .map(|(said, body)| match said.starts_with("http/1.1 206") {
            true => body.len(),
            false => 0,
        })
        .sum();
    assert!((came as u64) < LARGE, "all of it went out");
    world.idle().await;
    let answer = get(&world.door, &world.at("false.bin"), &[]).await;
    assert_eq!(answer.status, 422);
    let answer = get(&world.door, &world.at("true.bin"), &[("Range", "bytes=5-9")]).await;
    assert!(answer.body == world.bytes("true.bin")[5..10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learnt_of_a_digest_outlives_the_node() {
    let mut world = World::new().await;
    for path in ["true.bin", "false.bin"] {
        world.read(path, ALL).await;
    }
    world.idle().await;
    world.net.restart(1).await.unwrap();
    let door = open_doors(world.net.node(1)).await;
    let hash = |path: &str| -> Hash { world.liar.manifest().file(path).unwrap().blake3 };
    // With a byte of it gone bad it could not be hashed again.
    let name = hash("false.bin").to_string();
    let file = world.net.data(1).join("files").join(&name[..2]).join(&name);
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    fixture::keep_times(&file, || fixture::flip(&file, 5)).unwrap();
    let answer = head(&door, &world.at("false.bin"), &[]).await;
    assert_eq!(answer.status, 422);
    assert!(get(&door, &world.at("true.bin"), &[]).await.body == world.bytes("true.bin"));
}
