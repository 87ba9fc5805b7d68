//! The tensors of a model in memory, by their names. A model is built by taking each of them once: what is left over in the end
//! belongs to another model.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{
    Device, Tensor,
    quantized::{QMatMul, QTensor},
};

use super::wire::Fault;

/// A tensor in memory.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    /// Plain numbers.
    Plain(Tensor),
    /// Numbers packed in blocks.
    Packed(Arc<QTensor>),
}

/// The tensors of a model that have not been taken yet.
#[derive(Debug, Default)]
pub(crate) struct Tensors {
    /// With the path of the file each comes from.
    by_name: BTreeMap<String, (Weight, Arc<str>)>,
}

impl Tensors {
    /// Adds a tensor that was read from a file.
    pub(crate) fn insert(&mut self, name: String, weight: Weight, path: Arc<str>) {
        self.by_name.insert(name, (weight, path));
    }

    /// Tells whether there is a tensor of that name, not taken yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Names of what was not taken.
    pub(crate) fn left(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Drops the tensors of these names, which the model has no use for.
    pub(crate) fn drop_all(&mut self, mut unused: impl FnMut(&str) -> bool) {
        self.by_name.retain(|name, _| !unused(name));
    }

    /// Takes a tensor as plain numbers, of exactly this shape.
    ///
    /// # Errors
    /// [`Fault::Invalid`]: there is none of that name, or it has another shape.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, Fault> {
        match self.take(name, shape)? {
            (Weight::Plain(tensor), _) => Ok(tensor),
            (Weight::Packed(packed), path) => packed
                .dequantize(&Device::Cpu)
                .map_err(|error| invalid(&path, name, &error)),
        }
    }

    /// Takes a matrix to multiply with, of exactly this shape, as it is kept.
    ///
    /// # Errors
    /// As [`Tensors::tensor`].
    pub(crate) fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<QMatMul, Fault> {
        Ok(match self.take(name, &shape)? {
            (Weight::Plain(tensor), _) => QMatMul::Tensor(tensor),
            (Weight::Packed(packed), _) => QMatMul::QTensor(packed),
        })
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<(Weight, Arc<str>), Fault> {
        let Some((weight, path)) = self.by_name.remove(name) else {
            return Err(Fault::Absent {
                what: format!("tensor {name}"),
            });
        };
        let found = match &weight {
            Weight::Plain(tensor) => tensor.dims(),
            Weight::Packed(packed) => packed.shape().dims(),
        };
        match found == shape {
            true => Ok((weight, path)),
            false => Err(Fault::Invalid {
                what: format!("tensor {name} is {found:?}, and the config asks for {shape:?}"),
                path: path.to_string(),
            }),
        }
    }
}

fn invalid(path: &str, name: &str, error: &candle_core::Error) -> Fault {
    Fault::Invalid {
        path: path.to_owned(),
        what: format!("tensor {name}: {error}"),
    }
}
