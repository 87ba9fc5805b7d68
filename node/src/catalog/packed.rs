//! Frequent words of cards in two or three bytes: a text that begins with a control character, which no card has, is a number in a table.
//!
//! One character from U+0001 to U+001F stands for one of the first 31 words; with a second one, U+0020 to U+007E, for one of those after. The table
//! only grows, at its end: a row names its words by their places.

use std::collections::HashMap;
use std::sync::LazyLock;

use protocol::card::Summary;

/// Words that one character stands for.
const SHORT: usize = 31;

/// Words that share a first character.
const PAGE: usize = 95;

/// The words, the most frequent first, parted by spaces: those that take one character, then tasks, licences, libraries, languages, formats and types of
/// numbers, tags. Never change the order: append.
const LIST: &str = "\
    en transformers safetensors apache-2.0 text-generation finetune mit bfloat16 generated_from_trainer \
    pytorch endpoints_compatible text-generation-inference conversational gguf float32 quantized adapter \
    huggingface.co region:us unsloth trl lora diffusers text-classification other float16 peft text-to-image \
    llama tensorboard zh \
    automatic-speech-recognition feature-extraction token-classification image-classification \
    reinforcement-learning question-answering fill-mask sentence-similarity image-text-to-text translation \
    summarization object-detection text-to-speech image-segmentation audio-classification \
    zero-shot-classification text-ranking image-to-image text-to-video video-classification depth-estimation \
    tabular-classification tabular-regression robotics any-to-any audio-to-audio image-to-text \
    image-to-video image-to-3d text-to-3d text-to-audio text2text-generation visual-question-answering \
    document-question-answering zero-shot-image-classification zero-shot-object-detection mask-generation \
    unconditional-image-generation time-series-forecasting audio-text-to-text video-text-to-text \
    visual-document-retrieval keypoint-detection graph-ml table-question-answering multiple-choice \
    openrail openrail++ creativeml-openrail-m bigscience-openrail-m bigscience-bloom-rail-1.0 \
    bigcode-openrail-m cc cc0-1.0 cc-by-2.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 \
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 llama2 llama3 \
    llama3.1 llama3.2 llama3.3 llama4 gemma gpl-2.0 gpl-3.0 gpl agpl-3.0 lgpl-3.0 afl-3.0 bsd bsd-2-clause \
    bsd-3-clause artistic-2.0 wtfpl unlicense isc mpl-2.0 ms-pl odbl odc-by pddl zlib ncsa osl-3.0 unknown \
    apple-amlr apple-ascl deepfloyd-if-license fair-noncommercial-research-license intel-research etalab-2.0 \
    sentence-transformers stable-baselines3 adapter-transformers adapters mlx mlx-lm timm ml-agents keras \
    keras-hub setfit sample-factory spacy flair nemo espnet speechbrain fastai ultralytics onnx open_clip \
    lerobot vllm sklearn allennlp asteroid paddlenlp pyannote-audio span-marker stanza transformers.js \
    bertopic model2vec pxia rl-algo-impls tf-keras diffusion-single-file coreml openvino llamafile llama-cpp \
    exllamav2 ctranslate2 litert executorch sglang datasets pandas dask polars mlcroissant webdataset \
    fiftyone distilabel argilla gradio streamlit docker static \
    es fr de ja ko pt ru it ar hi vi tr nl pl th id sv fi fa uk cs bn he ro ur el da hu ta ca sw te no mr bg \
    multilingual hr sk sr sl et lt lv ms tl ml kn gu pa si ne my km lo mn kk uz az hy ka is ga cy eu gl af \
    sq mk be la eo am yo ig ha zu xh so jv su bo code as or sa ps ku nb nn bs mt \
    bin parquet json csv text arrow imagefolder audiofolder tensorflow jax tf flax rust pickle tflite npy \
    bf16 f32 f16 f64 f8_e4m3 f8_e5m2 float8_e4m3fn int8 uint8 int4 i8 u8 i32 i64 q2_k q3_k_m q3_k_s q3_k_l \
    q4_0 q4_1 q4_k q4_k_m q4_k_s q5_0 q5_k q5_k_m q5_k_s q6_k q8_0 iq2_xxs iq2_xs iq3_xxs iq4_xs iq4_nl \
    mxfp4 nvfp4 merge \
    autotrain_compatible mergekit mistral qwen qwen2 qwen2.5 qwen3 bert roberta distilbert xlm-roberta t5 \
    gpt2 gpt_neox phi phi3 gemma2 gemma3 gemma3_text deepseek mixtral falcon whisper wav2vec2 vit \
    stable-diffusion stable-diffusion-xl stable-diffusion-xl-diffusers stable-diffusion-diffusers flux \
    template:sd-lora template:diffusion-lora sft dpo grpo orpo kto rlhf model-index \
    deep-reinforcement-learning imatrix llama-3 llama-3.1 llama-3.2 text-embeddings-inference custom_code \
    4-bit 8-bit bitsandbytes gptq awq exl2 moe vision audio medical finance chemistry biology legal roleplay \
    not-for-all-audiences math reasoning distillation hf-asr-leaderboard whisper-event dreambooth \
    textual-inversion synthetic chat instruct uncensored abliterated art music climate agent multimodal \
    function-calling tool-use image-generation text2text base_model:adapter autotrain axolotl llama-factory \
    alignment-handbook open-r1 arxiv:1910.09700 license:apache-2.0 license:mit region:eu \
    size_categories:n<1K size_categories:1K<n<10K size_categories:10K<n<100K size_categories:100K<n<1M \
    size_categories:1M<n<10M modality:text modality:image modality:audio modality:tabular modality:video \
    format:parquet format:json format:csv library:datasets library:pandas library:polars library:mlcroissant \
    croissant ppo dqn q-learning reinforce atari LunarLander-v2 CartPole-v1 Taxi-v3 FrozenLake-v1-4x4 \
    ML-Agents-Huggy Huggy mergekit,lazymergekit frankenmerge dare ties slerp nsfw compressed-tensors fp8 \
    w4a16 mixture-of-experts";

