//! Numbers and names in the messages of 9P: little-endian, a name with its length before it.

use rustix::io::Errno;

/// What is left of a message.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Errno::PROTO)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        self.bytes(N)?.try_into().map_err(|_| Errno::PROTO)
    }

    pub fn u8(&mut self) -> Result<u8, Errno> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, Errno> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Errno> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Errno> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn string(&mut self) -> Result<&'a [u8], Errno> {
        let length = self.u16()?;
        self.bytes(length.into())
    }

    /// The name of one thing in a directory: no path, and no way out of it.
    pub fn name(&mut self) -> Result<&'a [u8], Errno> {
        match self.string()? {
            b"" | b"." | b".." => Err(Errno::INVAL),
            name if name.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(Errno::INVAL),
            name => Ok(name),
        }
    }
}

/// An answer that grows.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub fn string(&mut self, text: &[u8]) -> Result<(), Errno> {
        self.u16(u16::try_from(text.len()).map_err(|_| Errno::NAMETOOLONG)?);
        self.0.extend(text);
        Ok(())
    }
}
