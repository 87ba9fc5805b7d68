//! The plan in swarms made up from a seed, without a socket and without waiting.

mod crowd;
mod world;

use protocol::SHARD_LEN;
use rand::{Rng, rngs::StdRng};
use world::World;

/// Seeded runs of the simulation.
const RUNS: u64 = 10_000;

#[test]
fn every_swarm_with_a_live_full_copy_completes_and_no_rule_is_broken() {
    let threads = 2;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (0..RUNS).filter(|seed| seed % threads == thread) {
                    World::new(seed).run();
                }
            });
        }
    });
}

/// Lengths of blobs that have at most about `most` shards together.
fn lens(random: &mut StdRng, most: u64) -> Vec<u64> {
    let mut lens = Vec::new();
    let mut left = random.random_range(1..=most);
    while left > 0 {
        let shards = random.random_range(1..=left);
        if random.random_bool(0.4) {
            let small = shards.min(20);
            lens.extend((0..small).map(|_| random.random_range(1..=SHARD_LEN)));
            left -= small;
        } else {
            lens.push((shards - 1) * SHARD_LEN + random.random_range(1..=SHARD_LEN));
            left -= shards;
        }
    }
    lens
}
