//! Archives of the kinds that layers and packages are (POSIX.1-2001 pax, ustar, GNU's long names), read entry by entry with
//! every length bounded, since whoever made one may be hostile; and written, for a program that reads one.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// Bytes in a header's extension: longer names and attributes than these are nobody's.
const MAX_EXTENSION: u64 = 1 << 20;

/// One entry. What is in it is read from the archive before the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it stands there.
    pub path: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970; before that: 0.
    pub mtime: u64,
    /// Bytes of content that follow.
    pub size: u64,
    /// Where in the archive they begin.
    pub at: u64,
    /// It has extended attributes, which are not read.
    pub attributes: bool,
    pub kind: EntryKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Directory,
    Symlink(Vec<u8>),
    /// Another name of what that path is.
    Hardlink(Vec<u8>),
    /// A device, FIFO or socket.
    Special,
}

/// An archive that is being read.
pub struct Archive<R> {
    reader: R,
    /// Bytes that were read.
    at: u64,
    /// Bytes of the last entry, and up to its block's end, that nobody has read.
    content: u64,
    padding: u64,
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// What extension headers say of the next entry.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    attributes: bool,
}

impl<R: Read> Archive<R> {
    pub fn new(reader: R) -> Archive<R> {
        Archive {
            reader,
            at: 0,
            content: 0,
            padding: 0,
        }
    }

