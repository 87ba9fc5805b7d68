//! Mirrors in words.

use node::library::FollowView;
use node::mirror::{Lack, Lacking, MirrorView};
use node::names::Mirror;
use protocol::Alias;

use crate::output;

/// Repos that are not here and are named, of one publisher.
const NAMED: usize = 20;

/// Whether a mirror is of who is followed.
pub(super) fn is_of(mirror: &MirrorView, followed: &FollowView) -> bool {
    mirror.publisher == followed.publisher
}

/// What is mirrored from now on.
pub(super) fn terms(alias: &Alias, mirror: Option<&Mirror>) -> String {
    match mirror {
        None => format!("{alias} is not mirrored; what is here of its repos stays"),
        Some(Mirror { names, quota }) => {
            let most = quota.map_or_else(String::new, |quota| format!(", within {}", output::size(quota)));
            format!("its repos {names} are mirrored{most}; shoal following shows how far it is")
        }
    }
}

/// How a mirror is: one line, and one for each repo that is not here.
pub(super) fn shown(view: &MirrorView) -> String {
    let alias = &view.alias;
    let taken = match view.mirror.quota {
        None => output::size(view.bytes),
        Some(quota) => format!("{} of {}", output::size(view.bytes), output::size(quota)),
    };
    let older = match view.older {
        0 => String::new(),
        older => format!(", {} among them", output::count(older, "older revision")),
    };
    let names = &view.mirror.names;
    let of = output::count(view.known, "repo");
    let mut text = format!(
        "\n{alias} is mirrored ({names}): {} of {of}, {taken}{older}\n",
        view.kept
    );
    if let Some(error) = &view.error {
        text.push_str(&format!("  nothing is fetched: {}\n", output::printable(error)));
    }
    let lacking = view.lacking.iter().take(NAMED);
    let width = lacking.clone().map(|lacking| name(alias, lacking).len()).max();
    for lacking in lacking {
        let (name, width) = (name(alias, lacking), width.unwrap_or(0));
        text.push_str(&format!("  {name:<width$}  {}\n", why(&lacking.lack)));
    }
    let more = view.known.saturating_sub(view.kept).saturating_sub(NAMED as u64);
    if more > 0 {
        text.push_str(&format!("  and {more} more\n"));
    }
    text
}

fn name(alias: &Alias, lacking: &Lacking) -> String {
    format!("{alias}/{}", lacking.repo.name)
}

fn why(lack: &Lack) -> String {
    match lack {
        Lack::Waiting => "waits for its turn".to_owned(),
        Lack::Fetching => "is being fetched".to_owned(),
        Lack::TooLarge { need, free } => {
            let (need, free) = (output::size(*need), output::size(*free));
            format!("does not fit: it takes {need}, and there is room for {free}")
        }
        Lack::Failed { why } => format!("is tried again later: {}", output::printable(why)),
        Lack::Forked => "is forked: its publisher signed two releases with one number".to_owned(),
        Lack::LetGo => "was let go: shoal fetch gets it again".to_owned(),
        Lack::Denied { why } => output::printable(why).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Publisher;

    #[test]
    fn mirror_says_what_is_here_and_why_the_rest_is_not() {
        let publisher: Publisher = "8pinxxgqs41n4aididenw5apqp1urfmzdztr8jt4abrkdn435ewo"
            .parse()
            .unwrap();
        let lacking = |name: &str, lack| Lacking {
            repo: format!("{publisher}/{name}").parse().unwrap(),
            lack,
        };
        let mut view = MirrorView {
            publisher,
            alias: Alias::new("meta").unwrap(),
            mirror: Mirror {
                names: "*".parse().unwrap(),
                quota: Some(10 << 30),
            },
            known: 4,
            kept: 2,
            older: 1,
            bytes: 3 << 30,
            lacking: vec![
                lacking(
                    "huge",
                    Lack::TooLarge {
                        need: 20 << 30,
                        free: 7 << 30,
                    },
                ),
                lacking("b", Lack::Waiting),
            ],
            error: None,
        };
        assert_eq!(
            shown(&view),
            "\nmeta is mirrored (*): 2 of 4 repos, 3.0 GiB of 10.0 GiB, 1 older revision among them\n  \
             meta/huge  does not fit: it takes 20.0 GiB, and there is room for 7.0 GiB\n  \
             meta/b     waits for its turn\n"
        );
        view.lacking = (0..30)
            .map(|number| lacking(&format!("r{number}"), Lack::Fetching))
            .collect();
        (view.known, view.kept) = (1_030, 1_000);
        assert!(shown(&view).ends_with("  and 10 more\n"));
    }
}
