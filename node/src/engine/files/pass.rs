//! One way through a file, from its first byte to its last, that hashes what goes by.

use std::{
    io::{self, Read},
    ops::Range,
};

use protocol::Hash;

use crate::check::TensorInfo;

/// Bytes that are read, hashed and worked on at once: a piece and what is made of it stay in a core's cache.
const PIECE_LEN: usize = 1 << 20;
/// Bytes behind a header that its reader may take with it, and that are kept for who comes next.
const KEPT_LEN: usize = 1 << 20;

/// A file on its way.
pub(super) struct Pass<'a> {
    source: &'a mut dyn Read,
    read: &'a mut dyn FnMut(u64),
    hasher: blake3::Hasher,
    /// Where the next byte that comes from `source` is.
    position: u64,
    /// The last bytes that came from `source`; all of them are hashed.
    kept: Vec<u8>,
    /// Where the next byte is for who asks for tensors.
    next: u64,
    piece: Vec<u8>,
}

impl<'a> Pass<'a> {
    /// Begins at the first byte. `read` is told of bytes as they come.
    pub(super) fn new(source: &'a mut dyn Read, read: &'a mut dyn FnMut(u64)) -> Pass<'a> {
        Pass {
            source,
            read,
            hasher: blake3::Hasher::new(),
            position: 0,
            kept: Vec::new(),
            next: 0,
            piece: Vec::new(),
        }
    }

    /// Goes to a tensor and hands its bytes to `work`, in pieces of whole elements or blocks. Each piece begins where an allocation
    /// does. Tensors are asked for in the order in which they lie in the file.
    ///
    /// # Errors
    /// The file cannot be read, is too short, or the tensor lies before what was read already.
    pub(super) fn pieces(
        &mut self,
        tensor: &TensorInfo,
        mut work: impl FnMut(&[u8]) + Send,
    ) -> io::Result<()> {
        let Range { start, end } = tensor.range;
        if start >= end {
            return Ok(());
        }
        if start < self.next {
            return Err(io::Error::other(format!(
                "tensor {} lies before the end of another",
                tensor.name
            )));
        }
        while self.position < start {
            self.next = self.position;
            let ahead = usize::try_from(start - self.position).unwrap_or(PIECE_LEN);
            self.step(ahead.min(PIECE_LEN), |_| ())?;
        }
        self.next = start;
        let block = usize::try_from(tensor.dtype.block().1).unwrap_or(1);
        let whole = PIECE_LEN / block * block;
        let mut left = end - start;
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(whole).min(whole);
            self.step(len, &mut work)?;
            left -= len as u64;
        }
        Ok(())
    }

    /// Reads what is left, and returns how long the file is and what it hashes to.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn finish(mut self) -> io::Result<(u64, Hash)> {
        self.piece.resize(PIECE_LEN, 0);
        loop {
            match self.source.read(&mut self.piece) {
                Ok(0) => return Ok((self.position, self.hasher.finalize().into())),
                Ok(len) => {
                    self.hasher.update(&self.piece[..len]);
                    self.position += len as u64;
                    (self.read)(len as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the next `len` bytes, at most [`PIECE_LEN`], and works on them while those that are new are hashed.
    fn step(&mut self, len: usize, mut work: impl FnMut(&[u8]) + Send) -> io::Result<()> {
        // Of what the reader of the header took with it.
        let behind = usize::try_from(self.position - self.next).unwrap_or(usize::MAX);
        let from = self
            .kept
            .len()
            .checked_sub(behind)
            .ok_or_else(|| io::Error::other("the reader of the header took more with it than is kept"))?;
        let known = behind.min(len);
        self.piece.resize(len, 0);
        self.piece[..known].copy_from_slice(&self.kept[from..from + known]);
        self.source.read_exact(&mut self.piece[known..])?;
        let (piece, hasher) = (&self.piece, &mut self.hasher);
        rayon::join(|| hasher.update(&piece[known..]), || work(piece));
        let fresh = (len - known) as u64;
        self.position += fresh;
        self.next += len as u64;
        (self.read)(fresh);
        Ok(())
    }
}

/// For who reads the header.
impl Read for Pass<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(buffer)?;
        let bytes = &buffer[..len];
        self.hasher.update(bytes);
        self.position += len as u64;
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > 2 * KEPT_LEN {
            self.kept.drain(..self.kept.len() - KEPT_LEN);
        }
        (self.read)(len as u64);
        Ok(len)
    }
}