static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| LIST.split_ascii_whitespace().collect());

static PLACES: LazyLock<HashMap<&str, usize>> =
    LazyLock::new(|| WORDS.iter().enumerate().map(|(at, word)| (*word, at)).collect());

/// Packs a text, if it is one of the words.
pub(super) fn pack(text: String) -> String {
    match PLACES.get(text.as_str()) {
        Some(&at) => code(at),
        None if text.starts_with(is_code) => format!("\0{text}"),
        None => text,
    }
}

/// The text of a packed one. `None`: it names no word.
pub(super) fn unpack(text: String) -> Option<String> {
    let mut chars = text.chars();
    let Some(first) = chars.next().filter(|c| is_code(*c)) else {
        return Some(text);
    };
    let rest = chars.as_str();
    if first == '\0' {
        return Some(rest.to_owned());
    }
    let group = first as usize - 1;
    let at = match rest.as_bytes() {
        [] => group,
        [second @ 0x20..=0x7e] => SHORT + group * PAGE + usize::from(second - 0x20),
        _ => return None,
    };
    WORDS.get(at).map(|word| (*word).to_owned())
}

/// Packs the words of a card.
pub(super) fn pack_card(card: Summary) -> Summary {
    each(card, |text| Some(pack(text))).expect("every text is packed")
}

/// The card of a packed one. `None`: it has a word that is none.
pub(super) fn unpack_card(card: Summary) -> Option<Summary> {
    each(card, unpack)
}

fn is_code(c: char) -> bool {
    c < ' '
}

fn code(at: usize) -> String {
    let char = |number: usize| u8::try_from(number).map_or('\0', char::from);
    let Some(after) = at.checked_sub(SHORT) else {
        return char(at + 1).to_string();
    };
    String::from_iter([char(after / PAGE + 1), char(after % PAGE + 0x20)])
}

fn each(card: Summary, change: impl Fn(String) -> Option<String>) -> Option<Summary> {
    let all = |texts: Vec<String>| texts.into_iter().map(&change).collect::<Option<Vec<_>>>();
    let one = |text: Option<String>| match text {
        Some(text) => change(text).map(Some),
        None => Some(None),
    };
    Some(Summary {
        base_model: all(card.base_model)?,
        base_relation: one(card.base_relation)?,
        bytes: card.bytes,
        description: one(card.description)?,
        dtype: one(card.dtype)?,
        formats: all(card.formats)?,
        languages: all(card.languages)?,
        library: one(card.library)?,
        license: one(card.license)?,
        parameters: card.parameters,
        tags: all(card.tags)?,
        task: one(card.task)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_word_is_there_once_takes_two_bytes_at_most_and_comes_back() {
        assert_eq!(PLACES.len(), WORDS.len());
        assert!(WORDS.len() <= SHORT + 31 * PAGE);
        for (at, word) in WORDS.iter().enumerate() {
            let packed = pack((*word).to_owned());
            assert_eq!(packed.len(), if at < SHORT { 1 } else { 2 }, "{word}");
            assert_eq!(unpack(packed).as_deref(), Some(*word));
        }
        // Rows that are written name these places: an inserted word would change them.
        assert_eq!(unpack("\u{1}".to_owned()).as_deref(), Some("en"));
        assert_eq!(
            unpack("\u{1} ".to_owned()).as_deref(),
            Some("automatic-speech-recognition")
        );
        assert_eq!(unpack("\u{5}W".to_owned()).as_deref(), Some("mixture-of-experts"));
        assert_eq!(unpack("\u{1f}~".to_owned()), None);
        assert_eq!(unpack("\u{1}é".to_owned()), None);
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC*|[\\x00-\\x20]{1,3}|[\\x00-\\x1f]{1,2}[a-z]{0,2}") {
            prop_assert_eq!(unpack(pack(text.clone())), Some(text));
        }

        #[test]
        fn no_text_makes_unpacking_panic(text in any::<String>()) {
            let _ = unpack(text);
        }
    }
}
