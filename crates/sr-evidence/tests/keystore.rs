//! The key directory: made once and private; keys that others could have read or put there are refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use sr_common::Code;
use sr_evidence::key::{Algorithm, PublicKey, SigningKey};
use sr_evidence::keystore::KeyStore;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn store() -> (tempfile::TempDir, KeyStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = KeyStore::open(dir.path().join("a/b/keys"));
    (dir, store)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn reading_makes_nothing() {
    let (dir, store) = store();
    assert!(store.keyring().unwrap().is_empty());
    assert!(store.list().unwrap().is_empty());
    assert!(!store.remove_trusted("00").unwrap());
    assert_eq!(store.public("default").unwrap_err().code, Code::Run001);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_default_key_is_made_once_and_private() {
    let (_dir, store) = store();
    let key = store.default_key().unwrap();
    assert_eq!(key.algorithm(), Algorithm::EcdsaP256);
    assert_eq!(store.default_key().unwrap().key_id(), key.key_id());
    assert_eq!(mode(store.path()), 0o700);
    assert_eq!(mode(&store.path().join("default.key")), 0o600);
    let public = PublicKey::from_pem(&fs::read_to_string(store.path().join("default.pub")).unwrap()).unwrap();
    assert_eq!(&public, key.public());
    assert_eq!(fs::read_dir(store.path()).unwrap().count(), 2, "no temporary stays");
}

#[test]
fn threads_that_make_the_default_key_at_once_get_one_key() {
    let (_dir, store) = store();
    let barrier = std::sync::Barrier::new(8);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let run = || {
            barrier.wait();
            store.default_key().unwrap().key_id().to_owned()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let public = PublicKey::from_pem(&fs::read_to_string(store.path().join("default.pub")).unwrap()).unwrap();
    assert_eq!(public.key_id(), ids[0], "default.pub is that of the key that stayed");
}

#[test]
fn named_keys_and_trusted_keys() {
    let (_dir, store) = store();
    let own = store.generate("ci", Algorithm::Ed25519).unwrap();
    assert!(
        store
            .generate("ci", Algorithm::Ed25519)
            .unwrap_err()
            .found
            .contains("exists already")
    );
    let other = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
    store.import_trusted(&other.public().to_pem()).unwrap();
    store.import_trusted(&other.public().to_pem()).unwrap();
    let list = store.list().unwrap();
    assert_eq!(
        list.iter().map(|k| (k.name.as_str(), k.own)).collect::<Vec<_>>(),
        [("ci", true), (other.key_id(), false)]
    );
    assert_eq!(store.keyring().unwrap(), [own.clone(), other.public().clone()]);
    assert!(store.remove_trusted(other.key_id()).unwrap());
    assert_eq!(store.keyring().unwrap(), [own]);
    assert_eq!(store.import_trusted("nonsense").unwrap_err().code, Code::Evd003);
    for bad in ["", "..", "a/b", "../x", "A", "-x", &"a".repeat(65)] {
        assert!(
            store
                .generate(bad, Algorithm::Ed25519)
                .unwrap_err()
                .found
                .contains("not a name"),
            "{bad}"
        );
    }
}

#[test]
fn keys_that_others_could_touch_are_refused() {
    let (dir, store) = store();
    store.default_key().unwrap();
    let file = store.path().join("default.key");
    for open in [0o640, 0o604, 0o620, 0o602, 0o660, 0o666, 0o610] {
        chmod(&file, open);
        let fault = store.default_key().unwrap_err();
        assert!(
            fault.code == Code::Run001 && fault.found.contains("open to others"),
            "{open:o}: {fault}"
        );
    }
    chmod(&file, 0o600);
    store.default_key().unwrap();
    chmod(store.path(), 0o770);
    assert!(store.default_key().unwrap_err().found.contains("open to others"));
    chmod(store.path(), 0o700);

    let moved = dir.path().join("moved.key");
    fs::rename(&file, &moved).unwrap();
    symlink(&moved, &file).unwrap();
    assert!(store.default_key().unwrap_err().found.contains("symbolic link"));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(store.default_key().unwrap_err().found.contains("regular file"));
    fs::remove_dir(&file).unwrap();
    fs::write(&file, "garbage").unwrap();
    chmod(&file, 0o600);
    let fault = store.default_key().unwrap_err();
    assert!(
        fault.found.contains("not a PEM"),
        "a broken key is never replaced by a new one: {fault}"
    );
    assert_eq!(fs::read(&file).unwrap(), b"garbage");

    let link = dir.path().join("link");
    symlink(store.path(), &link).unwrap();
    assert!(
        KeyStore::open(&link)
            .default_key()
            .unwrap_err()
            .found
            .contains("as a directory")
    );
}

#[test]
fn a_key_of_another_user_is_refused() {
    let (_dir, store) = store();
    store.default_key().unwrap();
    let file = store.path().join("default.key");
    if std::os::unix::fs::chown(&file, Some(65_534), None).is_err() {
        // Without privilege the refusal is seen from the other side: /etc is not this user's key directory.
        let fault = KeyStore::open("/etc").default_key().unwrap_err();
        assert!(fault.found.contains("belongs to uid 0"), "{fault}");
        return;
    }
    let fault = store.default_key().unwrap_err();
    assert!(fault.found.contains("belongs to uid 65534"), "{fault}");
}

#[test]
fn a_key_that_a_killed_maker_left_half_made_is_removed() {
    let (_dir, store) = store();
    store.default_key().unwrap();
    let left = [".default.key.0123456789abcdef", ".default.pub.0123456789abcdef"].map(|name| store.path().join(name));
    let make = || left.iter().for_each(|path| fs::write(path, "half").unwrap());
    make();
    // Whoever makes a key just now holds the directory.
    let held = fs::File::open(store.path()).unwrap();
    held.lock().unwrap();
    assert_eq!(store.sweep(), [] as [std::path::PathBuf; 0]);
    drop(held);
    let mut removed = store.sweep();
    removed.sort();
    assert_eq!(removed, left);
    make();
    store.generate("ci", Algorithm::Ed25519).unwrap();
    assert!(left.iter().all(|path| !path.exists()), "the next maker cleans up too");
    let mut names: Vec<_> = fs::read_dir(store.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["ci.key", "ci.pub", "default.key", "default.pub"]);
}
