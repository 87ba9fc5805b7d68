//! Our own causal decoder: one loop over blocks for all the families of [`Settings`], in 32 bits floats, with the logits of every
//! position on demand. (The decoders of candle-transformers give those of the last position only.)
//!
//! A decoder reads tokens one after another and remembers keys and values of all it has read: what it computes for a token
//! depends on those before it, and on how they were cut into calls only within rounding. The same calls in the same order give the same
//! bits: work is cut into chunks by the model's sizes and the positions alone, never by how many processors there are.

mod attention;
mod block;
mod linear;
mod names;
#[cfg(test)]
mod parity;
#[cfg(test)]
mod real;
mod rope;
pub(crate) mod rows;
mod single;

use candle_core::{DType, Device, Tensor};

use self::{
    block::Block,
    linear::{Linear, Norm},
    names::Part,
    rope::Turns,
    rows::Rows,
};
use super::{
    config::{Form, Settings},
    weights::Tensors,
    wire::Fault,
};

/// Most positions computed at once: beyond this, larger matrices multiply no faster.
const CHUNK_MAX: usize = 256;
/// Most bytes that the scores of attention may take at once, in one layer: they grow with the square of the positions.
const SCORES_LEN_MAX: usize = 64 << 20;
/// Most bytes of logits computed at once, where all positions are asked for: a vocabulary of 2^18 at 64 positions.
const LOGITS_LEN_MAX: usize = 64 << 20;

/// A causal model in memory, and what it has read so far.
#[derive(Debug)]
pub(crate) struct Decoder {
    settings: Settings,
    embeddings: Linear,
    blocks: Vec<Block>,
    norm: Norm,
    /// `None`: the embeddings' matrix.
    head: Option<Linear>,
    rope: Turns,
    rope_window: Option<Turns>,
    position: usize,
}

impl Decoder {
    /// Builds the model that `settings` describe of these tensors, and takes them all.
    ///
    /// # Errors
    /// [`Fault::Absent`], [`Fault::Invalid`]: a tensor is missing, or has another shape. [`Fault::Unsupported`]: a tensor is left over that the
    /// settings have no use for: the model is another one than they describe.
    pub(crate) fn load(settings: Settings, tensors: &mut Tensors) -> Result<Decoder, Fault> {
        let form = settings.form;
        let name = |part: Part| part.name(form, None);
        let (vocab, hidden) = (settings.vocab, settings.hidden);
        let embeddings = Linear::load(tensors, &name(Part::Embeddings), [vocab, hidden], false)?;
        let head = load_head(&settings, tensors, &embeddings)?;
        let norm = Norm::load(tensors, &name(Part::Norm), hidden, &settings)?;
        let factors = match form {
            Form::Gguf if tensors.has(names::ROPE_FACTORS) => {
                let factors = tensors.tensor(names::ROPE_FACTORS, &[settings.rope_dim / 2])?;
                Some(
                    factors
                        .to_dtype(DType::F32)
                        .and_then(|factors| factors.to_vec1())
                        .map_err(|error| of(&settings, error))?,
                )
            }
            _ => None,
        };
        let rope = Turns::new(settings.rope, settings.rope_dim, factors.as_deref(), &settings)?;
        let rope_window = settings
            .rope_window
            .map(|rope| Turns::new(rope, settings.rope_dim, None, &settings))
            .transpose()?;
        let blocks = (0..settings.windows.len()).map(|layer| Block::load(layer, &settings, tensors));
        let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
        if let Some(left) = tensors.left().find(|name| !names::ignored(name)) {
            return Err(Fault::Unsupported {
                path: settings.path.clone(),
                what: format!(
                    "tensor {left} has no place in a {} model of {} layers",
                    settings.name,
                    blocks.len()
                ),
            });
        }
        Ok(Decoder {
            settings,
            embeddings,
            blocks,
            norm,
            head,
            rope,
            rope_window,
            position: 0,
        })
    }

    /// What it computes.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many tokens it has read since it was loaded, or reset.
    #[cfg(test)]
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// Forgets all that it has read.
    pub(crate) fn reset(&mut self) {
        self.position = 0;
        self.blocks.iter_mut().for_each(Block::reset);
    }

    /// Reads tokens; returns the logits behind each of them, `[ids.len(), vocab]`, 32 bits floats.
    ///
    /// # Errors
    /// [`Fault::Ask`]: no tokens, one that is not in the vocabulary, or more than the model can look back on. [`Fault::Invalid`]: the
    /// model's own matrices do not multiply. After an error it has forgotten all.
    #[cfg(test)]
    pub(crate) fn forward(&mut self, ids: &[u32]) -> Result<Tensor, Fault> {
        let mut slices = Vec::new();
        self.each(ids, |logits| {
            slices.push(logits.clone());
            Ok(())
        })?;
        Tensor::cat(&slices, 0).map_err(|error| of(&self.settings, error))
    }

