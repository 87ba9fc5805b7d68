//! C runs what it fetched, and validates it.

use std::path::Path;
use std::time::Instant;

use node::node::Node;
use node::progress::Progress;
use node::run::{Answer, RunOptions, Talk, talk};
use node::validate::{PROBES_PATH, ProbeRequest, ValidateRequest, make_probes_in};
use protocol::RepoRef;

use super::steps::{Step, Steps};
use crate::failure::Failure;
use crate::meter::Meter;
use crate::output;

/// What the model is given.
const PROMPT: &str = "A model hub with no centre";

/// Tokens that it may go on for.
const TOKENS: usize = 32;

/// Writes down what the model in a folder does, for whoever fetches it to compare.
pub(super) async fn probe(source: &Path, steps: &mut Steps<'_, '_>) -> Result<(), Failure> {
    let begun = Instant::now();
    let request = ProbeRequest {
        file: None,
        memory: None,
        program: None,
    };
    let made = make_probes_in(source.to_owned(), &request, &Progress::default()).await?;
    tokio::fs::write(source.join(PROBES_PATH), made.file).await?;
    let count = output::count(made.probes, "probe");
    let text = format!("ran it, and wrote {count} beside it: what comes out must be the same elsewhere");
    steps.done(Step::new("probe", begun).text(text))
}

/// Runs the model and validates it. A folder of the user's that holds no model which runs is no fault of ours: that is said, and `ours`
/// is the only one that must.
pub(super) async fn run(
    node: &Node,
    repo: &RepoRef,
    ours: bool,
    steps: &mut Steps<'_, '_>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    match answer(node, repo, steps).await {
        Ok(text) => steps.done(Step::new("run", begun).text(text))?,
        Err(failure) => {
            let text = format!("C cannot run it: {}", failure.chain.join(": "));
            return steps.done(Step::new("run", begun).held(!ours).text(text));
        }
    }
    validate(node, repo, ours, steps).await
}

async fn answer(node: &Node, repo: &RepoRef, steps: &mut Steps<'_, '_>) -> Result<String, Failure> {
    let library = node.library();
    let ready = library.ready(repo, None).await?;
    let options = RunOptions::default();
    let (progress, snapshots) = Progress::channel();
    let loading = library.load(&ready, &options, &progress);
    let (mut engine, loaded) = Meter::new(steps.context())
        .watch(snapshots, loading, steps.context())
        .await?;
    let what = Talk {
        messages: vec![node::engine::wire::Message {
            role: "user".to_owned(),
            content: PROMPT.to_owned(),
        }],
        raw: true,
        max_tokens: Some(TOKENS),
        temperature: 0.0,
        top_p: None,
        seed: 0,
    };
    let answered = talk(&mut engine, &loaded, what, |_| ()).await;
    engine.end().await;
    let came = match answered? {
        Answer::Nothing => "nothing".to_owned(),
        Answer::Embedding { values, .. } => format!("an embedding of {} numbers", values.len()),
        Answer::Generated(generated) => {
            let count = output::count(generated.tokens as u64, "token");
            let rate = generated.tokens as f64 / generated.tokens_s.max(f64::EPSILON);
            format!("{count}, {rate:.0} a second")
        }
    };
    Ok(format!(
        "C ran it, a {}, in a process without files or network: {came}",
        loaded.architecture
    ))
}

async fn validate(node: &Node, repo: &RepoRef, ours: bool, steps: &mut Steps<'_, '_>) -> Result<(), Failure> {
    let begun = Instant::now();
    let (progress, snapshots) = Progress::channel();
    let work = node.validate(ValidateRequest::new(repo.clone()), &progress);
    let report = Meter::new(steps.context())
        .watch(snapshots, work, steps.context())
        .await?;
    let lines = report
        .lines()
        .map(|(name, line)| format!("{name} {}", output::verdict(line.verdict)));
    let passed = report
        .lines()
        .iter()
        .all(|(_, line)| line.verdict == protocol::Verdict::Passed);
    let text = format!("C validated it, and signed what it found: {}", lines.join(", "));
    steps.done(Step::new("validate", begun).held(passed || !ours).text(text))
}
