//! Whom this node follows: `follow`, `unfollow`, `following`.

use node::http::messages::{FollowAnswer, FollowAsk, UnfollowAnswer};

use crate::args::{Follow, Followed, Unfollow};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Side};
use crate::session::Session;

pub(crate) async fn follow(follow: Follow, context: &mut Context<'_>) -> Result<(), Failure> {
    let Follow { publisher, alias } = follow;
    let session = Session::open(context).await?;
    let done = session.follow(FollowAsk {
        publisher,
        alias: alias.clone(),
    });
    session.close().await;
    done?;
    match context.json {
        true => context.print_json(&FollowAsk { publisher, alias })?,
        false => context.print(format_args!("{alias} is {publisher}; its repos are {alias}/NAME"))?,
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
        ("PUBLISHER", Side::Left),
    ];
    let row = |follow: &FollowAnswer| {
        [
            follow.alias.to_string(),
            output::day(follow.since),
            follow.publisher.to_string(),
        ]
    };
    let rows: Vec<_> = following.iter().map(row).collect();
    Ok(write!(context.io.stdout, "{}", output::table(heading, &rows))?)
}