    /// The next entry; `None` at the archive's end.
    pub fn entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extension = Extension::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header[156];
            let size = number(&header[124..136])?;
            match kind {
                b'x' => self.extension(size, &mut extension)?,
                b'L' => extension.path = Some(self.long(size)?),
                b'K' => extension.link = Some(self.long(size)?),
                // Of the whole archive: what it may say of names and sizes is not used by anybody.
                b'g' => drop(self.long(size)?),
                b'S' => return Err(bad("sparse entries are not read: make the archive without --sparse")),
                _ => return self.made(&header, size, extension).map(Some),
            }
        }
    }

    /// What is left of the last entry's content.
    pub fn content(&mut self) -> impl Read {
        Content(self)
    }

    fn made(&mut self, header: &[u8; BLOCK], size: u64, extension: Extension) -> io::Result<Entry> {
        let link = extension.link.unwrap_or_else(|| text(&header[157..257]));
        let kind = match header[156] {
            0 | b'0' | b'7' => EntryKind::File,
            b'1' => EntryKind::Hardlink(link),
            b'2' => EntryKind::Symlink(link),
            b'3' | b'4' | b'6' => EntryKind::Special,
            b'5' => EntryKind::Directory,
            other => return Err(bad(format!("an entry of type {:?} is not known", char::from(other)))),
        };
        let path = extension.path.unwrap_or_else(|| {
            let (name, prefix) = (text(&header[..100]), text(&header[345..500]));
            // GNU's own format has other things there.
            match (&header[257..263] == b"ustar\0", prefix.is_empty()) {
                (true, false) => [&prefix[..], b"/", &name].concat(),
                _ => name,
            }
        });
        // Before POSIX.1-1988 a slash at the end made a directory.
        let old = kind == EntryKind::File && path.ends_with(b"/");
        let kind = if old { EntryKind::Directory } else { kind };
        let size = extension.size.unwrap_or(size);
        self.content = match kind {
            EntryKind::File => size,
            // Whatever a header says: these have none. Some writers give the linked file's size.
            _ => 0,
        };
        self.padding = padding(self.content);
        let id = |pax: Option<u64>, field: &[u8]| -> io::Result<u32> {
            let value = pax.map_or_else(|| number(field), Ok)?;
            u32::try_from(value).map_err(|_| bad(format!("an owner's number {value} is none")))
        };
        Ok(Entry {
            mode: u32::try_from(number(&header[100..108])? & 0o7777).unwrap_or_default(),
            uid: id(extension.uid, &header[108..116])?,
            gid: id(extension.gid, &header[116..124])?,
            // A time before 1970 is GNU's negative number.
            mtime: extension
                .mtime
                .unwrap_or_else(|| number(&header[136..148]).unwrap_or(0)),
            size: self.content,
            at: self.at,
            attributes: extension.attributes,
            path,
            kind,
        })
    }

    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        if !self.block(&mut block)? {
            // Archives without an end mark are common enough.
            return Ok(None);
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = |byte: fn(u8) -> i64| -> i64 {
            let bytes = block.iter().enumerate();
            bytes
                .map(|(i, b)| if (148..156).contains(&i) { 32 } else { byte(*b) })
                .sum()
        };
        let told = i64::try_from(number(&block[148..156])?).unwrap_or(-1);
        // Some old writers added signed bytes.
        if told != sum(i64::from) && told != sum(|b| i64::from(b.cast_signed())) {
            return Err(bad("not a tar archive, or a damaged one: a header's sum is wrong"));
        }
        Ok(Some(block))
    }

    /// `false` at the end of the file.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.reader.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(bad("the archive ends in the middle of a header")),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.at += BLOCK as u64;
        Ok(true)
    }

    fn long(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(bad(format!(
                "an extended header of {size} bytes is longer than {MAX_EXTENSION}"
            )));
        }
        self.content = size;
        self.padding = padding(size);
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes)?;
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    /// Records of `LENGTH KEY=VALUE\n`.
    fn extension(&mut self, size: u64, extension: &mut Extension) -> io::Result<()> {
        let bytes = self.long(size)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let wrong = || bad("an extended header is damaged");
            let space = rest.iter().position(|b| *b == b' ').ok_or_else(wrong)?;
            let length = std::str::from_utf8(&rest[..space])
                .ok()
                .and_then(|digits| digits.parse::<usize>().ok());
            let length = length
                .filter(|length| (space + 2..=rest.len()).contains(length))
                .ok_or_else(wrong)?;
            let record = rest[space + 1..length].strip_suffix(b"\n").ok_or_else(wrong)?;
            rest = &rest[length..];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let decimal = || -> io::Result<u64> {
                let digits = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                digits.ok_or_else(wrong)
            };
            match key {
                b"path" => extension.path = Some(value.to_owned()),
                b"linkpath" => extension.link = Some(value.to_owned()),
                b"size" => extension.size = Some(decimal()?),
                b"uid" => extension.uid = Some(decimal()?),
                b"gid" => extension.gid = Some(decimal()?),
                b"mtime" => {
                    let text = String::from_utf8_lossy(value);
                    let whole = text.split('.').next().unwrap_or_default();
                    extension.mtime = Some(whole.parse().unwrap_or(0));
                }
                key if key.starts_with(b"SCHILY.xattr.") => extension.attributes = true,
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(bad("sparse entries are not read: make the archive without --sparse"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Passes over what nobody has read.
    fn skip(&mut self) -> io::Result<()> {
        let mut left = std::mem::take(&mut self.content) + std::mem::take(&mut self.padding);
        let mut buffer = [0; 16 * 1024];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match self.reader.read(&mut buffer[..wanted]) {
                Ok(0) => return Err(bad("the archive ends in the middle of an entry")),
                Ok(n) => {
                    left -= n as u64;
                    self.at += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

struct Content<'a, R>(&'a mut Archive<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.0.content).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let n = self.0.reader.read(&mut buffer[..wanted])?;
        if n == 0 {
            return Err(bad("the archive ends in the middle of an entry"));
        }
        self.0.content -= n as u64;
        self.0.at += n as u64;
        Ok(n)
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// Up to the first NUL.
fn text(field: &[u8]) -> Vec<u8> {
    field.split(|b| *b == 0).next().unwrap_or_default().to_owned()
}

/// Octal digits, or GNU's base 256.
fn number(field: &[u8]) -> io::Result<u64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        let first = u64::from(field[0] & 0x7f);
        return field[1..].iter().try_fold(first, |value, byte| {
            let shifted = value.checked_mul(256).ok_or_else(|| bad("a number is too large"))?;
            Ok(shifted | u64::from(*byte))
        });
    }
    let digits = field.split(|b| *b == 0).next().unwrap_or_default();
    let digits = digits.trim_ascii();
    digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => value
            .checked_mul(8)
            .map(|value| value | u64::from(digit - b'0'))
            .ok_or_else(|| bad("a number is too large")),
        _ => Err(bad("not a tar archive, or a damaged one: a number is none")),
    })
}

/// Writes an entry's headers; its content and [`pad`] follow.
pub fn write_header(to: &mut impl Write, entry: &Entry) -> io::Result<()> {
    let mut records = Vec::new();
    let link = match &entry.kind {
        EntryKind::Symlink(link) | EntryKind::Hardlink(link) => link.as_slice(),
        _ => &[],
    };
    if entry.path.len() > 100 {
        record(&mut records, b"path", &entry.path);
    }
    if link.len() > 100 {
        record(&mut records, b"linkpath", link);
    }
    for (key, value, most) in [
        ("size", entry.size, 0o77_777_777_777),
        ("uid", u64::from(entry.uid), 0o7_777_777),
        ("gid", u64::from(entry.gid), 0o7_777_777),
        ("mtime", entry.mtime, 0o77_777_777_777),
    ] {
        if value > most {
            record(&mut records, key.as_bytes(), value.to_string().as_bytes());
        }
    }
    if !records.is_empty() {
        to.write_all(&block(b"pax", b'x', 0o644, [0, 0, records.len() as u64, 0], &[]))?;
        to.write_all(&records)?;
        pad(to, records.len() as u64)?;
    }
    let kind = match entry.kind {
        EntryKind::File => b'0',
        EntryKind::Hardlink(_) => b'1',
        EntryKind::Symlink(_) => b'2',
        EntryKind::Directory => b'5',
        EntryKind::Special => return Err(bad("a device has no place in an archive that is written here")),
    };
    let numbers = [u64::from(entry.uid), u64::from(entry.gid), entry.size, entry.mtime];
    to.write_all(&block(&entry.path, kind, entry.mode, numbers, link))
}

/// After `size` bytes of content: up to the block's end.
pub fn pad(to: &mut impl Write, size: u64) -> io::Result<()> {
    let length = usize::try_from(padding(size)).unwrap_or_default();
    to.write_all(&[0; BLOCK][..length])
}

/// The end of an archive.
pub fn end(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK])
}

fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend(format!("{length} ").into_bytes());
    records.extend([key, b"=", value, b"\n"].concat());
}

/// uid, gid, size and mtime; what does not fit is in a record before.
fn block(path: &[u8], kind: u8, mode: u32, [uid, gid, size, mtime]: [u64; 4], link: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8], most: usize| {
        let length = bytes.len().min(most);
        block[at..at + length].copy_from_slice(&bytes[..length]);
    };
    put(0, path, 100);
    put(157, link, 100);
    for (at, digits, value) in [
        (100, 7, u64::from(mode)),
        (108, 7, uid),
        (116, 7, gid),
        (124, 11, size),
        (136, 11, mtime),
    ] {
        let most = (1u64 << (3 * digits)) - 1;
        put(at, format!("{:0digits$o}", value.min(most)).as_bytes(), digits);
    }
    put(156, &[kind], 1);
    put(257, b"ustar\x0000", 8);
    put(148, b"        ", 8);
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8], size: u64, kind: EntryKind) -> Entry {
        Entry {
            path: path.to_owned(),
            mode: 0o4755,
            uid: 1000,
            gid: 7,
            mtime: 1_700_000_000,
            size,
            at: 0,
            attributes: false,
            kind,
        }
    }

    fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (entry, content) in entries {
            write_header(&mut bytes, entry).unwrap();
            bytes.extend(*content);
            pad(&mut bytes, content.len() as u64).unwrap();
        }
        end(&mut bytes).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
        let mut archive = Archive::new(bytes);
        let mut all = Vec::new();
        while let Some(mut entry) = archive.entry()? {
            entry.at = 0;
            let mut content = Vec::new();
            archive.content().read_to_end(&mut content)?;
            all.push((entry, content));
        }
        Ok(all)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let long = b"d/".repeat(200);
        let mut far = entry(b"far", 0, EntryKind::Directory);
        (far.uid, far.gid, far.mtime) = (u32::MAX, 0o10_000_000, 1 << 40);
        let entries = [
            (entry(b"a/b", 5, EntryKind::File), &b"12345"[..]),
            (entry(&long, 512, EntryKind::File), &[7; 512][..]),
            (entry(b"l", 0, EntryKind::Symlink(long.clone())), b""),
            (entry(b"h", 0, EntryKind::Hardlink(b"a/b".into())), b""),
            (far, b""),
        ];
        // A path that ends with a slash was a directory once.
        let mut expected: Vec<(Entry, Vec<u8>)> = entries
            .iter()
            .map(|(entry, content)| (entry.clone(), content.to_vec()))
            .collect();
        expected[1].0.kind = EntryKind::Directory;
        (expected[1].0.size, expected[1].1) = (0, Vec::new());
        let mut read_back = read(&archive(&entries[..1])).unwrap();
        read_back.extend(read(&archive(&entries[2..])).unwrap());
        expected.remove(1);
        assert_eq!(read_back, expected);
        let long = [long.as_slice(), b"f"].concat();
        let file = (entry(&long, 512, EntryKind::File), [7; 512].to_vec());
        assert_eq!(read(&archive(&[(file.0.clone(), &file.1)])).unwrap(), [file]);
    }

    #[test]
    fn tar_reads_what_is_written_and_what_it_writes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let long = [b"d/".repeat(80).as_slice(), b"f"].concat();
        let bytes = archive(&[
            (entry(&long, 5, EntryKind::File), b"12345"),
            (entry(b"l", 0, EntryKind::Symlink(b"d".into())), b""),
        ]);
        let file = dir.path().join("x.tar");
        std::fs::write(&file, bytes).unwrap();
        let run = |arguments: &[&str]| {
            let output = std::process::Command::new("tar")
                .args(arguments)
                .current_dir(dir.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        run(&["-xf", "x.tar"]);
        let unpacked = dir.path().join(String::from_utf8(long).unwrap());
        assert_eq!(std::fs::read(&unpacked).unwrap(), b"12345");
        std::fs::hard_link(&unpacked, dir.path().join("h")).unwrap();
        for format in ["gnu", "pax", "ustar", "v7", "oldgnu"] {
            // The oldest formats have no room for a long name, the newest no need of one.
            let names: &[&str] = if matches!(format, "v7" | "ustar") {
                &["l", "h"]
            } else {
                &["l", "h", "d"]
            };
            run(&[&["--format", format, "-cf", "y.tar"], names].concat());
            let all = read(&std::fs::read(dir.path().join("y.tar")).unwrap()).unwrap();
            let kinds = all.iter().map(|(entry, content)| (entry.kind.clone(), content.len()));
            let kinds: Vec<_> = kinds.filter(|(kind, _)| *kind != EntryKind::Directory).collect();
            assert_eq!(
                kinds[..2],
                [(EntryKind::Symlink(b"d".into()), 0), (EntryKind::File, 5)],
                "{format}"
            );
            if names.len() == 3 {
                assert_eq!(kinds[2], (EntryKind::Hardlink(b"h".into()), 0), "{format}");
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_damaged_is_refused() {
        let whole = archive(&[(entry(b"a", 600, EntryKind::File), &[1; 600])]);
        for length in [1, 511, 513, 600, 1024, 1300] {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        // Without the end mark it is whole still.
        assert_eq!(read(&whole[..512 + 1024]).unwrap().len(), 1);
        let mut damaged = whole.clone();
        damaged[0] ^= 1;
        assert!(read(&damaged).is_err());
        assert!(read(&[b'x'; 512]).is_err());
    }

    #[test]
    fn lengths_that_nobody_has_are_refused_before_anything_is_kept() {
        let header = |kind, size| block(b"a", kind, 0, [0, 0, size, 0], &[]).to_vec();
        for kind in [b'x', b'L', b'K', b'g'] {
            let why = read(&header(kind, MAX_EXTENSION + 1)).unwrap_err();
            assert!(why.to_string().contains("longer than"), "{why}");
        }
        // Base 256, 2^80.
        let mut huge = header(b'0', 0);
        huge[124..136].copy_from_slice(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        huge[148..156].copy_from_slice(b"        ");
        let sum: u32 = huge.iter().map(|b| u32::from(*b)).sum();
        huge[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        assert!(read(&huge).is_err());
        for records in [
            &b"9999999999999999999999 path=x\n"[..],
            b"5 path",
            b"3 x",
            b"0 a=b\n",
            b"x",
            b"8 size=x\n",
        ] {
            let mut bytes = header(b'x', records.len() as u64);
            bytes.extend(records);
            pad(&mut bytes, records.len() as u64).unwrap();
            bytes.extend(header(b'0', 0));
            assert!(read(&bytes).is_err(), "{}", String::from_utf8_lossy(records));
        }
    }
}
