//! Archives that a kernel unpacks as its first file system (cpio `newc`,
//! Documentation/driver-api/early-userspace/buffer-format.rst). Several, one behind the other, are one.

/// An archive under way. It holds no times and no owners but root: the same entries give the same bytes.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub fn directory(&mut self, name: &str) {
        self.add(name, 0o040755, (0, 0), &[]);
    }

    /// `mode`: permissions.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.add(name, 0o100000 | mode, (0, 0), content);
    }

    /// A character device.
    pub fn device(&mut self, name: &str, mode: u32, device: (u32, u32)) {
        self.add(name, 0o020000 | mode, device, &[]);
    }

    /// `mode` with the type's bits; `device` is (0, 0) but for a node.
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (links, none) = (1, 0);
        let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let fields = [
            self.entries,
            mode,
            none,
            none,
            links,
            none,
            length(content.len()),
            none,
            none,
            device.0,
            device.1,
            length(name.len() + 1),
            none,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").into_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }

    pub fn end(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_byte_by_byte() {
        let mut archive = Archive::default();
        archive.file("a", 0o644, b"12345");
        let bytes = archive.end();
        let header = "070701\
            00000001 000081a4 00000000 00000000 00000001 00000000 00000005 \
            00000000 00000000 00000000 00000000 00000002 00000000"
            .replace(' ', "");
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(
            &bytes[110..120],
            b"a\x0012345\0\0\0",
            "name and content end on multiples of four"
        );
        assert_eq!(bytes.len() % 4, 0);
        let trailer = b"TRAILER!!!\0";
        assert_eq!(&bytes[120 + 110..][..trailer.len()], trailer);
    }
}
