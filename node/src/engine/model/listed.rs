//! What is said to run is what was compared with its original: every name that is accepted, and no other.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::Model;
use crate::engine::{
    encoder,
    files::Files,
    samples::inline,
    wire::{Fault, Given, Weights},
};

/// The names that are said to run, by a model that does not.
fn supported(files: Vec<Given>) -> BTreeSet<String> {
    let files = Files::open(files).unwrap();
    match Model::load(files, Weights::F32, &mut |_| ()) {
        Err(Fault::Architecture { supported, .. }) => supported.into_iter().collect(),
        other => panic!("{other:?}"),
    }
}

/// What was recorded of originals: the files' names, and what is in them.
fn recorded() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/parity");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files
        .map(|file| {
            let name = file.file_name().into_string().unwrap();
            let bytes = fs::read(file.path()).unwrap();
            (name, serde_json::from_slice(&bytes).unwrap())
        })
        .collect()
}

#[test]
fn every_name_that_is_accepted_has_a_recorded_original_and_no_other_is() {
    let weights = b"\x02\0\0\0\0\0\0\0{}";
    let by_config = supported(vec![
        inline("config.json", br#"{"architectures": ["NoSuchModel"]}"#),
        inline("model.safetensors", weights),
    ]);
    let names = |of: &dyn Fn(&Value) -> Option<String>| -> BTreeSet<String> {
        recorded()
            .iter()
            .filter_map(|(_, recorded)| of(recorded))
            .collect()
    };
    let named = names(&|recorded| recorded["config"]["architectures"][0].as_str().map(str::to_owned));
    assert_eq!(by_config, named);
    for (name, _) in encoder::ARCHITECTURES {
        assert!(by_config.contains(name), "{name} is accepted and not said to be");
    }

    let key = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let header = [
        &b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0"[..],
        &key("general.architecture"),
        &8_u32.to_le_bytes(),
        &key("no-such-model"),
    ];
    let mut file = header.concat();
    file.resize(file.len().next_multiple_of(32), 0);
    let by_metadata = supported(vec![inline("model.gguf", &file)]);
    let named = names(&|recorded| {
        recorded["gguf"]["metadata"]["general.architecture"]
            .as_str()
            .map(str::to_owned)
    });
    assert_eq!(by_metadata, named);
}

#[test]
fn everything_that_was_recorded_is_compared_with() {
    let tests = [
        include_str!("../decoder/parity.rs"),
        include_str!("../encoder/tests.rs"),
    ];
    for (name, recorded) in recorded() {
        let of = tests
            .iter()
            .filter(|test| test.contains(&format!("testdata/parity/{name}")));
        assert_eq!(of.count(), 1, "{name}");
        // A recording of nothing would be like any other.
        let compared = match recorded["hidden"].as_array() {
            Some(rows) => rows.len(),
            None => recorded["rows"].as_array().map_or(0, Vec::len),
        };
        assert_eq!(compared, recorded["ids"].as_array().unwrap().len(), "{name}");
        assert!(compared >= 16, "{name}");
    }
}
