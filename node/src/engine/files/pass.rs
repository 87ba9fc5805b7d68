//! One way through a file, from its first byte to its last, that hashes what goes by.
//!
//! The file comes in pieces of one length, each hashed while it is in a core's cache, and its bytes are handed out, tensor by tensor,
//! where they lie. So it costs nothing that tensors are small. All of it is one thread's: one that reads ahead made it 4 % faster
//! and took a quarter more processor time.

use std::{
    io::{self, Read},
    mem,
    ops::Range,
};

use protocol::Hash;

use crate::check::TensorInfo;

/// Bytes that are read and hashed at once: a piece stays in a core's cache.
const PIECE_LEN: usize = 1 << 20;

/// A file on its way.
pub(super) struct Pass<'a> {
    source: &'a mut dyn Read,
    read: &'a mut dyn FnMut(u64),
    hasher: blake3::Hasher,
    /// The piece before the present one: the reader of a header may take some bytes more with it than it needs.
    before: Vec<u8>,
    /// The present piece, which is hashed.
    now: Vec<u8>,
    /// Where it begins.
    start: u64,
    /// Where the next byte is for who reads the header.
    header: u64,
    /// Where the next byte is for who asks for tensors.
    next: u64,
}

impl<'a> Pass<'a> {
    /// Begins at the first byte. `read` is told of bytes as they come.
    pub(super) fn new(source: &'a mut dyn Read, read: &'a mut dyn FnMut(u64)) -> Pass<'a> {
        Pass {
            source,
            read,
            hasher: blake3::Hasher::new(),
            before: Vec::new(),
            now: Vec::new(),
            start: 0,
            header: 0,
            next: 0,
        }
    }

    /// Goes to a tensor and hands its bytes to `work`, in parts of whole elements or blocks. Tensors are asked for in the order in
    /// which they lie in the file.
    ///
    /// What begins at an even byte of the file, and has elements or blocks of even lengths, is handed out from even addresses.
    ///
    /// # Errors
    /// The file cannot be read, is too short, or the tensor lies before what was read already.
    pub(super) fn pieces(&mut self, tensor: &TensorInfo, mut work: impl FnMut(&[u8])) -> io::Result<()> {
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
        self.next = end;
        let block = usize::try_from(tensor.dtype.block().1).unwrap_or(1);
        let mut at = start;
        // An element, or block, that lies in two pieces.
        let mut cut = Vec::new();
        while at < end {
            let bytes = self.from(at)?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let bytes = &bytes[..bytes.len().min(left)];
            let whole = bytes.len() / block * block;
            if cut.is_empty() && whole > 0 {
                work(&bytes[..whole]);
                at += whole as u64;
                continue;
            }
            let part = &bytes[..bytes.len().min(block - cut.len())];
            cut.extend_from_slice(part);
            at += part.len() as u64;
            if cut.len() == block {
                work(&cut);
                cut.clear();
            }
        }
        Ok(())
    }

    /// Reads what is left, and returns how long the file is and what it hashes to.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn finish(mut self) -> io::Result<(u64, Hash)> {
        while self.step()? {}
        Ok((self.start, self.hasher.finalize().into()))
    }

    /// Returns the bytes from `at` to the end of their piece; none where the file has ended.
    fn from(&mut self, at: u64) -> io::Result<&[u8]> {
        while at >= self.start + self.now.len() as u64 {
            if !self.step()? {
                return Ok(&[]);
            }
        }
        let (piece, start) = match at >= self.start {
            true => (&self.now, self.start),
            false => (&self.before, self.start - self.before.len() as u64),
        };
        let from = at.checked_sub(start).and_then(|from| usize::try_from(from).ok());
        from.and_then(|from| piece.get(from..))
            .ok_or_else(|| io::Error::other("the reader of the header took more with it than is kept"))
    }

    /// Goes to the next piece, and hashes it. `false`: there is none.
    fn step(&mut self) -> io::Result<bool> {
        mem::swap(&mut self.before, &mut self.now);
        self.start += self.before.len() as u64;
        fill(self.source, &mut self.now)?;
        self.hasher.update(&self.now);
        (self.read)(self.now.len() as u64);
        Ok(!self.now.is_empty())
    }
}

