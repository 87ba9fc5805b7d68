//! What this node has: `ls`, `show`, `ticket`, `pin`, `forget`, `collect`.

use node::attest::Standing;
use node::card::Card;
use node::check::facts::Facts;
use node::http::messages::TicketAnswer;
use node::library::{RepoView, Shown};
use protocol::{Hash, RepoRef, Verdict};
use serde::Serialize;

use super::deny::denied;
use crate::args::{Repo, Show};
use crate::context::Context;
use crate::failure::Failure;
use crate::markdown;
use crate::output::{self, Side};
use crate::session::Session;

/// Lines of a card that are shown beside all else: what it is stands at its beginning.
const CARD_LINES: usize = 20;

/// What `pin --json` prints.
#[derive(Serialize)]
struct Pinned {
    pinned: String,
}

pub(crate) async fn list(context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let repos = session.list();
    session.close().await;
    let repos = repos?;
    if context.json {
        return Ok(context.print_json(&repos)?);
    }
    if repos.is_empty() {
        context.note(format_args!(
            "nothing yet: shoal publish DIR or shoal fetch REPO adds something"
        ));
    }
    let heading = [
        ("KIND", Side::Left),
        ("SIZE", Side::Right),
        ("FILES", Side::Right),
        ("RELEASE", Side::Right),
        ("STATE", Side::Left),
        ("MANIFEST", Side::Left),
        ("REPO", Side::Left),
    ];
    let rows: Vec<_> = repos.iter().map(row).collect();
    Ok(write!(context.io.stdout, "{}", output::table(heading, &rows))?)
}

fn row(view: &RepoView) -> [String; 7] {
    let dash = || "-".to_owned();
    [
        view.kind.map_or_else(dash, |kind| kind.to_string()),
        output::size(view.bytes),
        view.files.to_string(),
        view.seq.map_or_else(dash, |seq| seq.to_string()),
        state(view),
        view.manifest.short(),
        output::name(view),
    ]
}

/// What there is to say beside "it is here".
fn state(view: &RepoView) -> String {
    // Of a repo that was forgotten the release is still known, so that no older one is ever followed.
    let gone = view.files == 0;
    let partial = !view.complete && !gone;
    let words = [
        (view.ours, "ours"),
        (gone, "name only"),
        (partial, "partial"),
        (view.pinned, "pinned"),
        (view.stale, "stale"),
        (view.revoked.is_some(), "revoked"),
    ];
    let words = words.iter().filter(|(is, _)| *is);
    let words = words.map(|(_, word)| (*word).to_owned());
    let words: Vec<String> = words.chain(view.denied.as_ref().map(denied)).collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(",")
    }
}

pub(crate) async fn show(asked: Show, context: &mut Context<'_>) -> Result<(), Failure> {
    let Show {
        repo: Repo { repo },
        card,
    } = asked;
    let session = Session::open(context).await?;
    let shown = session.show(&repo).await;
    session.close().await;
    let shown = shown?;
    if context.json {
        return Ok(context.print_json(&shown)?);
    }
    let text = shown.text.as_deref().map(markdown::render);
    if card {
        let none = || {
            Failure::new(format!("{repo} has no card here"))
                .hint("a card is its README.md: shoal show without --card lists its files")
        };
        let text = text.ok_or_else(none)?;
        return Ok(write!(context.io.stdout, "{text}")?);
    }
    write!(context.io.stdout, "{}", describe(&shown))?;
    if let Some(text) = text {
        let mut lines = text.lines();
        writeln!(context.io.stdout)?;
        for line in lines.by_ref().take(CARD_LINES) {
            writeln!(context.io.stdout, "{line}")?;
        }
        let more = lines.count() as u64;
        if more > 0 {
            let more = output::count(more, "more line");
            context.note(format_args!("{more} of its card: shoal show {repo} --card"));
        }
    }
    Ok(())
}

