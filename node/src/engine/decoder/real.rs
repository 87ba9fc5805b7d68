//! SmolLM2-135M-Instruct from its GGUF file, against what torch computes of the same dequantized weights
//! (`testdata/record_smollm2.py`).

use std::{env, fs, io::Write as _, path::PathBuf};

use candle_core::Tensor;
use protocol::Hash;
use serde_json::Value;

use super::rows;
use super::{
    super::{
        config::Settings,
        files::{Files, Header, Progress},
        generate::{Limits, generate},
        sample::Sampler,
        weights::Tensors,
        wire::{Bytes, End, Fault, Given, Row, Weights},
    },
    Decoder,
};

/// Largest difference of a logit from torch's: models.md measured 6e-5.
const TOLERANCE: f32 = 2e-4;

/// Where the file is; `None`, said loudly, where no folder is given.
fn file() -> Option<PathBuf> {
    let Some(folder) = env::var_os("SHOAL_SMOLLM2_DIR") else {
        let line = format!(
            "SKIPPED {}: SHOAL_SMOLLM2_DIR is not set\n",
            std::thread::current().name().unwrap_or("a test")
        );
        // Past the harness, which swallows what tests say that do not fail.
        let _ = std::io::stderr().write_all(line.as_bytes());
        if let Some(path) = env::var_os("SHOAL_SKIPPED") {
            let mut file = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .unwrap();
            file.write_all(line.as_bytes()).unwrap();
        }
        return None;
    };
    Some(PathBuf::from(folder).join(recorded()["file"].as_str().unwrap()))
}

fn recorded() -> Value {
    serde_json::from_str(include_str!("../../../testdata/smollm2.json")).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn load(file: PathBuf, weights: Weights) -> Decoder {
    let bytes = fs::read(&file).unwrap();
    let given = Given {
        path: "model.gguf".to_owned(),
        size: bytes.len() as u64,
        blake3: Hash::of(&bytes),
        bytes: Bytes::At(file),
    };
    drop(bytes);
    let mut files = Files::open(vec![given]).unwrap();
    let (mut tensors, mut settings) = (Tensors::default(), None);
    let mut said = |_| ();
    let mut look = |header: &Header| -> Result<(), Fault> {
        let Header::Gguf(header) = header else {
            panic!("a GGUF file")
        };
        settings = Some(Settings::from_gguf(header, "model.gguf")?);
        Ok(())
    };
    files
        .load(
            "model.gguf",
            weights,
            &mut tensors,
            &mut Progress::new(&mut said),
            &mut look,
        )
        .unwrap();
    Decoder::load(settings.unwrap(), &mut tensors).unwrap()
}

#[test]
fn smollm2_goes_on_with_the_tokens_that_torch_finds_likeliest() {
    let Some(file) = file() else { return };
    let mut decoder = load(file, Weights::F32);
    let recorded = recorded();
    for prompt in recorded["prompts"].as_array().unwrap() {
        let mut sampler = Sampler::new(0.0, None, 0).unwrap();
        let expected = ids(&prompt["tokens"]);
        decoder.reset();
        let mut next = sampler
            .next(&decoder.last(&ids(&prompt["ids"])).unwrap())
            .unwrap();
        let mut found = vec![next];
        while found.len() < 32 {
            next = sampler.next(&decoder.last(&[next]).unwrap()).unwrap();
            found.push(next);
        }
        assert_eq!(found, expected, "{}", prompt["text"]);

        // Generation is the same up to the first token that ends a text.
        let until: Vec<u32> = expected.iter().copied().take_while(|id| *id != 2).collect();
        let limits = Limits {
            max_tokens: 32,
            stop_ids: &[],
            stop: &[],
        };
        let mut given = Vec::new();
        let sink = |_: &str, ids: &[u32]| {
            given.extend_from_slice(ids);
            std::ops::ControlFlow::Continue(())
        };
        let text = |id: Option<u32>| Ok(id.map_or(String::new(), |id| format!("{id} ")));
        let end = generate(
            &mut decoder,
            &mut sampler,
            &ids(&prompt["ids"]),
            &limits,
            text,
            sink,
        )
        .unwrap();
        assert_eq!(given, until);
        assert_eq!(end.end, if until.len() < 32 { End::Stop } else { End::Length });
        assert_eq!(
            (end.prompt_tokens, end.tokens),
            (ids(&prompt["ids"]).len(), until.len())
        );
    }

    let text = &recorded["text"];
    let (rows, _) = decoder.rows(&ids(&text["ids"]), 3).unwrap().end();
    let expected = text["rows"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len());
    let near = |found: f32, expected: &Value| {
        let by = (found - expected.as_f64().unwrap() as f32).abs();
        assert!(by <= TOLERANCE, "{found}, and torch {expected}");
    };
    for (row, expected) in rows.iter().zip(expected) {
        near(row.lse, &expected["lse"]);
        for (found, expected) in row.top.iter().zip(expected["top"].as_array().unwrap()) {
            assert_eq!(u64::from(found.0), expected[0].as_u64().unwrap());
            near(found.1, &expected[1]);
        }
        match row.next {
            Some(next) => near(next, &expected["next"]),
            None => assert!(expected["next"].is_null()),
        }
    }
}

#[test]
fn smollm2_packed_as_in_its_file_reads_like_floats_and_writes_nearly_so() {
    let Some(file) = file() else { return };
    let mut decoder = load(file, Weights::Stored);
    let text = &recorded()["text"];
    let ids = ids(&text["ids"]);
    let nats = |next: f64, lse: f64| lse - next;
    let expected = text["rows"].as_array().unwrap().iter();
    let expected: f64 = expected
        .filter_map(|row| Some(nats(row["next"].as_f64()?, row["lse"].as_f64()?)))
        .sum();
    let off = |rows: &[Row]| {
        let found: f64 = rows
            .iter()
            .filter_map(|row| Some(nats(f64::from(row.next?), f64::from(row.lse))))
            .sum();
        (found - expected).abs() / rows.len() as f64
    };
    // Several positions at once: the blocks are unpacked, and multiply as floats do.
    let (rows, _) = decoder.rows(&ids, 1).unwrap().end();
    assert!(off(&rows) < 1e-5, "{} nats a token", off(&rows));
    // One after another: the blocks multiply as they are, with states of 8 bits.
    decoder.reset();
    let logits: Vec<_> = ids.iter().map(|id| decoder.forward(&[*id]).unwrap()).collect();
    let (rows, _) = rows::rows(&Tensor::cat(&logits, 0).unwrap(), &ids, 1).unwrap();
    let off = off(&rows);
    assert!(off > 1e-5 && off < 0.1, "{off} nats a token");
}
