//! From a row for each token to one vector, as the repo's own files ask for: `modules.json` names the steps, `1_Pooling/config.json`
//! the kind. A repo without them was not made for embeddings; then it is the mean over all tokens, not normalized, as
//! sentence-transformers takes it too.

use serde_json::Value;

use crate::engine::wire::Fault;

/// The file that names the steps.
pub(crate) const MODULES: &str = "modules.json";
/// The file that names a model's prompts.
pub(crate) const PROMPTS: &str = "config_sentence_transformers.json";

/// How rows become a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pooling {
    kind: Kind,
    normalized: bool,
    /// Width of the rows, and the file that says so.
    width: Option<(usize, String)>,
    /// Most tokens of a text, where the files set fewer than the model could.
    context: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The first token's row.
    Cls,
    /// The mean over all rows.
    Mean,
    /// The largest of all rows, for each column.
    Max,
}

const KINDS: [(&str, Kind); 3] = [("cls", Kind::Cls), ("mean", Kind::Mean), ("max", Kind::Max)];

impl Pooling {
    /// Reads the files. `file` returns a small file of the repo.
    ///
    /// # Errors
    /// [`Fault::Unsupported`]: they ask for a step that this build does not do. [`Fault::Invalid`]: they do not read.
    /// What `file` said.
    pub(crate) fn read(file: &mut dyn FnMut(&str) -> Result<Option<Value>, Fault>) -> Result<Pooling, Fault> {
        let mut pooling = Pooling {
            kind: Kind::Mean,
            normalized: false,
            width: None,
            context: None,
        };
        let Some(modules) = file(MODULES)? else {
            return Ok(pooling);
        };
        let modules = modules
            .as_array()
            .ok_or_else(|| invalid(MODULES, "it is no array"))?;
        let mut steps = modules.iter();
        let mut next = || -> Option<(&str, &str)> {
            let module = steps.next()?;
            let class = module["type"].as_str().unwrap_or("");
            // By the last part: the modules have moved within their package.
            let class = class.rsplit('.').next().unwrap_or("");
            Some((class, module["path"].as_str().unwrap_or("")))
        };
        match next() {
            Some(("Transformer", "")) => {}
            other => return Err(unknown_step(other)),
        }
        match next() {
            Some(("Pooling", path)) => pooling.take(&format!("{path}/config.json"), file)?,
            other => return Err(unknown_step(other)),
        }
        match next() {
            Some(("Normalize", _)) => pooling.normalized = true,
            None => {}
            other => return Err(unknown_step(other)),
        }
        if let Some(step) = next() {
            return Err(unknown_step(Some(step)));
        }
        pooling.text(file)?;
        Ok(pooling)
    }

    /// Reads how a text becomes tokens for this model.
    fn text(&mut self, file: &mut dyn FnMut(&str) -> Result<Option<Value>, Fault>) -> Result<(), Fault> {
        let prompts = file(PROMPTS)?.unwrap_or_default();
        if !prompts["default_prompt_name"].is_null() {
            return Err(unsupported(
                PROMPTS,
                format!(
                    "a prompt in front of all texts ({})",
                    prompts["default_prompt_name"]
                ),
            ));
        }
        let path = "sentence_bert_config.json";
        let text = file(path)?.unwrap_or_default();
        if !matches!(text["do_lower_case"], Value::Null | Value::Bool(false)) {
            return Err(unsupported(
                path,
                format!("do_lower_case is {}", text["do_lower_case"]),
            ));
        }
        self.context = match &text["max_seq_length"] {
            Value::Null => None,
            most => {
                let most = most
                    .as_u64()
                    .filter(|most| *most > 0)
                    .and_then(|most| usize::try_from(most).ok());
                Some(most.ok_or_else(|| invalid(path, "max_seq_length is no number above 0"))?)
            }
        };
        Ok(())
    }

    fn take(
        &mut self,
        path: &str,
        file: &mut dyn FnMut(&str) -> Result<Option<Value>, Fault>,
    ) -> Result<(), Fault> {
        let config = file(path)?.ok_or_else(|| Fault::Absent {
            what: path.to_owned(),
        })?;
        let mode = |key: &str| config[key] == Value::Bool(true);
        // Once a flag for each kind, now also one name.
        let asked: Vec<&str> = match &config["pooling_mode"] {
            Value::String(kind) => vec![kind],
            _ => config
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(key, _)| Some((key, key.strip_prefix("pooling_mode_")?)))
                .filter(|(key, _)| mode(key))
                .map(|(_, kind)| {
                    kind.strip_suffix("_tokens")
                        .or_else(|| kind.strip_suffix("_token"))
                        .unwrap_or(kind)
                })
                .collect(),
        };
        self.kind = match asked[..] {
            [one] => KINDS.iter().find(|(name, _)| *name == one).map(|(_, kind)| *kind),
            _ => None,
        }
        .ok_or_else(|| {
            unsupported(
                path,
                format!("pooling by {asked:?}; this build does one of cls, mean, max"),
            )
        })?;
        let width = ["word_embedding_dimension", "embedding_dimension"].map(|key| config[key].as_u64());
        self.width = width
            .into_iter()
            .flatten()
            .next()
            .and_then(|width| usize::try_from(width).ok())
            .map(|width| (width, path.to_owned()));
        Ok(())
    }

    /// Most tokens of a text, where the files set a number.
    pub(super) fn context(&self) -> Option<usize> {
        self.context
    }

    /// Checks that it is made for rows of this width.
    pub(super) fn fits(&self, width: usize) -> Result<(), Fault> {
        match &self.width {
            Some((asked, path)) if *asked != width => Err(invalid(
                path,
                &format!("it is made for rows of {asked}, and the model's have {width}"),
            )),
            _ => Ok(()),
        }
    }

    /// Makes one vector of finite rows, at least one.
    ///
    /// # Errors
    /// [`Fault::NotANumber`]: a vector of nothing but zeros cannot be made one of length 1, or a sum overflows.
    pub(super) fn pool(&self, rows: &[Vec<f32>]) -> Result<Vec<f32>, Fault> {
        let columns = rows.first().map_or(0, Vec::len);
        let column = |at: usize| rows.iter().map(move |row| f64::from(row[at]));
        let mut vector: Vec<f64> = (0..columns)
            .map(|at| match self.kind {
                Kind::Cls => column(at).next().unwrap_or(0.0),
                Kind::Mean => column(at).sum::<f64>() / rows.len() as f64,
                Kind::Max => column(at).fold(f64::NEG_INFINITY, f64::max),
            })
            .collect();
        if self.normalized {
            let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
            vector.iter_mut().for_each(|value| *value /= length);
        }
        let vector: Vec<f32> = vector.into_iter().map(|value| value as f32).collect();
        match vector.iter().all(|value| value.is_finite()) {
            true => Ok(vector),
            false => Err(Fault::NotANumber("an embedding that has no length".into())),
        }
    }
}

fn unknown_step(step: Option<(&str, &str)>) -> Fault {
    unsupported(
        MODULES,
        match step {
            Some((class, path)) => {
                format!("step {class:?} ({path:?}); this build does Transformer, Pooling, Normalize")
            }
            None => "no pooling after the transformer".into(),
        },
    )
}

fn unsupported(path: &str, what: String) -> Fault {
    Fault::Unsupported {
        path: path.to_owned(),
        what: format!("{what}, which this build does not do"),
    }
}

fn invalid(path: &str, what: &str) -> Fault {
    Fault::Invalid {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}
