use super::*;
use crate::provenance::Input;

fn store() -> (tempfile::TempDir, Artifacts) {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(dir.path()).unwrap();
    (dir, artifacts)
}

fn how(text: &str) -> Provenance {
    Provenance {
        how: text.into(),
        inputs: vec![Input {
            name: "a".into(),
            version: Some("1".into()),
            digest: Some(Digest::of(b"a")),
        }],
        ..Provenance::default()
    }
}

fn contents(artifacts: &Artifacts) -> usize {
    fs::read_dir(artifacts.dir.join("sha256")).unwrap().count()
}

fn unfinished(artifacts: &Artifacts) -> usize {
    fs::read_dir(artifacts.dir.join("making")).unwrap().count()
}

#[test]
fn what_is_kept_is_found_by_name_and_digest_and_is_what_it_was() {
    let (_dir, artifacts) = store();
    let kept = artifacts
        .add(&b"the kernel"[..], Kind::Kernel, "default", how("test"))
        .unwrap();
    assert_eq!((kept.digest, kept.size), (Digest::of(b"the kernel"), 10));
    for wanted in [
        "default",
        "kernel/default",
        &kept.digest.to_string(),
        &kept.digest.to_string()[..13],
    ] {
        let wanted = Wanted::parse(wanted).unwrap();
        assert_eq!(artifacts.resolve(&wanted, None).unwrap(), kept);
        assert_eq!(artifacts.resolve(&wanted, Some(Kind::Kernel)).unwrap(), kept);
        assert!(artifacts.resolve(&wanted, Some(Kind::Rootfs)).is_err());
    }
    let mut opened = artifacts.open_digest(&kept.digest).unwrap();
    let mut text = String::new();
    opened.file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), opened.size), ("the kernel", 10));
    let mode = fs::metadata(artifacts.content(&kept.digest))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o444);
    assert_eq!(unfinished(&artifacts), 0);
}

#[test]
fn one_name_of_two_kinds_is_told_apart() {
    let (_dir, artifacts) = store();
    artifacts.add(&b"k"[..], Kind::Kernel, "default", how("test")).unwrap();
    let modules = artifacts.add(&b"m"[..], Kind::Modules, "default", how("test")).unwrap();
    let wanted = Wanted::parse("default").unwrap();
    let fault = artifacts.resolve(&wanted, None).unwrap_err();
    assert!(fault.found.contains("kernel/default, modules/default"), "{fault}");
    assert_eq!(artifacts.resolve(&wanted, Some(Kind::Modules)).unwrap(), modules);
    assert_eq!(artifacts.list().unwrap().len(), 2);
}

#[test]
fn a_second_name_of_one_content_is_no_doubt_where_its_digest_is_meant() {
    let (_dir, artifacts) = store();
    let one = artifacts.add(&b"k"[..], Kind::Kernel, "one", how("test")).unwrap();
    artifacts.add(&b"k"[..], Kind::Kernel, "two", how("test")).unwrap();
    let wanted = Wanted::Digest(one.digest.hex());
    assert_eq!(artifacts.resolve(&wanted, None).unwrap().digest, one.digest);
    assert_eq!(contents(&artifacts), 1);
}

#[test]
fn a_name_means_what_was_kept_last() {
    let (_dir, artifacts) = store();
    artifacts.add(&b"old"[..], Kind::Rootfs, "r", how("test")).unwrap();
    let new = artifacts.add(&b"new"[..], Kind::Rootfs, "r", how("test")).unwrap();
    assert_eq!(artifacts.list().unwrap(), [new]);
    assert_eq!(contents(&artifacts), 2, "a run may still use the old one");
}

#[test]
fn a_damaged_content_is_told_and_never_given() {
    let (_dir, artifacts) = store();
    let good = artifacts.add(&b"good"[..], Kind::Kernel, "good", how("test")).unwrap();
    let bad = artifacts.add(&b"bad"[..], Kind::Kernel, "bad", how("test")).unwrap();
    let path = artifacts.content(&bad.digest);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "dab").unwrap();
    let fault = artifacts.open_digest(&bad.digest).unwrap_err();
    assert!(fault.found.contains("damaged"), "{fault}");
    let damaged = |all: Vec<Verified>| all.into_iter().filter(|v| v.damage.is_some()).collect::<Vec<_>>();
    let all = artifacts.verify(None).unwrap();
    assert_eq!(all.len(), 2);
    let all = damaged(all);
    assert_eq!(
        (all.len(), all[0].digest, all[0].names.as_slice()),
        (1, bad.digest, &["kernel/bad".to_owned()][..])
    );
    assert_eq!(damaged(artifacts.verify(Some(&good)).unwrap()), []);
    // Made again it is whole again.
    artifacts.add(&b"bad"[..], Kind::Kernel, "bad", how("test")).unwrap();
    assert_eq!(damaged(artifacts.verify(None).unwrap()), []);
    fs::remove_file(&path).unwrap();
    let missing = damaged(artifacts.verify(None).unwrap());
    assert!(missing[0].damage.as_deref().unwrap().contains("not in the store"));
}

#[test]
fn what_was_never_in_the_store_is_not_damaged() {
    let (_dir, artifacts) = store();
    let modules = artifacts.add(&b"m"[..], Kind::Modules, "m", how("test")).unwrap();
    let with = |modules| Provenance {
        with: [
            ("agent".to_owned(), Digest::of(b"elsewhere")),
            ("modules".to_owned(), modules),
        ]
        .into(),
        ..how("test")
    };
    artifacts
        .add(&b"i"[..], Kind::Initrd, "i", with(modules.digest))
        .unwrap();
    let damaged = || {
        artifacts
            .verify(None)
            .unwrap()
            .into_iter()
            .filter(|v| v.damage.is_some())
            .count()
    };
    assert_eq!(damaged(), 0);
    artifacts
        .add(&b"i"[..], Kind::Initrd, "i", with(Digest::of(b"gone")))
        .unwrap();
    assert_eq!(damaged(), 1);
}

