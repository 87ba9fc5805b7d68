//! The summary of a card is bounded, canonical, readable by people, and the one that its release names.

use crate::fixture::{golden_known, golden_release, golden_summary, summaries};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use protocol::limits::{CARD_LEN_MAX, CARD_WORD_LEN_MAX};
use protocol::{CardError, Hash, Summary, TextError};

fn numbered(count: usize, len: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number:0len$}")).collect()
}

/// Changes the golden summary, and returns why it is not encoded.
fn refused(change: impl FnOnce(&mut Summary)) -> CardError {
    let mut summary = golden_summary();
    change(&mut summary);
    summary.encode().unwrap_err()
}

#[test]
fn fields_have_the_names_of_the_hub() {
    let json: serde_json::Value = serde_json::from_slice(&golden_summary().encode().unwrap()).unwrap();
    assert_eq!(json["pipeline_tag"], "text-generation");
    assert_eq!(json["library_name"], "transformers");
    assert_eq!(json["license"], "apache-2.0");
    assert_eq!(json["language"], serde_json::json!(["en", "de"]));
    assert_eq!(json["base_model"], serde_json::json!(["some-org/Golden-Base"]));
    assert_eq!(json["base_model_relation"], "finetune");
    assert_eq!(json["shoal"], 1);
    assert_eq!(json.as_object().unwrap().len(), 13);
    assert_eq!(Summary::default().encode().unwrap(), b"{\"shoal\":1}");
}

#[test]
fn summary_is_the_one_that_the_release_names() {
    let (signed, summary) = golden_known().verify().unwrap();
    assert_eq!(summary, Some(golden_summary()));
    let bytes = golden_summary().encode().unwrap();
    assert_eq!(
        Summary::decode_of(signed.release(), &bytes).unwrap(),
        golden_summary()
    );
    let other = Summary::default().encode().unwrap();
    let error = Summary::decode_of(signed.release(), &other).unwrap_err();
    let named = Some(Hash::of(&bytes));
    assert!(
        matches!(error, CardError::OtherCard { wanted, found } if wanted == named && found == Hash::of(&other))
    );
    let mut none = golden_release();
    none.card = None;
    assert!(matches!(
        Summary::decode_of(&none, &bytes),
        Err(CardError::OtherCard { wanted: None, .. })
    ));
}

#[test]
fn lists_have_bounds_and_nothing_twice() {
    let count = |change: fn(&mut Summary), name| {
        let error = refused(change);
        assert!(
            matches!(error, CardError::Count { field, .. } if field == name),
            "{error:?}"
        );
    };
    count(|it| it.base_model = numbered(5, 3), "base_model");
    count(|it| it.formats = numbered(9, 3), "formats");
    count(|it| it.languages = numbered(65, 3), "language");
    count(|it| it.tags = numbered(65, 3), "tags");
    let error = refused(|it| it.tags = vec!["a".to_owned(), "b".to_owned(), "a".to_owned()]);
    assert!(matches!(error, CardError::Twice { field: "tags" }));
}

#[test]
fn texts_have_bounds() {
    let length = |change: &dyn Fn(&mut Summary), name| {
        let error = refused(change);
        assert!(
            matches!(error, CardError::Length { field, .. } if field == name),
            "{error:?}"
        );
    };
    let long = "x".repeat(CARD_WORD_LEN_MAX + 1);
    for text in ["", &long] {
        let some = || Some(text.to_owned());
        length(&|it| it.task = some(), "pipeline_tag");
        length(&|it| it.library = some(), "library_name");
        length(&|it| it.license = some(), "license");
        length(&|it| it.dtype = some(), "dtype");
        length(&|it| it.base_relation = some(), "base_model_relation");
        length(&|it| it.formats = vec![text.to_owned()], "formats");
        length(&|it| it.languages = vec![text.to_owned()], "language");
    }
    length(&|it| it.description = Some("x".repeat(513)), "description");
    length(&|it| it.tags = vec!["x".repeat(97)], "tags");
    length(&|it| it.base_model = vec!["x".repeat(194)], "base_model");
    let error = refused(|it| it.bytes = Some((1 << 53) + 1));
    assert!(matches!(error, CardError::Number { field: "bytes", .. }));
}