fn describe(shown: &Shown) -> String {
    let view = &shown.view;
    let mut pairs = vec![("repo", output::name(view))];
    if let (Some(id), Some(_)) = (&view.repo, &view.alias) {
        pairs.push(("id", id.to_string()));
    }
    pairs.push(("manifest", view.manifest.to_string()));
    if let (Some(kind), Some(seq)) = (view.kind, view.seq) {
        let issued = shown
            .issued
            .map(|at| format!(", signed {}", output::day(at)))
            .unwrap_or_default();
        let expires = shown
            .expires
            .map(|at| format!(", good until {}", output::day(at)))
            .unwrap_or_default();
        pairs.push(("release", format!("{seq} of a {kind}{issued}{expires}")));
    }
    if let Some(upstream) = &shown.upstream {
        pairs.push((
            "copy of",
            format!(
                "{} on {}, commit {}",
                upstream.repo, upstream.hub, upstream.commit
            ),
        ));
    }
    pairs.push((
        "content",
        format!(
            "{}, {}",
            output::count(view.files, "file"),
            output::size(view.bytes)
        ),
    ));
    pairs.push(("state", state(view)));
    trust(shown, &mut pairs);
    shown.card.iter().for_each(|card| of_card(card, &mut pairs));
    of_facts(&shown.facts, &mut pairs);
    pairs.extend(standing(&shown.standing).map(|text| ("validated", text)));
    let heading = [
        ("SIZE", Side::Right),
        ("BLAKE3", Side::Left),
        ("WHERE", Side::Left),
        ("PATH", Side::Left),
    ];
    let entries = shown.entries.iter();
    let rows: Vec<_> = entries
        .map(|entry| {
            [
                output::size(entry.size),
                entry.blake3.short(),
                output::printable(&entry.place),
                entry.path.clone(),
            ]
        })
        .collect();
    format!("{}\n{}", output::pairs(&pairs), output::table(heading, &rows))
}

