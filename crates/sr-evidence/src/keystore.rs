//! A person's keys, in one private directory: `NAME.key` (PKCS#8, 0600) and `NAME.pub`, and under `trusted/` the
//! public keys of others. Nothing is made before something is to be kept.

use crate::files::{self, Unreadable};
use crate::key::{Algorithm, PublicKey, SigningKey};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use serde::Serialize;
use sr_common::{Code, Fault};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The key that signs where no other is named.
pub const DEFAULT_KEY: &str = "default";
const TRUSTED: &str = "trusted";
/// Public keys that are read from one directory.
const MAX_KEYS: usize = 1_000;

/// A directory of keys.
#[derive(Debug, Clone)]
pub struct KeyStore {
    path: PathBuf,
}

/// A key as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyInfo {
    /// Name of an own key; key id of a trusted one.
    pub name: String,
    pub algorithm: Algorithm,
    pub key_id: String,
    /// Whether the store holds the secret.
    pub own: bool,
}

impl KeyStore {
    /// Nothing is touched: the directory is made, mode 0700, when the first key is.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        KeyStore { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The default key, made (ECDSA P-256) if there is none. Of several processes at once, all get the same key.
    pub fn default_key(&self) -> Result<SigningKey, Fault> {
        match self.load(DEFAULT_KEY)? {
            Some(key) => Ok(key),
            None => {
                self.create(DEFAULT_KEY, Algorithm::EcdsaP256)?;
                self.signing_key(DEFAULT_KEY)
            }
        }
    }

