//! Finding repos among all that this node knows of: `search`, `similar`.

use node::discovery::{Hit, Lineage, SearchAsk, SearchSort};
use protocol::{Publisher, RepoRef};

use super::deny::denied;
use crate::args::{Followed, Search, Similar};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Side};
use crate::session::Session;

/// Longest name of a licence, a task or a repo that is shown whole, in characters.
const WORD_MAX: usize = 24;
const NAME_MAX: usize = 72;

pub(crate) async fn run(search: Search, context: &mut Context<'_>) -> Result<(), Failure> {
    let wants_sources = search.sources;
    let session = Session::open(context).await?;
    let answer = ask(&session, search).await;
    session.close().await;
    let answer = answer?;
    if wants_sources && !answer.asked {
        context.note(format_args!(
            "nobody was asked who has it: no node runs (shoal up)"
        ));
    }
    if context.json {
        return Ok(context.print_json(&answer)?);
    }
    if answer.denied > 0 {
        let denied = output::count(answer.denied, "repo");
        context.note(format_args!(
            "{denied} left out as denied: shoal denied says by whom and why"
        ));
    }
    if answer.hits.is_empty() {
        let known = output::count(answer.known, "release");
        context.note(format_args!(
            "nothing of {known} that this node knows of; it learns of more from every node that it meets: shoal up"
        ));
        return Ok(());
    }
    if answer.fuzzy {
        context.note(format_args!(
            "nothing has these words; these differ from them by a letter"
        ));
    }
    write!(context.io.stdout, "{}", table(&answer.hits, answer.asked))?;
    for hit in &answer.hits {
        if let Some(like) = &hit.looks_like {
            context.note(format_args!(
                "{} looks like {like} and is not by who you follow under that name",
                name(hit)
            ));
        }
    }
    if let Some(next) = &answer.next {
        let more = answer
            .total
            .saturating_sub(answer.hits.len() as u64 + answer.denied);
        context.note(format_args!("{more} more: the same with --after {next}"));
    }
    Ok(())
}

async fn ask(session: &Session, search: Search) -> Result<node::discovery::SearchAnswer, Failure> {
    let publisher = match &search.publisher {
        Some(whom) => Some(publisher(session, whom)?),
        None => None,
    };
    let sort = match search.sort.as_str() {
        "modified" => SearchSort::Modified,
        "created" => SearchSort::Created,
        "size" => SearchSort::Size,
        "parameters" => SearchSort::Parameters,
        "name" => SearchSort::Name,
        _ => SearchSort::Relevance,
    };
    let ask = SearchAsk {
        words: search.words.join(" "),
        kind: search.kind,
        publisher,
        task: search.task,
        license: search.license,
        library: search.library,
        language: search.language,
        tags: search.tags,
        labels: Vec::new(),
        format: search.format,
        base: search.base,
        dtype: search.dtype,
        max_size: search.max_size,
        sort,
        // Names are looked through from A.
        ascending: search.ascending != (sort == SearchSort::Name),
        limit: search.limit,
        after: search.after,
        sources: search.sources,
    };
    session.search(ask).await
}

fn publisher(session: &Session, whom: &Followed) -> Result<Publisher, Failure> {
    match whom {
        Followed::Publisher(publisher) => Ok(*publisher),
        Followed::Alias(alias) => {
            let following = session.following()?;
            let found = following.into_iter().find(|follow| follow.alias == *alias);
            let none = || {
                Failure::new(format!("{alias} names nobody"))
                    .hint("shoal following lists whom this node follows")
            };
            Ok(found.ok_or_else(none)?.publisher)
        }
    }
}

pub(crate) async fn similar(asked: Similar, context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let lineage = session.lineage(&asked.repo).await;
    session.close().await;
    let lineage = lineage?;
    if context.json {
        return Ok(context.print_json(&lineage)?);
    }
    Ok(write!(context.io.stdout, "{}", relatives(&lineage))?)
}

fn relatives(lineage: &Lineage) -> String {
    let mut text = table(std::slice::from_ref(&lineage.repo), false);
    let mut bases = Vec::new();
    for base in &lineage.bases {
        let how = base.relation.as_deref().unwrap_or("made");
        let known = match &base.hit {
            Some(hit) => format!(": {}", name(hit)),
            None => ", which this node does not know".to_owned(),
        };
        let indent = "  ".repeat(base.generation);
        bases.push(format!(
            "{indent}{} from {}{known}\n",
            output::printable(how),
            output::printable(&base.name)
        ));
    }
    text.push_str(&bases.concat());
    for (heading, hits) in [
        ("made from it", &lineage.made_from_it),
        ("made from the same", &lineage.siblings),
    ] {
        if !hits.is_empty() {
            text.push_str(&format!("\n{heading}:\n{}", table(hits, false)));
        }
    }
    text
}

/// - `asked`: whether others were asked who has them; without it that nobody is known says nothing.
fn table(hits: &[Hit], asked: bool) -> String {
    let heading = [
        ("KIND", Side::Left),
        ("TASK", Side::Left),
        ("LICENCE", Side::Left),
        ("PARAMETERS", Side::Right),
        ("SIZE", Side::Right),
        ("SIGNED", Side::Left),
        ("SOURCES", Side::Right),
        ("STATE", Side::Left),
        ("REPO", Side::Left),
    ];
    let rows: Vec<_> = hits.iter().map(|hit| row(hit, asked)).collect();
    output::table(heading, &rows)
}

fn row(hit: &Hit, asked: bool) -> [String; 9] {
    let dash = || "-".to_owned();
    let card = hit.card.as_ref();
    let word = |word: Option<&String>| {
        word.map_or_else(dash, |word| output::shortened(&output::printable(word), WORD_MAX))
    };
    [
        hit.kind.to_string(),
        word(card.and_then(|card| card.task.as_ref())),
        word(card.and_then(|card| card.license.as_ref())),
        card.and_then(|card| card.parameters)
            .map_or_else(dash, output::short_count),
        card.and_then(|card| card.bytes).map_or_else(dash, output::size),
        output::day(hit.issued),
        match hit.sources {
            0 if !asked => dash(),
            sources => sources.to_string(),
        },
        state(hit),
        name(hit),
    ]
}

/// What there is to say beside "it is known".
fn state(hit: &Hit) -> String {
    let words = [
        (hit.ours, "ours".to_owned()),
        (hit.alias.is_some(), "followed".to_owned()),
        (hit.here, "here".to_owned()),
        (hit.reproduced > 0, format!("reproduced by {}", hit.reproduced)),
        (hit.disagree > 0, format!("{} disagree", hit.disagree)),
        (hit.stale, "stale".to_owned()),
        (hit.revoked.is_some(), "revoked".to_owned()),
        (hit.looks_like.is_some(), "look-alike".to_owned()),
    ];
    let words = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word);
    let words: Vec<_> = words.chain(hit.denied.as_ref().map(denied)).collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(", ")
    }
}

/// What a user types to mean it.
fn name(hit: &Hit) -> String {
    let id = match &hit.alias {
        Some(alias) => RepoRef::Aliased {
            alias: alias.clone(),
            name: hit.repo.name.clone(),
        },
        None => RepoRef::Id(hit.repo.clone()),
    };
    let id = id.to_string();
    if id.chars().count() > NAME_MAX && hit.alias.is_some() {
        return output::shortened(&id, NAME_MAX);
    }
    // A publisher's id is what it is: half of one is of no use.
    id
}
