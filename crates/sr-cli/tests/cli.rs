//! The command line as its documentation shows it: every `tests/cli/*.md` is run, and its output compared.
//! `TRYCMD=overwrite cargo test -p sr-cli --test cli` writes the outputs anew; look at them before you keep them.

#[test]
fn the_documented_sessions() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().canonicalize().unwrap();
    trycmd::TestCases::new()
        .env("HOME", home.to_str().unwrap())
        .env("SAFE_RUN_WORKDIR_BASE", home.join("store").to_str().unwrap())
        .env("SAFE_RUN_KEY_DIR", home.join("keys").to_str().unwrap())
        .env("NO_COLOR", "1")
        .env("SHELL", "/bin/sh")
        .insert_var("[HOME]", home.display().to_string())
        .unwrap()
        .case("tests/cli/*.md")
        .run();
}