    /// Removes what a maker of keys left that was killed: half of a key pair is nobody's. Gives what it removed. Leaves all
    /// as it is where a key is being made just now, or nobody can tell.
    pub fn sweep(&self) -> Vec<PathBuf> {
        let Ok(Some(dir)) = self.dir(false) else {
            return Vec::new();
        };
        if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Vec::new();
        }
        let names = files::sweep(&dir).unwrap_or_default();
        names.iter().map(|name| self.path.join(name)).collect()
    }

    /// Makes a key. Fails if the name is taken.
    pub fn generate(&self, name: &str, algorithm: Algorithm) -> Result<PublicKey, Fault> {
        match self.create(name, algorithm)? {
            Some(public) => Ok(public),
            None => Err(self.fault(
                &format!("{name}.key"),
                "exists already",
                "choose another name; keys are never overwritten",
            )),
        }
    }

    /// The key of that name.
    pub fn signing_key(&self, name: &str) -> Result<SigningKey, Fault> {
        self.load(name)?.ok_or_else(|| {
            self.fault(
                &format!("{name}.key"),
                "is missing",
                "make it with `safe-run key generate`",
            )
        })
    }

    /// The public half of an own key.
    pub fn public(&self, name: &str) -> Result<PublicKey, Fault> {
        self.signing_key(name).map(|key| key.public().clone())
    }

    /// Own keys by name, then trusted ones by key id.
    pub fn list(&self) -> Result<Vec<KeyInfo>, Fault> {
        let mut keys = Vec::new();
        let Some(dir) = self.dir(false)? else { return Ok(keys) };
        for name in self.names(dir.as_fd(), ".key")? {
            let public = self.public(&name)?;
            keys.push(KeyInfo {
                algorithm: public.algorithm(),
                key_id: public.key_id().into(),
                own: true,
                name,
            });
        }
        for public in self.trusted()? {
            let key_id = public.key_id().to_owned();
            keys.push(KeyInfo {
                name: key_id.clone(),
                algorithm: public.algorithm(),
                key_id,
                own: false,
            });
        }
        Ok(keys)
    }

    /// Trusts evidence signed by this key (PEM) from now on.
    pub fn import_trusted(&self, pem: &str) -> Result<PublicKey, Fault> {
        let key = PublicKey::from_pem(pem).map_err(|e| {
            Fault::new(
                Code::Evd003,
                "keys.trusted",
                e,
                "give a PEM public key (SubjectPublicKeyInfo)",
            )
        })?;
        let dir = self
            .trusted_dir(true)?
            .ok_or_else(|| self.fault(TRUSTED, "cannot be made", ""))?;
        let name = format!("{}.pub", key.key_id());
        files::write_atomic(
            dir.as_fd(),
            &name,
            key.to_pem().as_bytes(),
            Mode::RUSR | Mode::WUSR,
            true,
        )
        .map_err(|e| self.fault(TRUSTED, &format!("cannot be written: {e}"), ""))?;
        Ok(key)
    }

    /// Trusts a key no longer. `false`: it was not trusted.
    pub fn remove_trusted(&self, key_id: &str) -> Result<bool, Fault> {
        let Some(dir) = self.trusted_dir(false)? else {
            return Ok(false);
        };
        if !is_key_name(key_id) {
            return Ok(false);
        }
        match rustix::fs::unlinkat(&dir, format!("{key_id}.pub"), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(e) => Err(self.fault(TRUSTED, &e.to_string(), "")),
        }
    }

    /// The public keys of others, sorted by key id.
    pub fn trusted(&self) -> Result<Vec<PublicKey>, Fault> {
        let Some(dir) = self.trusted_dir(false)? else {
            return Ok(Vec::new());
        };
        let mut keys = Vec::new();
        for name in self.names(dir.as_fd(), ".pub")? {
            let shown = format!("{TRUSTED}/{name}.pub");
            let pem = self.read(dir.as_fd(), &format!("{name}.pub"), &shown, Mode::WGRP | Mode::WOTH)?;
            let pem = pem.ok_or_else(|| self.fault(&shown, "is missing", ""))?;
            keys.push(PublicKey::from_pem(&pem).map_err(|e| self.fault(&shown, &e, "import it again"))?);
        }
        keys.sort_by(|a, b| a.key_id().cmp(b.key_id()));
        Ok(keys)
    }

    /// All keys whose signatures this person takes: the own ones and the trusted ones.
    pub fn keyring(&self) -> Result<Vec<PublicKey>, Fault> {
        let Some(dir) = self.dir(false)? else {
            return Ok(Vec::new());
        };
        let mut keys = Vec::new();
        for name in self.names(dir.as_fd(), ".key")? {
            keys.push(self.public(&name)?);
        }
        keys.extend(self.trusted()?);
        Ok(keys)
    }

    /// `None`: another process was first, or the name is taken.
    fn create(&self, name: &str, algorithm: Algorithm) -> Result<Option<PublicKey>, Fault> {
        let shown = format!("{name}.key");
        if !is_key_name(name) {
            return Err(self.fault(
                &shown,
                "is not a name for a key",
                "use lower-case letters, digits, `-` and `_`, up to 64",
            ));
        }
        let dir = self.dir(true)?.ok_or_else(|| self.fault("", "cannot be made", ""))?;
        let key = SigningKey::generate(algorithm).map_err(|e| self.fault(&shown, &e, ""))?;
        let pem = key.to_pkcs8_pem().map_err(|e| self.fault(&shown, &e, ""))?;
        let io = |e: Errno| {
            self.fault(
                &shown,
                &format!("cannot be written: {e}"),
                "see that the key directory is writable",
            )
        };
        // Of those who make keys here one after another each finds what was left by one that was killed.
        let locked = rustix::fs::flock(&dir, FlockOperation::LockExclusive).is_ok();
        if locked {
            files::sweep(&dir).map_err(|e| self.fault("", &format!("cannot be cleaned up: {e}"), ""))?;
        }
        let temporary =
            files::write_temporary(dir.as_fd(), &shown, pem.as_bytes(), Mode::RUSR | Mode::WUSR, true).map_err(io)?;
        // A link never replaces what is there; neither does this rename, for file systems without links.
        let linked = match rustix::fs::linkat(&dir, &temporary, &dir, &shown, AtFlags::empty()) {
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => {
                rustix::fs::renameat_with(&dir, &temporary, &dir, &shown, RenameFlags::NOREPLACE)
            }
            other => other,
        };
        let _ = rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty());
        match linked {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(None),
            Err(e) => return Err(io(e)),
        }
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        files::write_atomic(
            dir.as_fd(),
            &format!("{name}.pub"),
            key.public().to_pem().as_bytes(),
            mode,
            true,
        )
        .map_err(io)?;
        Ok(Some(key.public().clone()))
    }

    fn load(&self, name: &str) -> Result<Option<SigningKey>, Fault> {
        let shown = format!("{name}.key");
        if !is_key_name(name) {
            return Err(self.fault(
                &shown,
                "is not a name for a key",
                "use lower-case letters, digits, `-` and `_`, up to 64",
            ));
        }
        let Some(dir) = self.dir(false)? else { return Ok(None) };
        let Some(pem) = self.read(dir.as_fd(), &shown, &shown, Mode::RWXG | Mode::RWXO)? else {
            return Ok(None);
        };
        SigningKey::from_pkcs8_pem(&pem).map(Some).map_err(|e| {
            self.fault(
                &shown,
                &e,
                "restore it from a copy, or move it away so that a new one is made",
            )
        })
    }

    fn read(
        &self,
        dir: BorrowedFd,
        name: &str,
        shown: &str,
        forbidden: Mode,
    ) -> Result<Option<Zeroizing<String>>, Fault> {
        let remedy = "keys are regular files of yours that nobody else may read or write: chmod 600";
        let file = match files::open_regular(dir, name, files::MAX_SMALL) {
            Ok(file) => file,
            Err(Unreadable::Absent) => return Ok(None),
            Err(Unreadable::Because(why)) => return Err(self.fault(shown, &why, remedy)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| self.fault(shown, &e.to_string(), remedy))?;
        self.private(&stat, shown, forbidden)?;
        let bytes = files::read_all(file, files::MAX_SMALL).map_err(|e| self.fault(shown, e.text(), remedy))?;
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes).map_err(|_| self.fault(shown, "is not text", remedy))?;
        Ok(Some(Zeroizing::new(text.to_owned())))
    }

    fn private(&self, stat: &Stat, shown: &str, forbidden: Mode) -> Result<(), Fault> {
        let uid = rustix::process::geteuid().as_raw();
        if stat.st_uid != uid {
            let found = format!("belongs to uid {}, not to {uid}", stat.st_uid);
            return Err(self.fault(shown, &found, "use a key directory of your own"));
        }
        let open = Mode::from_raw_mode(stat.st_mode) & forbidden;
        if !open.is_empty() {
            let found = format!("has mode {:04o}, open to others", stat.st_mode & 0o7777);
            return Err(self.fault(
                shown,
                &found,
                "chmod go= it, and make a new key if others may have read it",
            ));
        }
        Ok(())
    }

    fn trusted_dir(&self, make: bool) -> Result<Option<OwnedFd>, Fault> {
        let Some(dir) = self.dir(make)? else { return Ok(None) };
        self.subdirectory(dir.as_fd(), Path::new(TRUSTED), TRUSTED, make)
    }

    fn dir(&self, make: bool) -> Result<Option<OwnedFd>, Fault> {
        if make && let Some(parent) = self.path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|e| self.fault("", &format!("cannot be made: {e}"), ""))?;
        }
        self.subdirectory(rustix::fs::CWD, &self.path, "", make)
    }

    fn subdirectory(&self, at: BorrowedFd, path: &Path, shown: &str, make: bool) -> Result<Option<OwnedFd>, Fault> {
        if make {
            match rustix::fs::mkdirat(at, path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => {
                    return Err(self.fault(
                        shown,
                        &format!("cannot be made: {e}"),
                        "see that its parent is writable",
                    ));
                }
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::openat(at, path, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(self.fault(shown, &format!("cannot be opened as a directory: {e}"), "")),
        };
        let stat = rustix::fs::fstat(&dir).map_err(|e| self.fault(shown, &e.to_string(), ""))?;
        self.private(&stat, shown, Mode::WGRP | Mode::WOTH)?;
        Ok(Some(dir))
    }

    /// What stands before `suffix` in the names of regular files, sorted; other names are passed over.
    fn names(&self, dir: BorrowedFd, suffix: &str) -> Result<Vec<String>, Fault> {
        let io = |e: Errno| self.fault("", &format!("cannot be listed: {e}"), "");
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            let stem = entry
                .file_name()
                .to_str()
                .ok()
                .and_then(|name| name.strip_suffix(suffix));
            if let Some(stem) = stem
                && is_key_name(stem)
                && matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown)
            {
                names.push(stem.to_owned());
            }
            if names.len() > MAX_KEYS {
                return Err(self.fault("", &format!("holds more than {MAX_KEYS} keys"), ""));
            }
        }
        names.sort();
        Ok(names)
    }

    fn fault(&self, name: &str, found: &str, remedy: &str) -> Fault {
        let path = if name.is_empty() {
            self.path.clone()
        } else {
            self.path.join(name)
        };
        Fault::new(
            Code::Run001,
            "evidence.key",
            format!("{} {found}", path.display()),
            remedy,
        )
    }
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['-', '_'])
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
}