#[test]
fn a_link_in_the_place_of_a_content_is_not_followed() {
    let (dir, artifacts) = store();
    let kept = artifacts.add(&b"k"[..], Kind::Kernel, "k", how("test")).unwrap();
    let path = artifacts.content(&kept.digest);
    fs::remove_file(&path).unwrap();
    fs::write(dir.path().join("same"), "k").unwrap();
    std::os::unix::fs::symlink(dir.path().join("same"), &path).unwrap();
    assert!(artifacts.open_digest(&kept.digest).is_err());
}

#[test]
fn gc_removes_what_no_name_and_no_run_names() {
    let (dir, artifacts) = store();
    let add = |text: &str, name: &str| artifacts.add(text.as_bytes(), Kind::Rootfs, name, how("test")).unwrap();
    let named = add("named", "named");
    let [of_run, of_journal, of_none] = ["of a run", "of a journal", "of none"].map(|text| {
        let artifact = add(text, "other");
        artifacts.remove(&artifact).unwrap();
        artifact
    });
    let part = add("part", "other");
    artifacts.remove(&part).unwrap();
    let with = Provenance {
        with: [("modules".to_owned(), part.digest)].into(),
        ..how("test")
    };
    let kernel = artifacts.add(&b"kernel"[..], Kind::Kernel, "k", with).unwrap();
    let run = dir.path().join("runs/1");
    fs::create_dir_all(&run).unwrap();
    fs::create_dir_all(dir.path().join("runs/2")).unwrap();
    fs::write(run.join("bundle.json"), format!("{{\"rootfs\":\"{}\"}}", of_run.digest)).unwrap();
    fs::create_dir_all(dir.path().join("journal")).unwrap();
    fs::write(
        dir.path().join("journal/3"),
        format!("{{\"x\":\"{}\"}}\n", of_journal.digest),
    )
    .unwrap();
    let draft = artifacts.draft().unwrap();
    fs::create_dir(artifacts.dir.join("making/left")).unwrap();

    let looked = artifacts.gc(true).unwrap();
    assert_eq!(looked.contents, [(of_none.digest, 7)]);
    assert_eq!(looked.unfinished, [artifacts.dir.join("making/left")]);
    assert_eq!((contents(&artifacts), unfinished(&artifacts)), (6, 2));
    assert_eq!(artifacts.gc(false).unwrap(), looked);
    assert_eq!(
        (contents(&artifacts), unfinished(&artifacts)),
        (5, 1),
        "a draft is being written"
    );
    for kept in [&named, &of_run, &of_journal, &part, &kernel] {
        artifacts.open_digest(&kept.digest).unwrap();
    }
    drop(draft);
    assert_eq!(artifacts.gc(false).unwrap(), Collected::default());
}

#[test]
fn parallel_makers_and_gc_lose_nothing() {
    let (dir, artifacts) = store();
    std::thread::scope(|scope| {
        for maker in 0..4 {
            let artifacts = artifacts.clone();
            scope.spawn(move || {
                for n in 0..12 {
                    // Some of it the same, some each maker's own.
                    let text = format!("{}-{n}", maker % 2);
                    let kept = artifacts.add(text.as_bytes(), Kind::Rootfs, &format!("m{maker}"), how("test"));
                    artifacts.open_digest(&kept.unwrap().digest).unwrap();
                }
            });
        }
        for _ in 0..20 {
            artifacts.gc(false).unwrap();
        }
    });
    let again = Artifacts::open(dir.path()).unwrap();
    let listed = again.list().unwrap();
    assert_eq!(listed.len(), 4);
    assert!(again.verify(None).unwrap().iter().all(|v| v.damage.is_none()));
    again.gc(false).unwrap();
    assert_eq!((contents(&again), unfinished(&again)), (2, 0));
}

#[test]
fn a_record_that_is_no_record_is_named() {
    let (_dir, artifacts) = store();
    let kept = artifacts.add(&b"k"[..], Kind::Kernel, "k", how("test")).unwrap();
    let path = artifacts.names(Kind::Kernel).join("k");
    let text = fs::read_to_string(&path).unwrap();
    for bad in [
        "",
        "{}",
        &text[..text.len() / 2],
        &text.replace("\"name\":\"k\"", "\"name\":\"other\""),
    ] {
        fs::write(&path, bad).unwrap();
        let fault = artifacts.list().unwrap_err();
        assert!(fault.found.contains(path.to_str().unwrap()), "{fault}");
    }
    fs::write(&path, &text).unwrap();
    assert_eq!(artifacts.list().unwrap(), [kept]);
}

#[test]
fn a_draft_that_is_not_kept_leaves_nothing() {
    let (_dir, artifacts) = store();
    let mut draft = artifacts.draft().unwrap();
    draft.write_all(b"half").unwrap();
    assert_eq!(unfinished(&artifacts), 1);
    drop(draft);
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let fault = artifacts.add(Broken, Kind::Kernel, "k", how("test")).unwrap_err();
    assert!(fault.remedy.contains("make room"), "{fault}");
    assert_eq!((contents(&artifacts), unfinished(&artifacts)), (0, 0));
    assert_eq!(artifacts.list().unwrap(), []);
}