/// What there is to know of who released it before anybody relies on it.
fn trust(shown: &Shown, pairs: &mut Vec<(&'static str, String)>) {
    if let Some(reason) = &shown.view.revoked {
        pairs.push((
            "revoked",
            format!("its key was revoked since ({reason}): when it signed this cannot be known"),
        ));
    }
    if shown.view.stale {
        let text = "its publisher should have released it anew by now; it can be used as before";
        pairs.push(("stale", text.to_owned()));
    }
    let forks = shown.forks.iter();
    pairs.extend(forks.map(|fork| ("forked", fork.to_string())));
    let forks = shown.key_forks.iter();
    pairs.extend(forks.map(|fork| ("forked", fork.clone())));
}

/// What its card says of it.
fn of_card(card: &Card, pairs: &mut Vec<(&'static str, String)>) {
    let several = |texts: &[String]| texts.join(", ");
    let lines = [
        ("licence", card.license.clone().unwrap_or_default()),
        ("task", card.pipeline_tag.clone().unwrap_or_default()),
        ("library", card.library_name.clone().unwrap_or_default()),
        ("made from", several(&card.base_model)),
        ("language", several(&card.language)),
        ("datasets", several(&card.datasets)),
    ];
    let said = lines.into_iter().filter(|(_, text)| !text.is_empty());
    pairs.extend(said.map(|(name, text)| (name, output::printable(&text))));
}

/// What its files say of it.
fn of_facts(facts: &Facts, pairs: &mut Vec<(&'static str, String)>) {
    if !facts.formats.is_empty() {
        let formats: Vec<_> = facts.formats.iter().map(ToString::to_string).collect();
        pairs.push(("format", formats.join(", ")));
    }
    if let Some(architecture) = &facts.architecture {
        let sizes = [
            (facts.layers, "layer"),
            (facts.width, "wide"),
            (facts.vocab, "token"),
        ];
        let size = |(number, what): &(Option<u64>, &str)| {
            let number = (*number)?;
            Some(match *what {
                "wide" => format!("{number} wide"),
                what => output::count(number, what),
            })
        };
        let sizes: Vec<_> = sizes.iter().filter_map(size).collect();
        let name = output::printable(architecture);
        pairs.push(("architecture", [&[name], sizes.as_slice()].concat().join(", ")));
    }
    if facts.parameters() > 0 {
        let mut each: Vec<_> = facts.parameters.iter().collect();
        each.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let each: Vec<_> = each
            .into_iter()
            .map(|(dtype, count)| format!("{} {dtype}", output::short_count(*count)))
            .collect();
        let all = output::short_count(facts.parameters());
        pairs.push(("parameters", format!("{all} ({})", each.join(", "))));
    }
    if let Some(context) = facts.context {
        pairs.push(("context", output::count(context, "token")));
    }
    for labelled in &facts.code {
        pairs.push((
            "code",
            format!("{}: {}", labelled.path, output::printable(&labelled.what)),
        ));
    }
    for problem in &facts.problems {
        let word = if problem.broken { "broken" } else { "not read" };
        pairs.push((
            word,
            format!("{}: {}", problem.path, output::printable(&problem.what)),
        ));
    }
    if !facts.absent.is_empty() {
        let files = output::count(facts.absent.len() as u64, "file");
        pairs.push((
            "unknown",
            format!("{files} that are not here, such as {}", facts.absent[0]),
        ));
    }
    if facts.unlooked > 0 {
        let files = output::count(facts.unlooked, "file");
        pairs.push(("not looked at", format!("{files}: there are too many")));
    }
}

/// `here, and reproduced by 3 keys you follow (max diff 2e-7), 1 disagrees; 4 others count nothing`.
fn standing(standing: &Standing) -> Option<String> {
    let Standing {
        here,
        reproduced,
        disagree,
        max_diff,
        others,
    } = *standing;
    let mut parts = Vec::new();
    match here {
        Some(Verdict::Passed) => parts.push("passed here".to_owned()),
        Some(Verdict::Failed) => parts.push("failed here".to_owned()),
        Some(Verdict::NotDone) | None => {}
    }
    if reproduced > 0 || disagree > 0 {
        let difference = max_diff
            .map(|max| format!(" (max diff {max:.0e})"))
            .unwrap_or_default();
        let keys = output::count(reproduced, "key");
        parts.push(format!("reproduced by {keys} you follow{difference}"));
    }
    match disagree {
        0 => {}
        1 => parts.push("1 disagrees".to_owned()),
        many => parts.push(format!("{many} disagree")),
    }
    if others > 0 {
        let keys = output::count(others, "key");
        parts.push(format!(
            "attested by {keys} you do not follow, which count nothing"
        ));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

pub(crate) async fn ticket(asked: Repo, context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let (ticket, alone) = (session.ticket(&asked.repo).await, session.is_alone());
    session.close().await;
    let ticket = ticket?;
    if alone {
        context.note(format_args!(
            "the ticket has no addresses: it has some while the node runs (shoal up)"
        ));
    }
    match context.json {
        true => context.print_json(&TicketAnswer { ticket })?,
        false => context.print(ticket)?,
    }
    Ok(())
}

pub(crate) async fn pin(asked: Repo, context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let pinned = session.pin(asked.repo.clone()).await;
    session.close().await;
    pinned?;
    match context.json {
        true => context.print_json(&Pinned {
            pinned: asked.repo.to_string(),
        })?,
        false => context.print(format_args!("pinned {}", asked.repo))?,
    }
    Ok(())
}

pub(crate) async fn forget(asked: Repo, context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let forgotten = session.forget(asked.repo.clone()).await;
    session.close().await;
    let forgotten = forgotten?;
    if context.json {
        return Ok(context.print_json(&forgotten)?);
    }
    let freed = freed(forgotten.blobs, forgotten.bytes);
    Ok(context.print(format_args!(
        "forgot {} ({}); {freed}",
        asked.repo,
        short(forgotten.manifest)
    ))?)
}

pub(crate) async fn collect(context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let collected = session.collect().await;
    session.close().await;
    let collected = collected?;
    if context.json {
        return Ok(context.print_json(&collected)?);
    }
    Ok(context.print(freed(collected.blobs, collected.bytes))?)
}

fn freed(blobs: u64, bytes: u64) -> String {
    format!(
        "freed {} in {}",
        output::size(bytes),
        output::count(blobs, "blob")
    )
}

fn short(manifest: Hash) -> String {
    RepoRef::Content(manifest)
        .to_string()
        .chars()
        .take("blake3/".len() + 10)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_counts_who_is_followed_and_names_the_rest_apart() {
        let all = Standing {
            here: Some(Verdict::Passed),
            reproduced: 3,
            disagree: 1,
            max_diff: Some(2e-7),
            others: 2,
        };
        assert_eq!(
            standing(&all).unwrap(),
            "passed here, reproduced by 3 keys you follow (max diff 2e-7), 1 disagrees, \
             attested by 2 keys you do not follow, which count nothing"
        );
        assert_eq!(standing(&Standing::default()), None);
        let against = Standing {
            here: Some(Verdict::Failed),
            disagree: 2,
            ..Standing::default()
        };
        assert_eq!(
            standing(&against).unwrap(),
            "failed here, reproduced by 0 keys you follow, 2 disagree"
        );
    }
}
