//! What C learns without asking anybody: A's release by its words, and A's next one because C follows A.

use std::path::Path;
use std::time::{Duration, Instant};

use node::discovery::{Hit, SearchAsk};
use node::node::Node;
use node::progress::Progress;
use node::publish::Published;
use protocol::Alias;
use tokio::time::{interval, timeout};

use super::request;
use super::steps::{Step, Steps};
use crate::failure::Failure;

/// How long what is passed on may take on one machine.
const PASSED_ON_TIMEOUT: Duration = Duration::from_secs(30);

/// From one look at what is known to the next.
const LOOK: Duration = Duration::from_millis(20);

/// C searches what it knows by now, offline.
pub(super) async fn search(
    c: &Node,
    published: &Published,
    steps: &mut Steps<'_, '_>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let found = found(c, published, 1).await?;
    let words = published.repo.name.as_str();
    let held = found.is_some();
    let text = match held {
        true => format!("C, which others told of it, found it by its words, {words:?}, and asked nobody"),
        false => format!("C did not find it by its words, {words:?}"),
    };
    steps.done(Step::new("search", begun).held(held).text(text))
}

/// C follows A, and A releases again.
pub(super) async fn next_release(
    a: &Node,
    c: &Node,
    published: &Published,
    folder: &Path,
    steps: &mut Steps<'_, '_>,
) -> Result<(), Failure> {
    let alias: Alias = "a".parse()?;
    c.library().follow(published.repo.publisher, &alias)?;
    let next = folder.join("next");
    std::fs::create_dir(&next)?;
    std::fs::write(next.join("README.md"), "The next one.\n")?;
    let mut request = request(&next);
    request.name = Some(published.repo.name.clone());
    let (second, _) = a.publish(request, &Progress::default()).await?;
    let begun = Instant::now();
    let found = found(c, published, second.seq).await?;
    let held = found.is_some_and(|hit| hit.manifest == second.manifest && hit.alias == Some(alias));
    let text = match held {
        true => format!(
            "C followed A; A released it again, and C had release {} without asking",
            second.seq
        ),
        false => "C followed A, and its next release did not come".to_owned(),
    };
    steps.done(Step::new("follow", begun).held(held).text(text))
}

/// Waits until C finds a release by the words of its name, at least of this number.
async fn found(c: &Node, published: &Published, seq: u64) -> Result<Option<Hit>, Failure> {
    let ask = SearchAsk {
        words: published.repo.name.to_string(),
        publisher: Some(published.repo.publisher),
        ..SearchAsk::default()
    };
    let look = async {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let (discovery, ask) = (c.discovery().clone(), ask.clone());
            let answer = tokio::task::spawn_blocking(move || discovery.search(&ask)).await??;
            let newest = |hit: &Hit| hit.repo == published.repo && hit.seq >= seq;
            if let Some(hit) = answer.hits.into_iter().find(newest) {
                return Ok::<_, Failure>(hit);
            }
        }
    };
    timeout(PASSED_ON_TIMEOUT, look).await.ok().transpose()
}