#[test]
fn what_people_do_not_see_stands_in_no_text() {
    for (text, wanted) in [
        ("a\nb", TextError::Control { found: '\n' }),
        ("a\u{2028}", TextError::Control { found: '\u{2028}' }),
        ("a\u{202e}b", TextError::Bidi { found: '\u{202e}' }),
        ("a\u{200b}b", TextError::Invisible { found: '\u{200b}' }),
        ("e\u{301}", TextError::NotNfc),
    ] {
        for change in [
            (|it, text| it.description = Some(text)) as fn(&mut Summary, String),
            |it, text| it.tags = vec![text],
            |it, text| it.license = Some(text),
            |it, text| it.base_model = vec![text],
        ] {
            let error = refused(|it| change(it, text.to_owned()));
            assert!(
                matches!(error, CardError::Text { source, .. } if source == wanted),
                "{error:?}"
            );
        }
    }
    let error = refused(|it| it.license = Some("\u{430}pache-2.0".to_owned()));
    assert!(matches!(
        error,
        CardError::Word {
            field: "license",
            found: '\u{430}'
        }
    ));
    for text in ["a/b/c", "../a", "a b", "https://x"] {
        let error = refused(|it| it.base_model = vec![text.to_owned()]);
        assert!(matches!(error, CardError::Base), "{text}");
    }
}

#[test]
fn summary_that_is_too_long_together_is_not_encoded_but_made_to_fit() {
    let mut summary = golden_summary();
    summary.tags = numbered(40, 60);
    let error = summary.encode().unwrap_err();
    assert!(matches!(error, CardError::TooLong { .. }), "{error:?}");
    let fitted = summary.clone().fit();
    assert!(!fitted.tags.is_empty() && fitted.tags.len() < 40);
    assert_eq!(fitted.tags, summary.tags[..fitted.tags.len()]);
    assert_eq!(fitted.description, summary.description);
    let len = fitted.encode().unwrap().len();
    assert!(len <= CARD_LEN_MAX && len > CARD_LEN_MAX - 64, "{len}");
}

#[test]
fn fit_cuts_the_description_after_the_tags_and_then_the_languages() {
    let mut summary = golden_summary();
    summary.base_model = numbered(4, 180);
    summary.formats = numbered(8, 40);
    summary.description = Some("word ".repeat(100));
    summary.languages = numbered(20, 30);
    let fitted = summary.fit();
    assert!(fitted.tags.is_empty());
    let description = fitted.description.clone().unwrap();
    assert!(
        description.ends_with("word") && description.len() < 499,
        "{description}"
    );
    assert_eq!(fitted.languages.len(), 20);
    fitted.encode().unwrap();
    let mut summary = fitted;
    summary.languages = numbered(64, 30);
    let fitted = summary.fit();
    assert_eq!(fitted.description, None);
    assert!(!fitted.languages.is_empty() && fitted.languages.len() < 64);
    fitted.encode().unwrap();
}

#[test]
fn fit_cleans_what_stands_in_real_cards() {
    let summary = Summary {
        description: Some(" \u{feff}The  best\r\nmodel\u{202e} \u{2764}\u{fe0f} e\u{301}\t".to_owned()),
        tags: vec!["a\u{200b}".to_owned(), " a".to_owned(), "\u{200b}".to_owned()],
        license: Some(" mit ".to_owned()),
        task: Some("two words".to_owned()),
        base_model: vec!["https://hub/x/y".to_owned(), "x/y".to_owned()],
        parameters: Some(u64::MAX),
        ..Summary::default()
    }
    .fit();
    assert_eq!(
        summary.description.as_deref(),
        Some("The best model \u{2764} \u{e9}")
    );
    assert_eq!(summary.tags, ["a"]);
    assert_eq!(summary.license.as_deref(), Some("mit"));
    assert_eq!((summary.task.clone(), summary.parameters), (None, None));
    assert_eq!(summary.base_model, ["x/y"]);
    summary.encode().unwrap();
}

#[test]
fn largest_parts_that_fit_leaves_alone_fit() {
    let word = || Some("x".repeat(CARD_WORD_LEN_MAX));
    let summary = Summary {
        base_model: numbered(4, 193),
        base_relation: word(),
        bytes: Some(1 << 53),
        dtype: word(),
        formats: numbered(8, CARD_WORD_LEN_MAX),
        library: word(),
        license: word(),
        parameters: Some(1 << 53),
        task: word(),
        ..Summary::default()
    };
    assert_eq!(summary.clone().fit(), summary);
    summary.encode().unwrap();
}

proptest! {
    #[test]
    fn whatever_was_fitted_is_encoded_and_stays(
        summary in summaries(),
        texts in vec("\\PC{0,90}", 0..80),
        controls in option::of("(\\PC|[\u{0}-\u{20}\u{200b}\u{202e}\u{301}\"\\\\]){0,700}"),
    ) {
        let summary = Summary {
            tags: texts.clone(),
            languages: texts.clone(),
            formats: texts.clone(),
            base_model: texts,
            description: controls.clone(),
            license: controls,
            ..summary
        };
        let fitted = summary.fit();
        prop_assert!(fitted.encode().is_ok(), "{:?}", fitted.encode());
        prop_assert_eq!(fitted.clone().fit(), fitted);
    }
}
