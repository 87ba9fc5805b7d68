//! Whom this node follows: `follow`, `unfollow`, `following`.

use node::http::messages::{FollowAsk, UnfollowAnswer};
use node::library::FollowView;

use crate::args::{Follow, Followed, Unfollow};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Side};
use crate::session::Session;

pub(crate) async fn follow(follow: Follow, context: &mut Context<'_>) -> Result<(), Failure> {
    let Follow { publisher, alias } = follow;
    let session = Session::open(context).await?;
    let done = session.follow(FollowAsk { publisher, alias }).await;
    session.close().await;
    let answer = done?;
    let alias = &answer.alias;
    for warning in &answer.warnings {
        context.note(format_args!(
            "careful: {warning}; if it is not whom you meant: shoal unfollow {alias}"
        ));
    }
    if answer.publisher != publisher {
        context.note(format_args!("{publisher} goes on as {}", answer.publisher));
    }
    match context.json {
        true => context.print_json(&answer)?,
        false => context.print(format_args!(
            "{alias} is {}; its repos are {alias}/NAME",
            answer.publisher
        ))?,
    }
    Ok(())
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
    session.close().await;
    let following = following?;
    if context.json {
        return Ok(context.print_json(&following)?);
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
