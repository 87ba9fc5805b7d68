//! `shoal limit`: how fast the running node may send and receive.

use node::http::messages::LimitsAsk;
use node::node::Limits;

use crate::args::{AtMost, Limit};
use crate::context::Context;
use crate::failure::Failure;
use crate::output;
use crate::session;

pub(crate) fn run(limit: &Limit, context: &mut Context<'_>) -> Result<(), Failure> {
    let client = session::running(context)?;
    let ask = ask(limit);
    let changes = ask != LimitsAsk::default();
    let limits: Limits = match changes {
        true => client.post("limits", &ask)?,
        false => client.get("limits")?,
    };
    if context.json {
        return Ok(context.print_json(&limits)?);
    }
    write!(context.io.stdout, "{}", shown(&limits))?;
    if changes {
        let config = context.data.join("config.toml");
        context.note(format_args!(
            "this lasts until the node stops; what {} says is for good",
            config.display()
        ));
    }
    Ok(())
}

fn ask(limit: &Limit) -> LimitsAsk {
    let said = |most: Option<AtMost>| most.map(|AtMost(most)| most);
    LimitsAsk {
        up: said(limit.up),
        down: said(limit.down),
        peer_up: said(limit.peer_up),
        peer_down: said(limit.peer_down),
    }
}

fn shown(limits: &Limits) -> String {
    output::pairs(&[
        ("up", output::limit(limits.up)),
        ("down", output::limit(limits.down)),
        ("up, each peer", output::limit(limits.peer_up)),
        ("down, each peer", output::limit(limits.peer_down)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_asked_for() {
        let mut limit = Limit {
            up: None,
            down: None,
            peer_up: None,
            peer_down: None,
        };
        assert_eq!(ask(&limit), LimitsAsk::default());
        limit.up = Some("none".parse().unwrap());
        limit.peer_down = Some("2048".parse().unwrap());
        let text = serde_json::to_string(&ask(&limit)).unwrap();
        assert_eq!(text, r#"{"up":null,"peer_down":2048}"#);
    }

    #[test]
    fn limits_are_shown_with_those_that_are_none() {
        let limits = Limits {
            up: Some(2 * 1024 * 1024),
            ..Limits::default()
        };
        let wanted = "up               2.0 MiB/s\ndown             none\nup, each peer    none\ndown, each peer  none\n";
        assert_eq!(shown(&limits), wanted);
    }
}