    /// Reads tokens; returns the logits behind the last of them: as many as the vocabulary has tokens.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub(crate) fn last(&mut self, ids: &[u32]) -> Result<Vec<f32>, Fault> {
        let mut last = None;
        self.chunks(ids, |_, states| {
            last = Some(states.narrow(0, states.dim(0)? - 1, 1)?);
            Ok(Ok(()))
        })?;
        let last = last.ok_or_else(|| Fault::Ask("no tokens".to_owned()))?;
        let logits = self
            .logits(&last)
            .and_then(|logits| logits.flatten_all()?.to_vec1());
        logits.map_err(|error| of(&self.settings, error))
    }

    /// Forgets all, reads tokens, and returns what it expects behind each of them, with the BLAKE3 of all logits.
    ///
    /// # Errors
    /// As [`Decoder::forward`]; [`Fault::NotANumber`] where a logit is none.
    pub(crate) fn rows(&mut self, ids: &[u32], top: usize) -> Result<Rows, Fault> {
        self.reset();
        let mut rows = Rows::new(ids, top);
        self.each(ids, |logits| rows.add(logits))?;
        Ok(rows)
    }

    /// Reads tokens; gives the logits of a few positions after another to `take`, in order.
    fn each(&mut self, ids: &[u32], mut take: impl FnMut(&Tensor) -> Result<(), Fault>) -> Result<(), Fault> {
        let most = (LOGITS_LEN_MAX / (4 * self.settings.vocab)).max(1);
        self.chunks(ids, |decoder, states| {
            let positions = states.dim(0)?;
            for start in (0..positions).step_by(most) {
                let logits = decoder.logits(&states.narrow(0, start, most.min(positions - start))?)?;
                if let Err(fault) = take(&logits) {
                    return Ok(Err(fault));
                }
            }
            Ok(Ok(()))
        })
    }

    /// Reads tokens; gives the states behind the last block, a chunk of positions after another.
    fn chunks(
        &mut self,
        ids: &[u32],
        mut take: impl FnMut(&Decoder, &Tensor) -> candle_core::Result<Result<(), Fault>>,
    ) -> Result<(), Fault> {
        let vocab = self.settings.vocab;
        if ids.is_empty() {
            return Err(Fault::Ask("no tokens".to_owned()));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            return Err(Fault::Ask(format!(
                "token {id} is none of the {vocab} that the model has"
            )));
        }
        if self.settings.context.saturating_sub(self.position) < ids.len() {
            let (position, context) = (self.position, self.settings.context);
            return Err(Fault::Ask(format!(
                "{} tokens behind {position} are more than the {context} that the model can look back on",
                ids.len()
            )));
        }
        let mut left = ids;
        while !left.is_empty() {
            let per_position = 4 * self.settings.heads * (self.position + CHUNK_MAX);
            let chunk = (SCORES_LEN_MAX / per_position)
                .clamp(1, CHUNK_MAX)
                .min(left.len());
            let (now, later) = left.split_at(chunk);
            // On one of the threads that multiply, which then hands work to the others without waiting for any.
            let states = rayon::scope(|_| self.states(now));
            let taken = states.and_then(|states| take(self, &states));
            let taken = taken.unwrap_or_else(|error| Err(of(&self.settings, error)));
            if let Err(fault) = taken {
                self.reset();
                return Err(fault);
            }
            left = later;
        }
        Ok(())
    }

    /// Reads a chunk of tokens; returns the states behind the last block, `[ids.len(), hidden]`.
    fn states(&mut self, ids: &[u32]) -> candle_core::Result<Tensor> {
        let from = self.position;
        let ids = Tensor::new(ids, &Device::Cpu)?;
        let mut states = self.embeddings.rows(&ids)?;
        if let Some(scale) = self.settings.embedding_scale {
            states = (states * f64::from(scale as f32))?;
        }
        let positions = ids.dim(0)?;
        let turn = self.rope.at(from, positions)?;
        let turn_window = self
            .rope_window
            .as_ref()
            .map(|rope| rope.at(from, positions))
            .transpose()?;
        for block in &mut self.blocks {
            let turn = turn_window
                .as_ref()
                .filter(|_| block.has_window())
                .unwrap_or(&turn);
            states = block.forward(&states, turn, from)?;
        }
        self.position += positions;
        Ok(states)
    }

    fn logits(&self, states: &Tensor) -> candle_core::Result<Tensor> {
        let states = self.norm.forward(states)?;
        rayon::scope(|_| self.head.as_ref().unwrap_or(&self.embeddings).forward(&states))
    }
}

/// Takes the output's matrix, if the model has one of its own.
fn load_head(
    settings: &Settings,
    tensors: &mut Tensors,
    embeddings: &Linear,
) -> Result<Option<Linear>, Fault> {
    let name = Part::Head.name(settings.form, None);
    let shape = [settings.vocab, settings.hidden];
    match (settings.tied, tensors.has(&name)) {
        (Some(false), _) | (None, true) => Linear::load(tensors, &name, shape, false).map(Some),
        (Some(true) | None, false) => Ok(None),
        // Saved twice by some tools. Another matrix there would be a model that readers disagree about.
        (Some(true), true) => match Linear::load(tensors, &name, shape, false)?
            .same(embeddings)
            .map_err(|error| of(settings, error))?
        {
            true => Ok(None),
            false => Err(Fault::Unsupported {
                path: settings.path.clone(),
                what: format!(
                    "tie_word_embeddings is true, and tensor {name} is another than the embeddings"
                ),
            }),
        },
    }
}

/// What candle finds wrong: shapes were checked while loading, so this is a model that contradicts itself.
fn of(settings: &Settings, error: candle_core::Error) -> Fault {
    Fault::Invalid {
        path: settings.path.clone(),
        what: format!("it cannot be computed: {error}"),
    }
}
