//! What is packed with gzip or zstd, by its first bytes; unpacked as it is read, and no more of it than is allowed.

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sr_common::Digest;
use sr_common::digest::Hasher;
use std::io::{self, BufRead, BufReader, Read};

/// At most `most` bytes; more are an error.
pub fn unpacked<'a>(reader: impl Read + 'a, most: u64) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(128 * 1024, reader);
    let first = reader.fill_buf()?;
    let inner: Box<dyn Read + 'a> = match first {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Box::new(Zstd::new(reader)),
        _ => Box::new(reader),
    };
    Ok(Box::new(Bounded { inner, left: most }))
}

struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| {
            let why = "unpacked it is larger than what is taken";
            io::Error::new(io::ErrorKind::FileTooLarge, why)
        })?;
        Ok(n)
    }
}

/// Frame by frame (RFC 8878): some writers make many, and some with notes of their own in between.
struct Zstd<R> {
    reader: R,
    decoder: FrameDecoder,
    within: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(reader: R) -> Zstd<R> {
        Zstd {
            reader,
            decoder: FrameDecoder::new(),
            within: false,
        }
    }

    /// Begins the next frame; `false` where there is none.
    fn frame(&mut self) -> io::Result<bool> {
        while !self.reader.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.reader) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut self.reader.by_ref().take(u64::from(length)), &mut io::sink())?;
                }
                Err(e) => return Err(io::Error::other(e)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.within && !self.frame()? {
                return Ok(0);
            }
            self.within = true;
            let n = self.decoder.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            if self.decoder.is_finished() {
                self.within = false;
                continue;
            }
            let some = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder
                .decode_blocks(&mut self.reader, some)
                .map_err(io::Error::other)?;
        }
    }
}

/// Hashes what passes through.
pub struct Hashing<R> {
    inner: R,
    hasher: Hasher,
    length: u64,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R) -> Hashing<R> {
        Hashing {
            inner,
            hasher: Hasher::default(),
            length: 0,
        }
    }

    /// Reads what is left, and gives the digest and length of all.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.hasher.finish(), self.length))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.length += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn packed(program: &[&str], content: &[u8]) -> Vec<u8> {
        let mut command = Command::new(program[0]);
        let mut child = command
            .args(&program[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let content = content.to_vec();
        let writer = std::thread::spawn(move || input.write_all(&content).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output.stdout
    }

    fn all(bytes: &[u8], most: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        unpacked(bytes, most)?.read_to_end(&mut content)?;
        Ok(content)
    }

    /// More than a block, and neither all the same nor all different.
    fn content() -> Vec<u8> {
        (0..400_000u32)
            .flat_map(|n| (n / 3).wrapping_mul(2_654_435_761).to_le_bytes())
            .collect()
    }

    #[test]
    fn what_others_packed_comes_out_whole() {
        let content = content();
        for program in [
            &["gzip", "-c"][..],
            &["zstd", "-qc"],
            &["zstd", "-qc", "-19", "--long"],
            &["cat"],
        ] {
            let bytes = packed(program, &content);
            assert!(all(&bytes, u64::MAX).unwrap() == content, "{program:?}");
            // Several, one behind the other.
            let twice = all(&[bytes.as_slice(), &bytes].concat(), u64::MAX).unwrap();
            assert!(twice == [content.as_slice(), &content].concat(), "{program:?}");
        }
        let note = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        let zstd = packed(&["zstd", "-qc"], &content);
        assert!(all(&[note, zstd.as_slice(), note].concat(), u64::MAX).unwrap() == content);
        assert_eq!(all(b"", 0).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_short_is_no_whole() {
        for program in [&["gzip", "-c"][..], &["zstd", "-qc"]] {
            let bytes = packed(program, &content());
            for length in [5, bytes.len() / 2, bytes.len() - 1] {
                assert!(all(&bytes[..length], u64::MAX).is_err(), "{program:?} {length}");
            }
        }
    }

    #[test]
    fn what_grows_beyond_all_measure_is_left() {
        let zeros = vec![0; 8 << 20];
        for program in [&["gzip", "-c"][..], &["zstd", "-qc"], &["cat"]] {
            let bytes = packed(program, &zeros);
            assert_eq!(all(&bytes, 8 << 20).unwrap().len(), 8 << 20);
            let why = all(&bytes, (8 << 20) - 1).unwrap_err();
            assert_eq!(why.kind(), io::ErrorKind::FileTooLarge, "{program:?}");
        }
    }
}
