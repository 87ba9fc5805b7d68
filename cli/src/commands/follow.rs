//! Whom this node follows, and whose repos it mirrors: `follow`, `unfollow`, `following`.

mod mirrors;

use node::http::messages::{FollowAsk, MirrorAnswer, MirrorAsk, QuotaAsk, TermsAsk, UnfollowAnswer};
use node::library::FollowView;
use protocol::Publisher;
use serde::Serialize;

use crate::args::{Follow, Followed, Unfollow};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Side};
use crate::session::Session;

pub(crate) async fn follow(follow: Follow, context: &mut Context<'_>) -> Result<(), Failure> {
    let (publisher, alias) = (follow.publisher, follow.alias.clone());
    let change = mirror_of(follow, publisher);
    let session = Session::open(context).await?;
    let done = session.follow(FollowAsk { publisher, alias }).await;
    let mirror = match (&done, change) {
        (Ok(_), Some(change)) => Some(session.mirror(change)),
        _ => None,
    };
    let alone = session.is_alone();
    session.close().await;
    let (answer, mirror) = (done?, mirror.transpose()?);
    let alias = &answer.alias;
    for warning in &answer.warnings {
        context.note(format_args!(
            "careful: {warning}; if it is not whom you meant: shoal unfollow {alias}"
        ));
    }
    if answer.publisher != publisher {
        context.note(format_args!("{publisher} goes on as {}", answer.publisher));
    }
    if context.json {
        return Ok(context.print_json(&Printed {
            row: &answer,
            mirror: mirror.as_ref().and_then(|answer| answer.mirror.as_ref()),
        })?);
    }
    context.print(format_args!(
        "{alias} is {}; its repos are {alias}/NAME",
        answer.publisher
    ))?;
    if let Some(MirrorAnswer { mirror }) = &mirror {
        context.print(mirrors::terms(alias, mirror.as_ref()))?;
        if mirror.is_some() && alone {
            context.note(format_args!("it begins when the node runs (shoal up)"));
        }
    }
    Ok(())
}

/// What `--json` prints of who is followed, with its mirror if it has one.
#[derive(Serialize)]
struct Printed<'a, T, M> {
    #[serde(flatten)]
    row: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<&'a M>,
}

/// What is to become of the mirror; `None`: it stays as it is.
fn mirror_of(follow: Follow, publisher: Publisher) -> Option<MirrorAsk> {
    let terms = match (follow.mirror, follow.no_mirror) {
        (None, false) => return None,
        (None, true) => None,
        (Some(names), _) => Some(TermsAsk {
            names,
            quota: match follow.quota {
                None => QuotaAsk::Same,
                Some(most) => most.0.map_or(QuotaAsk::None, |most| QuotaAsk::Bytes(most.get())),
            },
        }),
    };
    Some(MirrorAsk { publisher, terms })
}

pub(crate) async fn unfollow(unfollow: Unfollow, context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let outcome = drop_follow(&session, &unfollow.whom);
    session.close().await;
    let followed = outcome?;
    if context.json {
        return Ok(context.print_json(&UnfollowAnswer { followed })?);
    }
    Ok(context.print(if followed {
        "followed no more"
    } else {
        "was not followed"
    })?)
}

fn drop_follow(session: &Session, whom: &Followed) -> Result<bool, Failure> {
    let publisher = match whom {
        Followed::Publisher(publisher) => *publisher,
        Followed::Alias(alias) => {
            let following = session.following()?;
            let found = following.into_iter().find(|follow| follow.alias == *alias);
            let none = || {
                Failure::new(format!("{alias} names nobody"))
                    .hint("shoal following lists whom this node follows")
            };
            found.ok_or_else(none)?.publisher
        }
    };
    session.unfollow(publisher)
}

pub(crate) async fn list(context: &mut Context<'_>) -> Result<(), Failure> {
    let session = Session::open(context).await?;
    let following = session.following();
    let mirrors = session.mirrors().await;
    session.close().await;
    let (following, mirrors) = (following?, mirrors?);
    if context.json {
        let print = |row| Printed {
            row,
            mirror: mirrors.iter().find(|mirror| mirrors::is_of(mirror, row)),
        };
        return Ok(context.print_json(&following.iter().map(print).collect::<Vec<_>>())?);
    }
    if following.is_empty() {
        context.note(format_args!("nobody yet: shoal follow PUBLISHER --as ALIAS"));
    }
    let heading = [
        ("ALIAS", Side::Left),
        ("SINCE", Side::Left),
        ("STATE", Side::Left),
        ("PUBLISHER", Side::Left),
    ];
    let row = |follow: &FollowView| {
        [
            follow.alias.to_string(),
            output::day(follow.since),
            state(follow),
            follow.publisher.to_string(),
        ]
    };
    let rows: Vec<_> = following.iter().map(row).collect();
    write!(context.io.stdout, "{}", output::table(heading, &rows))?;
    for mirror in &mirrors {
        write!(context.io.stdout, "{}", mirrors::shown(mirror))?;
    }
    for follow in &following {
        let alias = &follow.alias;
        if let Some(before) = follow.followed_as {
            context.note(format_args!("{alias} was {before} when you began to follow it"));
        }
        for fork in &follow.forks {
            context.note(format_args!("{alias} signed against itself: {fork}"));
        }
    }
    Ok(())
}

/// What there is to say beside "it is followed".
fn state(follow: &FollowView) -> String {
    let words = [
        follow
            .revoked
            .as_ref()
            .map(|reason| format!("revoked ({reason})")),
        follow.followed_as.map(|_| "new key".to_owned()),
        (!follow.forks.is_empty()).then(|| "forked".to_owned()),
    ];
    let words: Vec<_> = words.into_iter().flatten().collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(", ")
    }
}
