//! Files made for tests: sound ones, and ones that are wrong in one place.

/// A safetensors file of this header and so many bytes of tensors.
pub(super) fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0..data).map(|at| at as u8));
    file
}

/// The entry of a tensor in such a header.
pub(super) fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

/// A GGUF file, part by part.
#[derive(Clone, Debug)]
pub(super) struct Gguf {
    pub(super) magic: [u8; 4],
    pub(super) version: u32,
    /// Where they are not what is written: numbers of tensors and keys.
    pub(super) counts: (Option<u64>, Option<u64>),
    /// Key, type and bytes of values.
    pub(super) keys: Vec<(Vec<u8>, u32, Vec<u8>)>,
    /// Name, dimensions with columns before rows, type and offset.
    pub(super) tensors: Vec<(Vec<u8>, Vec<u64>, u32, u64)>,
    pub(super) alignment: u64,
    /// Bytes of tensors.
    pub(super) data: u64,
}

impl Gguf {
    /// A sound one.
    pub(super) fn new() -> Gguf {
        let key = |key: &str, kind, value: Vec<u8>| (key.as_bytes().to_vec(), kind, value);
        Gguf {
            magic: *b"GGUF",
            version: 3,
            counts: (None, None),
            keys: vec![
                key("general.architecture", 8, string(b"llama")),
                key("llama.context_length", 4, 2048_u32.to_le_bytes().to_vec()),
                key("llama.rope.freq_base", 6, 10_000_f32.to_le_bytes().to_vec()),
                key(
                    "tokenizer.ggml.tokens",
                    9,
                    array(8, 3, &[string(b"a"), string(b"b"), string(b"<0x0A>")].concat()),
                ),
                key(
                    "tokenizer.ggml.token_type",
                    9,
                    array(5, 3, &[1_i32, 1, 6].map(i32::to_le_bytes).concat()),
                ),
            ],
            tensors: vec![
                (b"a".to_vec(), vec![32, 2], 2, 0),
                (b"b".to_vec(), vec![4], 0, 64),
            ],
            alignment: 32,
            data: 64 + 32,
        }
    }

    pub(super) fn with_key(mut self, key: &[u8], kind: u32, value: Vec<u8>) -> Gguf {
        self.keys.push((key.to_vec(), kind, value));
        self
    }

    pub(super) fn with_tensors(mut self, tensors: &[(&[u8], &[u64], u32, u64)]) -> Gguf {
        let owned = tensors
            .iter()
            .map(|(name, dimensions, kind, offset)| (name.to_vec(), dimensions.to_vec(), *kind, *offset));
        self.tensors = owned.collect();
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.counts.0.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.counts.1.unwrap_or(self.keys.len() as u64).to_le_bytes());
        for (key, kind, value) in &self.keys {
            file.extend(string(key));
            file.extend(kind.to_le_bytes());
            file.extend(value);
        }
        for (name, dimensions, kind, offset) in &self.tensors {
            file.extend(string(name));
            file.extend((dimensions.len() as u32).to_le_bytes());
            dimensions.iter().for_each(|len| file.extend(len.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(self.alignment as usize), 0);
        file.extend((0..self.data).map(|at| at as u8));
        file
    }
}

/// A string as GGUF has it.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// An array as GGUF has it.
pub(super) fn array(kind: u32, elements: u64, bytes: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &elements.to_le_bytes(), bytes].concat()
}
