//! What a WebAssembly module is run by: its worker, and the code that the worker made of it. Nobody compiles what nobody
//! trusts in the open: that is a run of its own, behind the native wall, with limits and evidence. What came of it is kept
//! among the artifacts, for the same module, worker and settings.

use crate::digests;
use crate::parts::{own_program, preflight, text, worker};
use crate::request::{Caller, Making};
use crate::store::Store;
use crate::subject::opened;
use rustix::fs::MemfdFlags;
use sr_artifact::{Artifact, Artifacts, Input, Kind, Provenance};
use sr_common::facts::{Command, Image, ModuleFile, WallParts};
use sr_common::module::{CodeSettings, MOST_MODULE};
use sr_common::{Code, Digest, Fault, Millis};
use sr_policy::PolicySpec;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

/// What is in the name of compiled code besides what it was made of: another form of it is another name.
const FORM: &str = "safe-run code 1";
/// What a compiler may have for one module.
const MEMORY: &str = "2GiB";
/// And may write, code.
const OUTPUT: &str = "1GiB";
/// Bytes of what a failed compilation says.
const MOST_SAID: u64 = 4096;

/// The parts for `command`, compiled if that was not done before.
pub fn parts(
    policy: &PolicySpec,
    command: &Command,
    caller: &Caller,
    store: &Store,
    making: Making,
) -> Result<WallParts, Fault> {
    let Some(module) = &command.module else {
        let found = format!("{} is no WebAssembly", command.written);
        return Err(Fault::new(
            Code::Run001,
            "runtime.command",
            found,
            "name a module or a component",
        ));
    };
    let driver = own_program()?;
    let worker = worker(&caller.programs, &driver);
    let asked = policy.wasm.clone().unwrap_or_default();
    let compilation = Compilation {
        making,
        settings: sr_compiler::code_settings(&asked),
        time: asked.compile_time,
        module_digest: digest(&module.source, "module", store)?,
        worker_digest: program(&worker, store)?,
        worker: text(&worker.canonicalize().unwrap_or(worker))?,
        module,
        driver,
        caller,
        store,
    };
    let code = compilation.code()?;
    let image = |role: &str, path: &str, digest| Image {
        role: role.to_owned(),
        path: path.to_owned(),
        digest,
        format: None,
    };
    let artifacts = Artifacts::open(store.path())?;
    Ok(WallParts {
        images: vec![
            image("code", &text(&artifacts.path(&code.digest))?, code.digest),
            image("module", &module.source, compilation.module_digest),
        ],
        driver: compilation.worker.clone(),
        monitor: compilation.worker,
    })
}

/// The digest of the worker, which must be a program that needs no other file.
fn program(worker: &Path, store: &Store) -> Result<Digest, Fault> {
    let shown = worker.display();
    let bad = |found: String| {
        let remedy = "build it with `cargo xtask wasm`, beside safe-run, or name it with SAFE_RUN_WASM";
        Fault::new(Code::Run001, "launch.preflight.wasm", found, remedy)
    };
    let meta = std::fs::metadata(worker).map_err(|e| bad(format!("{shown}, the worker for WebAssembly: {e}")))?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return Err(bad(format!("{shown} is not an executable file")));
    }
    if let Some(loader) = opened::loader(worker) {
        let found = format!("{shown} needs {}, and its sandbox has none", loader.display());
        return Err(bad(found));
    }
    digest(&text(worker)?, "wasm", store)
}

fn digest(path: &str, stage: &str, store: &Store) -> Result<Digest, Fault> {
    let bad = |e: io::Error| preflight(stage, format!("{path}: {e}"), "name a file that can be read");
    let file = File::open(path).map_err(bad)?;
    let stat = rustix::fs::fstat(&file).map_err(|e| bad(e.into()))?;
    digests::of_file(store, &file, &stat, &mut || false).map_err(bad)
}

/// One module to be compiled.
struct Compilation<'a> {
    making: Making,
    module: &'a ModuleFile,
    module_digest: Digest,
    worker: String,
    worker_digest: Digest,
    settings: CodeSettings,
    time: Millis,
    driver: PathBuf,
    caller: &'a Caller,
    store: &'a Store,
}

