//! What writes to a disk while its power is cut: publishes copies for ever, and says on stdout what it may be held to.
//!
//! `writer library DATA SOURCE SEED` works as a node does on the data folder DATA; SOURCE is where it makes what it publishes. Its lines:
//! `published REPO MANIFEST SEQ` once a publish was acknowledged, and `forgetting REPO` before it lets one go. `writer sled FOLDER` is the
//! control: sled as it is, `wrote NUMBER` after each flush.

#![allow(clippy::print_stdout, reason = "its lines are what it is for")]

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use node::library::Library;
use node::progress::Progress;
use node::publish::PublishRequest;
use protocol::RepoRef;

/// Repos kept at a time; the oldest is let go when there are more.
const KEPT: u64 = 8;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["library", data, source, seed] => {
            library(
                Path::new(data),
                Path::new(source),
                seed.parse().context("a seed")?,
            )
            .await
        }
        ["sled", folder] => raw_sled(Path::new(folder)),
        _ => bail!("writer library DATA SOURCE SEED, or writer sled FOLDER"),
    }
}

async fn library(data: &Path, source: &Path, seed: u64) -> Result<()> {
    let library = Library::open(data).await?;
    for round in 0.. {
        let model = source.join("model");
        write_model(&model, seed.wrapping_add(round))?;
        // A name of its own, and in every second round one that goes from release to release.
        let names = [format!("model-{round}"), "moving".to_owned()];
        for name in names.iter().take(if round % 2 == 0 { 2 } else { 1 }) {
            let request = PublishRequest {
                copy: true,
                name: Some(name.parse()?),
                ..PublishRequest::new(&model)
            };
            let published = library.publish(request, &Progress::default()).await?;
            println!(
                "published {} {} {}",
                published.repo, published.manifest, published.seq
            );
        }
        if let Some(old) = round.checked_sub(KEPT) {
            let repo = format!("{}/model-{old}", library.publisher());
            println!("forgetting {repo}");
            library.forget(&repo.parse::<RepoRef>()?).await?;
        }
    }
    Ok(())
}

/// A few small files, one of one shard, one of several.
fn write_model(folder: &Path, seed: u64) -> Result<()> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    for (name, len) in [
        ("large.bin", 2_600_000),
        ("shard.bin", 200_000),
        ("row.bin", 9_000),
        ("config.json", 300),
    ] {
        let mut bytes = vec![0; len];
        blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .update(name.as_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

fn raw_sled(folder: &Path) -> Result<()> {
    let database = sled::open(folder)?;
    for number in 0u64.. {
        database.insert(number.to_be_bytes(), vec![number as u8; 400])?;
        database.flush()?;
        println!("wrote {number}");
    }
    Ok(())
}