/// Reads a piece: shorter than others, or empty, where the file ends.
fn fill(source: &mut dyn Read, piece: &mut Vec<u8>) -> io::Result<()> {
    piece.resize(PIECE_LEN, 0);
    let mut len = 0;
    while len < PIECE_LEN {
        match source.read(&mut piece[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                piece.clear();
                return Err(error);
            }
        }
    }
    piece.truncate(len);
    Ok(())
}

/// For who reads the header.
impl Read for Pass<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = self.header;
        let bytes = self.from(at)?;
        let len = buffer.len().min(bytes.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        self.header += len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Dtype;

    /// Hands out a few bytes at a time, and fails behind them where it is told to.
    struct Slowly<'a>(&'a [u8], bool);

    impl Read for Slowly<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(100_003);
            match (self.0.is_empty(), self.1) {
                (true, true) => Err(io::Error::other("it broke")),
                _ => self.0.read(&mut buffer[..most]),
            }
        }
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect()
    }

    fn tensor(dtype: Dtype, range: Range<usize>) -> TensorInfo {
        TensorInfo {
            name: "t".to_owned(),
            dtype,
            shape: vec![range.len() as u64 / dtype.block().1 * dtype.block().0],
            range: range.start as u64..range.end as u64,
        }
    }

    #[test]
    fn tensors_come_whole_wherever_pieces_end_and_every_byte_is_hashed_once() {
        for len in [0, 1, PIECE_LEN - 1, PIECE_LEN, PIECE_LEN + 1, 3 * PIECE_LEN + 5] {
            let bytes = bytes(len);
            let (mut source, mut told) = (Slowly(&bytes, false), 0);
            let mut read = |bytes| told += bytes;
            let mut pass = Pass::new(&mut source, &mut read);
            let mut header = vec![0; 16.min(len)];
            pass.read_exact(&mut header).unwrap();
            assert_eq!(header, bytes[..header.len()]);
            let mut at = 2.min(len);
            for (dtype, most) in [
                (Dtype::F32, 4),
                (Dtype::Q4_1, PIECE_LEN),
                (Dtype::F64, 800_000),
                (Dtype::Q4_0, usize::MAX),
            ] {
                let block = dtype.block().1 as usize;
                let end = at + (len - at).min(most) / block * block;
                let mut found = Vec::new();
                let work = |part: &[u8]| {
                    assert_eq!((part.len() % block, part.as_ptr().addr() % 2), (0, 0));
                    found.extend_from_slice(part);
                };
                pass.pieces(&tensor(dtype, at..end), work).unwrap();
                assert!(found == bytes[at..end], "{dtype} at {at} of {len}");
                at = end;
            }
            assert_eq!(pass.finish().unwrap(), (len as u64, Hash::of(&bytes)));
            assert_eq!(told, len as u64);
        }
    }

    #[test]
    fn a_header_may_be_read_further_than_it_goes_but_tensors_only_forwards() {
        let bytes = bytes(3 * PIECE_LEN);
        let (mut source, mut read) = (&bytes[..], |_| ());
        let mut pass = Pass::new(&mut source, &mut read);
        pass.read_exact(&mut vec![0; PIECE_LEN + 8_000]).unwrap();
        let range = PIECE_LEN - 1_000..PIECE_LEN + 1_000;
        let mut found = Vec::new();
        let work = |part: &[u8]| found.extend_from_slice(part);
        pass.pieces(&tensor(Dtype::U8, range.clone()), work).unwrap();
        assert!(found == bytes[range]);
        let back = tensor(Dtype::U8, PIECE_LEN..PIECE_LEN + 1);
        assert!(
            pass.pieces(&back, |_| panic!("there is nothing to look at"))
                .is_err()
        );
    }

    #[test]
    fn a_file_that_ends_early_or_breaks_is_an_error() {
        for len in [0, 10, PIECE_LEN, 2 * PIECE_LEN - 1] {
            let bytes = bytes(len);
            let wanted = tensor(Dtype::U8, 0..2 * PIECE_LEN);
            let (mut source, mut read) = (&bytes[..], |_| ());
            let mut pass = Pass::new(&mut source, &mut read);
            let error = pass.pieces(&wanted, |_| ()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(pass.finish().unwrap(), (len as u64, Hash::of(&bytes)));

            let (mut source, mut read) = (Slowly(&bytes, true), |_| ());
            let mut pass = Pass::new(&mut source, &mut read);
            assert!(pass.pieces(&wanted, |_| ()).is_err());
            assert!(pass.finish().is_err());
        }
    }
}
