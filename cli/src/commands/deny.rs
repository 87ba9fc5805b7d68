//! What this node keeps away from: `deny`, `allow`, `denied`.

use node::denials::{Allowed, DenialState, DenialView, DeniedView, ListView, What, Why};
use node::http::messages::{AllowAsk, DenyAsk, UnsubscribedAnswer};
use protocol::{RepoId, RepoRef};

use crate::args::{Allow, Denied, Deny};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Side};
use crate::session::Session;

/// Longest text in a column, in characters.
const COLUMN_LEN: usize = 48;

pub(crate) async fn deny(deny: Deny, context: &mut Context<'_>) -> Result<(), Failure> {
    let Deny {
        what,
        list,
        reason,
        lasts,
    } = deny;
    if let Some(list) = list {
        return follow(list, context).await;
    }
    let what = what.ok_or_else(nothing_named)?;
    let session = Session::open(context).await?;
    let ask = DenyAsk {
        what: what.clone(),
        reason,
        for_s: lasts.map(|lasts| lasts.as_secs()),
    };
    let denied = session.deny(ask).await;
    session.close().await;
    let why = denied?;
    if context.json {
        return Ok(context.print_json(&why)?);
    }
    context.print(format_args!(
        "denied {what}: {}{}",
        why.reason,
        until(why.expires)
    ))?;
    context.note(format_args!(
        "nothing was deleted: shoal forget frees space; {}",
        why.remedy()
    ));
    Ok(())
}

async fn follow(list: RepoRef, context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let alone = session.is_alone();
    let followed = session.subscribe(&list).await;
    session.close().await;
    let followed = followed?;
    if context.json {
        return Ok(context.print_json(&followed)?);
    }
    context.print(format_args!("following {list}: {}", state(&followed)))?;
    if alone && followed.seq.is_none() {
        context.note(format_args!("it is fetched while the node runs: shoal up"));
    }
    Ok(())
}

pub(crate) async fn allow(allow: Allow, context: &mut Context<'_>) -> Result<(), Failure> {
    let Allow { what, list } = allow;
    let session = Session::open(context).await?;
    if let Some(list) = list {
        let outcome = session.unsubscribe(&list).await;
        session.close().await;
        let subscribed = outcome?;
        if context.json {
            return Ok(context.print_json(&UnsubscribedAnswer { subscribed })?);
        }
        return Ok(context.print(match subscribed {
            true => format!("{list} is followed no more"),
            false => format!("{list} was not followed"),
        })?);
    }
    let outcome = match what.clone() {
        Some(what) => session.allow(AllowAsk { what }).await,
        None => Err(nothing_named()),
    };
    session.close().await;
    let allowed = outcome?;
    if context.json {
        return Ok(context.print_json(&allowed)?);
    }
    let what = what.map(|what| what.to_string()).unwrap_or_default();
    Ok(context.print(said(&what, &allowed))?)
}

fn said(what: &str, allowed: &Allowed) -> String {
    match (&allowed.despite, allowed.lifted) {
        (Some(why), _) => format!(
            "{what} is allowed, though {} is denied: {} ({})",
            What::from(&why.what),
            why.reason,
            who(why.by.as_ref())
        ),
        (None, true) => format!("{what} is denied no more"),
        (None, false) => format!("{what} was not denied"),
    }
}

