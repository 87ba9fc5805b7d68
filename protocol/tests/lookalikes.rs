//! Names that a user may take for another are told apart from names that are merely near.

use proptest::prelude::*;
use protocol::lookalike::{looks_like, skeleton};

/// Names as squatters made or might make them, of well-known ones.
const SQUATS: &[(&str, &str)] = &[
    ("llama-2-7b", "Llama-2-7B"),
    ("llama-2-7b", "l1ama-2-7b"),
    ("llama-2-7b", "lIama-2-7b"),
    ("llama-2-7b", "llama_2_7b"),
    ("llama-2-7b", "llama.2.7b"),
    ("llama-2-7b", "lama-2-7b"),
    ("llama-2-7b", "llaama-2-7b"),
    ("llama-2-7b", "lllama-2-7b"),
    ("llama-2-7b", "llama-2-7bb"),
    ("openai", "0penai"),
    ("openai", "opena1"),
    ("openai", "openal"),
    ("openai", "opanai"),
    ("openai", "opneai"),
    ("google", "g00gle"),
    ("google", "goog1e"),
    ("google", "gogle"),
    ("google", "gooogle"),
    ("microsoft", "rnicrosoft"),
    ("microsoft", "mircosoft"),
    ("microsoft", "micosoft"),
    ("mistralai", "mistral-ai"),
    ("mistralai", "rnistralai"),
    ("facebook", "faceb00k"),
    ("facebook", "facebok"),
    ("bert-base-uncased", "bert-base-uncaased"),
    ("bert-base-uncased", "bret-base-uncased"),
    ("bert-base-uncased", "bertbase-uncased"),
    ("whisper-large-v3", "vvhisper-large-v3"),
    ("whisper-large-v3", "whisper-1arge-v3"),
    ("whisper-large-v3", "wisper-large-v3"),
    ("stable-diffusion-xl", "stable-difusion-xl"),
    ("stable-diffusion-xl", "stable-diffusions-xl"),
    ("deepseek-r1", "deapseek-r1"),
];

/// Names of the same or of other people's models, as they stand beside each other.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("llama-2-7b", "llama-2-7b"),
    ("llama-2-7b", "llama-3-7b"),
    ("llama-2-7b", "llama-2-70b"),
    ("llama-2-7b", "llama-27b"),
    ("llama-3.1-8b", "llama-3.2-8b"),
    ("llama-1", "llama-11"),
    ("bert-base", "bert-large"),
    ("bert-base-cased", "bert-base-uncased"),
    ("v1", "v2"),
    ("e5-small-v1", "e5-small-v2"),
    ("e5-base", "e5-large"),
    ("t5-base", "mt5-base"),
    ("t5-base", "t5-3b"),
    ("opt-1.3b", "opt-13b"),
    ("gpt2", "gpt3"),
    ("gpt2-medium", "gpt2-large"),
    ("yolov8n", "yolov8s"),
    ("yolov8m", "yolov8n"),
    ("yolov8n", "yolov9n"),
    ("opus-mt-en-de", "opus-mt-en-fr"),
    ("opus-mt-en-de", "opus-mt-de-en"),
    ("wav2vec2-base", "wav2vec2-large"),
    ("resnet-18", "resnet-50"),
    ("vit-b-16", "vit-l-16"),
    ("roberta-base", "deberta-base"),
    ("albert-base", "bert-base"),
    ("qwen2-vl", "qwen2-audio"),
    ("qwen2.5-7b", "qwen2.5-72b"),
    ("phi-3-mini", "phi-4-mini"),
    ("model-q4_k_m", "model-q4_k_s"),
    ("model-fp16", "model-fp8"),
    ("part-i", "part-ii"),
    ("model-a", "model-b"),
    ("gemma-2b", "gemma-7b"),
    ("google", "apple"),
    ("", "a"),
];

#[test]
fn squats_look_like_what_they_squat() {
    for (name, squat) in SQUATS {
        assert!(looks_like(name, squat), "{name} and {squat}");
    }
}

#[test]
fn honest_neighbours_do_not_look_alike() {
    for (one, other) in NEIGHBOURS {
        assert!(!looks_like(one, other), "{one} and {other}: {}", skeleton(other));
    }
}

proptest! {
    #[test]
    fn looks_go_both_ways_and_a_skeleton_is_no_longer_than_its_name(
        a in "[a-zA-Z0-9._-]{0,12}",
        b in "[a-zA-Z0-9._-]{0,12}",
    ) {
        prop_assert_eq!(looks_like(&a, &b), looks_like(&b, &a));
        prop_assert!(skeleton(&a).len() <= a.len());
        prop_assert!(!looks_like(&a, &a));
    }

    #[test]
    fn no_text_panics_the_comparison(a in "\\PC{0,40}", b in "\\PC{0,40}") {
        looks_like(&a, &b);
    }
}
