//! The summary as it is written: canonical JSON, fields in the order of their names, those of the Hub where it has one.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Summary;
use crate::limits::VERSION;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written<'a> {
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    base_model: Vec<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    base_model_relation: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    dtype: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    formats: Vec<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    language: Vec<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    library_name: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    license: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pipeline_tag: Option<Cow<'a, str>>,
    shoal: u64,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Cow<'a, str>>,
}

impl Written<'_> {
    pub(super) fn of(summary: &Summary) -> Written<'_> {
        Written {
            base_model: lent(&summary.base_model),
            base_model_relation: summary.base_relation.as_deref().map(Cow::Borrowed),
            bytes: summary.bytes,
            description: summary.description.as_deref().map(Cow::Borrowed),
            dtype: summary.dtype.as_deref().map(Cow::Borrowed),
            formats: lent(&summary.formats),
            language: lent(&summary.languages),
            library_name: summary.library.as_deref().map(Cow::Borrowed),
            license: summary.license.as_deref().map(Cow::Borrowed),
            parameters: summary.parameters,
            pipeline_tag: summary.task.as_deref().map(Cow::Borrowed),
            shoal: VERSION,
            tags: lent(&summary.tags),
        }
    }

    pub(super) fn read(self) -> Summary {
        Summary {
            base_model: owned(self.base_model),
            base_relation: self.base_model_relation.map(Cow::into_owned),
            bytes: self.bytes,
            description: self.description.map(Cow::into_owned),
            dtype: self.dtype.map(Cow::into_owned),
            formats: owned(self.formats),
            languages: owned(self.language),
            library: self.library_name.map(Cow::into_owned),
            license: self.license.map(Cow::into_owned),
            parameters: self.parameters,
            tags: owned(self.tags),
            task: self.pipeline_tag.map(Cow::into_owned),
        }
    }
}

fn lent(texts: &[String]) -> Vec<Cow<'_, str>> {
    texts.iter().map(|text| Cow::Borrowed(text.as_str())).collect()
}

fn owned(texts: Vec<Cow<'_, str>>) -> Vec<String> {
    texts.into_iter().map(Cow::into_owned).collect()
}