pub(crate) async fn list(denied: Denied, context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let view = session.denied(denied.all);
    session.close().await;
    let view = view?;
    if context.json {
        return Ok(context.print_json(&view)?);
    }
    if let Some(wrong) = &view.wrong {
        context.note(format_args!(
            "warning: what was read before is in force: {}",
            output::printable(wrong)
        ));
    }
    let DeniedView {
        denials,
        allowed,
        lists,
        ..
    } = &view;
    if denials.is_empty() && allowed.is_empty() && lists.is_empty() {
        context.note(format_args!(
            "nothing: shoal deny WHAT, or shoal deny --list REPO"
        ));
    }
    let mut parts = Vec::new();
    if !denials.is_empty() {
        parts.push(denials_table(denials));
    }
    if !allowed.is_empty() {
        let heading = [("SINCE", Side::Left), ("ALLOWED ALL THE SAME", Side::Left)];
        let rows: Vec<_> = allowed
            .iter()
            .map(|allowed| [output::day(allowed.since), allowed.what.clone()])
            .collect();
        parts.push(output::table(heading, &rows));
    }
    if !lists.is_empty() {
        let heading = [
            ("RELEASE", Side::Right),
            ("ENTRIES", Side::Right),
            ("STATE", Side::Left),
            ("LIST", Side::Left),
        ];
        let row = |list: &ListView| {
            [
                list.seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string()),
                list.entries.to_string(),
                state(list),
                list.repo.to_string(),
            ]
        };
        let rows: Vec<_> = lists.iter().map(row).collect();
        parts.push(output::table(heading, &rows));
    }
    Ok(write!(context.io.stdout, "{}", parts.join("\n"))?)
}

fn denials_table(denials: &[DenialView]) -> String {
    let heading = [
        ("SINCE", Side::Left),
        ("UNTIL", Side::Left),
        ("STATE", Side::Left),
        ("BY", Side::Left),
        ("REASON", Side::Left),
        ("WHAT", Side::Left),
    ];
    let row = |denial: &DenialView| {
        let state = match denial.state {
            DenialState::InForce => "in force",
            DenialState::Ended => "ended",
            DenialState::Allowed => "allowed by you",
            DenialState::Spared => "yours: not obeyed",
        };
        let by = denial.by.as_ref().map(ToString::to_string);
        [
            output::day(denial.since),
            denial.expires.map_or_else(|| "-".to_owned(), output::day),
            state.to_owned(),
            by.map_or_else(|| "you".to_owned(), |by| output::shortened(&by, COLUMN_LEN)),
            output::shortened(&output::printable(&denial.reason), COLUMN_LEN),
            denial.what.clone(),
        ]
    };
    let rows: Vec<_> = denials.iter().map(row).collect();
    output::table(heading, &rows)
}

/// How it stands with a list.
fn state(list: &ListView) -> String {
    let mut parts = match list.seq {
        None => vec!["not here yet".to_owned()],
        Some(_) => vec![format!("{} in force", list.in_force)],
    };
    if list.spared > 0 {
        parts.push(format!("{} of what is yours, not obeyed", list.spared));
    }
    if let Some(trouble) = &list.trouble {
        parts.push(output::printable(trouble));
    }
    parts.join("; ")
}

/// Why something is denied, for a line about it: `denied: spam (by you), until 2026-01-31`.
pub(crate) fn denied(why: &Why) -> String {
    let (reason, by) = (output::printable(&why.reason), who(why.by.as_ref()));
    format!("denied: {reason} ({by}){}", until(why.expires))
}

fn who(by: Option<&RepoId>) -> String {
    match by {
        None => "by you".to_owned(),
        Some(list) => format!("by the list {}", output::shortened(&list.to_string(), COLUMN_LEN)),
    }
}

fn until(expires: Option<u64>) -> String {
    expires.map_or_else(String::new, |expires| format!(", until {}", output::day(expires)))
}

/// The parser sees to it that something is named.
fn nothing_named() -> Failure {
    Failure::new("nothing was named").hint("shoal deny --help shows what can be")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowing_says_what_it_did() {
        let what = protocol::Denied::Blob(protocol::Hash::of(b"x"));
        let allowed = |lifted, despite| Allowed {
            what: what.clone(),
            lifted,
            despite,
        };
        assert_eq!(said("x", &allowed(true, None)), "x is denied no more");
        assert_eq!(said("x", &allowed(false, None)), "x was not denied");
        let why = Why {
            what: what.clone(),
            reason: "spam".to_owned(),
            by: None,
            since: 1,
            expires: None,
        };
        let text = said("x", &allowed(false, Some(why)));
        assert!(
            text.starts_with("x is allowed, though blob:") && text.ends_with("spam (by you)"),
            "{text}"
        );
    }
}
