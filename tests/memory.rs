//! How much memory a node needs does not depend on how much it fetches, or from how many.

use std::path::Path;
use std::time::Instant;

use futures::future::join_all;
use libp2p::{Multiaddr, PeerId};
use protocol::{FileEntry, Hash, Manifest, RepoPath, ShardMap};
use serde_json::Value;
use testnet::disk::{DiskError, SmallDisk};
use testnet::hostile::{Behaviour, Hostile, HostileOptions};
use testnet::nodes::{DEADLINE, Process, ShoalProcess, UpOptions, shoal, within};
use testnet::skip;

use crate::program;

const GIB: u64 = 1 << 30;
/// Files of 5 GiB, as large models have.
const FILES: u64 = 20;
/// Peers that have some of them and give nothing.
const PEERS: u32 = 63;
/// So many of them have to take part at once: now and then one is just coming back.
const PEERS_MIN: usize = 60;
/// Most memory that may be resident, in bytes.
const RSS_MAX: u64 = 256 << 20;

/// A manifest of 100 GiB that nobody has.
fn manifest() -> Manifest {
    let file = |number: u64| FileEntry {
        path: RepoPath::new(&format!("model-{number:05}-of-{FILES:05}.safetensors")).unwrap(),
        size: 5 * GIB + number,
        blake3: Hash::of(&number.to_le_bytes()),
        sha256: Some(format!("{number:064x}").parse().unwrap()),
        sha1: None,
    };
    Manifest::new((0..FILES).map(file).collect()).unwrap()
}

/// Most memory of a process that was ever resident, in bytes.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Looks at the one job until enough peers take part in it; returns the most there were.
fn most_peers(data: &Path, shards: u32) -> usize {
    let (begun, mut most) = (Instant::now(), 0);
    while most < PEERS_MIN && begun.elapsed() < DEADLINE {
        let said = shoal(program::path(), data, &["jobs", "--json"]).unwrap();
        let jobs = said.json().unwrap();
        if let Some(total) = jobs
            .pointer("/0/shards_total")
            .and_then(Value::as_u64)
            .filter(|total| *total > 0)
        {
            assert_eq!(total, u64::from(shards));
        }
        let peers = jobs.pointer("/0/peers").and_then(Value::as_array);
        most = most.max(peers.map_or(0, Vec::len));
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_gigabytes_from_sixty_peers_take_little_memory() {
    // Room for all of it, of which nothing is ever written.
    let disk = match SmallDisk::tmpfs(120 * GIB, 100_000) {
        Ok(disk) => disk,
        Err(error @ DiskError::Unavailable { .. }) => return skip(error),
        Err(error) => panic!("{error}"),
    };
    let data = disk.path().join("data");
    let node = ShoalProcess::up(program::path(), &data, UpOptions::default()).unwrap();
    let address = node.ready().listen[0].parse().unwrap();
    let peer: PeerId = node.ready().peer_id.parse().unwrap();
    let manifest = manifest();
    let shards = ShardMap::new(&manifest).unwrap().count();
    let mut peers = Vec::new();
    for number in 0..PEERS {
        // Each has a third, all of them together everything.
        let first = number * (shards / PEERS) * 2 / 3;
        let options = HostileOptions {
            claims: Some(manifest.clone()),
            holds: Some(first..first + shards / 3),
            peers: vec![node.ready().listen[0].parse().unwrap()],
            ..HostileOptions::new(disk.path(), Behaviour::Nothing)
        };
        peers.push(Hostile::start_with(options).await.unwrap());
    }
    let ticket = peers[0].ticket().to_string();
    let mut command = std::process::Command::new(program::path());
    command.arg("--data").arg(&data).args(["fetch", &ticket]);
    let _fetch = Process::spawn(command).unwrap();
    let (first, others) = peers.split_first().unwrap();
    first.until_asked(|asked| asked.have > 0).await.unwrap();
    let joined = others.iter().map(|other| async {
        within(DEADLINE, "a dial", other.swarm().dial(Multiaddr::clone(&address)))
            .await
            .unwrap()
            .unwrap();
        // The node sends it away until its fetch has begun, and whenever it gave nothing for too long.
        loop {
            let _ = other.join(peer).await;
        }
    });
    let watched = data.clone();
    let counted = tokio::task::spawn_blocking(move || most_peers(&watched, shards));
    let seen = tokio::select! {
        _ = join_all(joined) => unreachable!("they come again and again"),
        seen = counted => seen.unwrap(),
    };
    assert!(seen >= PEERS_MIN, "{seen} peers take part");
    let resident = peak(node.id());
    assert!(resident <= RSS_MAX, "{} MiB", resident >> 20);
    eprintln!("{} MiB for {seen} peers and 100 GiB", resident >> 20);
    for hostile in peers {
        hostile.stop().await;
    }
}