impl Compilation<'_> {
    /// The compiled code, as it is kept or made now.
    fn code(&self) -> Result<Artifact, Fault> {
        let artifacts = Artifacts::open(self.store.path())?;
        let settings = serde_json::to_string(&self.settings).map_err(|e| {
            preflight(
                "module",
                e.to_string(),
                "this is a defect of Safe-Run: please report it",
            )
        })?;
        let name =
            Digest::of(format!("{FORM}\n{}\n{}\n{settings}\n", self.module_digest, self.worker_digest).as_bytes());
        let name = name.hex();
        // A name that is damaged is made anew like one that is not there. Its content is hashed when it is shown.
        if let Ok(Some(kept)) = artifacts.named(Kind::Code, &name)
            && artifacts.path(&kept.digest).is_file()
        {
            return Ok(kept);
        }
        if self.making == Making::Kept {
            let found = format!(
                "{} was not compiled here yet, and this starts nothing",
                self.module.source
            );
            let remedy = "run it once; or ask what each wall would hold: safe-run compile --dry-run --backend all";
            return Err(preflight("module", found, remedy));
        }
        tracing::info!(module = self.module.source, "compiling");
        let scratch = artifacts.scratch()?;
        let policy = scratch.path().join("compile.yaml");
        let failed = |what: &Path, e: io::Error| {
            preflight(
                "module",
                format!("{}: {e}", what.display()),
                "see that the run store is writable",
            )
        };
        std::fs::write(&policy, self.policy()?).map_err(|e| failed(&policy, e))?;
        let output = scratch.path().join("code");
        let written = File::create(&output).map_err(|e| failed(&output, e))?;
        let size = self.run(&policy, &settings, self.read()?, written)?;
        // Nor is the code of another worker kept for this one.
        if program(Path::new(&self.worker), self.store)? != self.worker_digest {
            let found = format!("{} was exchanged while it compiled", self.worker);
            return Err(preflight("wasm", found, "run it again"));
        }
        let made = File::open(&output).map_err(|e| failed(&output, e))?;
        let found = made.metadata().map_err(|e| failed(&output, e))?.len();
        if found != size {
            let found = format!("{found} of {size} bytes of code were kept of {}", self.module.source);
            return Err(preflight("module", found, "make room in the run store"));
        }
        artifacts.add(made, Kind::Code, &name, self.provenance())
    }

    /// The very module that was hashed, in memory: whoever may write its file could exchange it, and the code of another would be
    /// kept for it.
    fn read(&self) -> Result<File, Fault> {
        let source = &self.module.source;
        let bad = |found: String| {
            preflight(
                "module",
                format!("{source}: {found}"),
                "run it again when nobody writes there",
            )
        };
        let mut module = Vec::new();
        File::open(source)
            .and_then(|file| file.take(MOST_MODULE + 1).read_to_end(&mut module))
            .map_err(|e| bad(e.to_string()))?;
        if Digest::of(&module) != self.module_digest {
            return Err(bad("it changed after it was hashed".to_owned()));
        }
        let memory = rustix::fs::memfd_create("module", MemfdFlags::CLOEXEC).map_err(|e| bad(e.to_string()))?;
        let mut memory = File::from(memory);
        memory.write_all(&module).map_err(|e| bad(e.to_string()))?;
        memory.rewind().map_err(|e| bad(e.to_string()))?;
        Ok(memory)
    }

    /// Compiles `module` into `written`, behind the native wall: how many bytes that should be.
    fn run(&self, policy: &Path, settings: &str, module: File, written: File) -> Result<u64, Fault> {
        let bad = |found: String| {
            let found = format!("{} cannot be compiled: {found}", self.module.source);
            let remedy = "see what it was built for; raise wasm.compileTime if it is only large";
            preflight("module", found, remedy)
        };
        let mut run = process::Command::new(&self.driver)
            .args(["run", "--quiet", "--policy"])
            .arg(policy)
            .args(["--", WORKER, "compile", "--settings", settings, "/dev/stdin"])
            .env("SAFE_RUN_WORKDIR_BASE", self.store.path())
            .env("SAFE_RUN_KEY_DIR", &self.caller.keys)
            .current_dir("/")
            .stdin(Stdio::from(module))
            .stdout(Stdio::from(written))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| bad(format!("{}: {e}", self.driver.display())))?;
        let mut said = Vec::new();
        if let Some(stderr) = run.stderr.take() {
            let mut stderr = stderr.take(MOST_SAID);
            stderr.read_to_end(&mut said).map_err(|e| bad(e.to_string()))?;
            // What is more than that is nobody's, but its writer must not wait for ever.
            io::copy(&mut stderr.into_inner(), &mut io::sink()).map_err(|e| bad(e.to_string()))?;
        }
        let ended = run.wait().map_err(|e| bad(e.to_string()))?;
        let said = String::from_utf8_lossy(&said);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        match ended.code() {
            Some(124) => return Err(bad(format!("{} was used up (wasm.compileTime)", self.time))),
            Some(137) if said.is_empty() => return Err(bad(format!("it takes more than {MEMORY} of memory"))),
            _ => {}
        }
        let size = said.strip_suffix(" bytes").and_then(|size| size.parse().ok());
        size.filter(|_| ended.success())
            .ok_or_else(|| bad(format!("{said} ({ended})")))
    }

    fn policy(&self) -> Result<String, Fault> {
        let defect = |e: serde_json::Error| {
            preflight(
                "module",
                e.to_string(),
                "this is a defect of Safe-Run: please report it",
            )
        };
        // JSON is YAML.
        serde_json::to_string(&serde_json::json!({
            "apiVersion": sr_common::API_VERSION,
            "metadata": {"name": "compile-module"},
            "extends": "standard",
            "runtime": {"backend": "process", "args": []},
            "mounts": [{"source": self.worker, "target": WORKER}],
            "resources": {"memory": MEMORY, "output": OUTPUT, "wallTime": self.time.to_string()},
        }))
        .map_err(defect)
    }

    fn provenance(&self) -> Provenance {
        let input = |name: &str, digest| Input {
            name: name.to_owned(),
            version: None,
            digest: Some(digest),
        };
        Provenance {
            how: "compile".to_owned(),
            inputs: vec![
                input(&self.module.source, self.module_digest),
                input("safe-run-wasm", self.worker_digest),
            ],
            ..Provenance::default()
        }
    }
}

/// Where the worker stands in the view of the run that compiles.
const WORKER: &str = "/worker/safe-run-wasm";
