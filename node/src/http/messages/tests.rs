use super::*;
use serde_json::{Value, json};

fn said<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap()
}

#[test]
fn lines_have_the_shapes_that_scripts_read() {
    let progress = Line::<u64>::Progress(Snapshot {
        bytes: 5,
        bytes_total: 9,
        ..Snapshot::default()
    });
    let wanted = json!({"event": "progress", "phase": "starting", "bytes": 5, "bytes_total": 9, "files": 0, "files_total": 0, "peers": 0, "note": null});
    assert_eq!(said(&progress), wanted);
    assert_eq!(
        said(&Line::Done { result: 7 }),
        json!({"event": "done", "result": 7})
    );
    let answer = ErrorAnswer {
        error: vec!["a".to_owned(), "b".to_owned()],
        hint: None,
        code: NOT_VERIFIED,
    };
    assert_eq!(
        said(&Line::<u64>::Failed(answer)),
        json!({"event": "failed", "error": ["a", "b"], "hint": null, "code": 3})
    );
}

#[test]
fn lines_are_read_back() {
    let lines = [
        Line::Progress(Snapshot {
            note: Some("n".to_owned()),
            ..Snapshot::default()
        }),
        Line::Done {
            result: vec![1_u64, u64::MAX],
        },
        Line::Failed(ErrorAnswer::new("e", "h")),
    ];
    for line in lines {
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(serde_json::from_str::<Line<Vec<u64>>>(&text).unwrap(), line);
    }
}

#[test]
fn wanted_is_told_from_its_form() {
    let hash = "ab".repeat(32);
    let content = Wanted::Repo(RepoRef::Content(hash.parse().unwrap()));
    assert_eq!(hash.parse(), Ok(content.clone()));
    assert_eq!(format!("blake3/{hash}").parse(), Ok(content));
    let ticket = Ticket::new(hash.parse().unwrap(), Vec::new(), None).unwrap();
    assert_eq!(ticket.to_string().parse(), Ok(Wanted::Ticket(ticket)));
    assert!(matches!(
        "meta/llama".parse(),
        Ok(Wanted::Repo(RepoRef::Aliased { .. }))
    ));
    assert!(matches!("shoal:x".parse::<Wanted>(), Err(WantedError::Ticket(_))));
    assert!(matches!(
        hash.to_uppercase().parse::<Wanted>(),
        Err(WantedError::Hash(_))
    ));
    assert!(matches!("llama".parse::<Wanted>(), Err(WantedError::Repo(_))));
}

#[test]
fn asks_that_say_more_than_we_know_are_refused() {
    assert!(serde_json::from_str::<RepoAsk>(r#"{"repo":"a/b"}"#).is_ok());
    for text in [
        r#"{"repo":"a/b","force":true}"#,
        r#"{"repo":"a"}"#,
        r#"{"repo":1}"#,
        "{}",
        "[]",
    ] {
        assert!(serde_json::from_str::<RepoAsk>(text).is_err(), "{text}");
    }
    assert!(serde_json::from_str::<Nothing>("{}").is_ok());
    assert!(serde_json::from_str::<Nothing>(r#"{"x":1}"#).is_err());
}

#[test]
fn chain_says_nothing_twice() {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(String, #[source] std::io::Error);
    let inner = || std::io::Error::other("inner");
    assert_eq!(
        ErrorAnswer::of(&Outer("outer".to_owned(), inner())).error,
        ["outer", "inner"]
    );
    assert_eq!(
        ErrorAnswer::of(&Outer("outer: inner".to_owned(), inner())).error,
        ["outer: inner"]
    );
}
