//! What is asked of a loaded model, whatever it can do: an encoder embeds what was said last, any other goes on from it.

use serde::{Deserialize, Serialize};

use crate::engine::{
    session::{Engine, EngineError},
    wire::{Generate, Generated, Input, Loaded, Message, Prompt, Task},
};

/// What is said to a model, and how it is to answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Talk {
    /// What was said so far, the last at the end.
    pub messages: Vec<Message>,
    /// The last message as it is, without the model's chat template.
    pub raw: bool,
    /// Most tokens of an answer; `None`: as many as the model can look back on.
    pub max_tokens: Option<usize>,
    /// 0: always the likeliest token.
    pub temperature: f64,
    /// Only the likeliest tokens that make up this share are drawn from.
    pub top_p: Option<f64>,
    /// The same seed draws the same tokens.
    pub seed: u64,
}

/// What a model answered. Text was heard before.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Nothing was asked: it is loaded.
    Nothing,
    /// An embedding.
    Embedding {
        /// The vector.
        values: Vec<f32>,
        /// The tokens it was made of.
        tokens: usize,
    },
    /// A text is at its end.
    Generated(Generated),
}

/// Asks; `heard` hears text as it comes.
///
/// # Errors
/// Those of [`Engine::embed`] and [`Engine::generate`].
pub async fn talk(
    engine: &mut Engine,
    loaded: &Loaded,
    talk: Talk,
    mut heard: impl FnMut(String) + Send,
) -> Result<Answer, EngineError> {
    let Some(last) = talk.messages.last() else {
        return Ok(Answer::Nothing);
    };
    let plain = Input::Text(last.content.clone());
    if loaded.task == Task::Embed {
        let (values, ids) = engine.embed(plain).await?;
        let tokens = ids.len();
        return Ok(Answer::Embedding { values, tokens });
    }
    let chats = loaded.chat && !talk.raw;
    let what = Generate {
        prompt: match chats {
            true => Prompt::Chat(talk.messages),
            false => Prompt::Plain(plain),
        },
        max_tokens: talk.max_tokens.unwrap_or(loaded.context),
        temperature: talk.temperature,
        top_p: talk.top_p,
        seed: talk.seed,
        stop: Vec::new(),
    };
    let generated = engine.generate(what, |text, _| heard(text)).await?;
    Ok(Answer::Generated(generated))
}
