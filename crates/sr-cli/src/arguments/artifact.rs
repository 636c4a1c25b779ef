//! `safe-run artifact …`.

use clap::{Args, Subcommand, ValueEnum};
use sr_artifact::Kind;
use std::path::PathBuf;

/// What virtual machines start from: kernels, modules, root file systems, programs, kept by their digests below the run store.
#[derive(Debug, Args)]
#[command(after_help = "\
An ARTIFACT is KIND/NAME, a NAME that only one kind has, or sha256: and the beginning of its digest.
Kinds: kernel, modules, initrd, rootfs, program.")]
pub struct ArtifactArguments {
    #[command(subcommand)]
    pub action: ArtifactAction,
}

#[derive(Debug, Subcommand)]
pub enum ArtifactAction {
    /// Make one of Debian's packages, without root; the same packages give the same digest.
    Build {
        #[command(subcommand)]
        what: BuildAction,
    },
    /// Take in what others made; what it is its first bytes say.
    #[command(after_help = "\
PATH is an OCI layout (a directory or a tar archive), what `docker save` wrote, a tar archive or
directory of files, an erofs, squashfs or ext4 image, an ELF kernel or a bzImage, a cpio archive;
with --kind program, a program. Archives may be packed with gzip or zstd.

Every document and layer of an image is held to its digest. Nothing is unpacked on this host: names
that lead out of an archive are refused, links lead to places in the image, devices and extended
attributes are left out, and told. An image's Env, Entrypoint, Cmd, WorkingDir and User are kept
with it: safe-run artifact list --json.")]
    Import {
        /// What is taken in.
        path: PathBuf,
        /// Left out: the file's own name, without what follows a dot.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// kernel, modules, initrd, rootfs or program, where the file does not say it.
        #[arg(long, value_name = "KIND")]
        kind: Option<Kind>,
        /// What file system a rootfs becomes that comes as files; squashfs needs Debian's squashfs-tools.
        #[arg(long, value_enum, default_value_t = ImageFormat::Erofs)]
        format: ImageFormat,
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Fetch a program that no package registry has, of a pinned release, into artifacts/bin/ here.
    Fetch {
        #[command(subcommand)]
        what: FetchAction,
    },
    /// What is kept, by kind and name.
    List {
        /// As a JSON array, with how each was made.
        #[arg(long)]
        json: bool,
    },
    /// Hash what is kept. Exit status: 0 all is what it was, 1 something is damaged.
    Verify {
        /// This one, and what belongs to it. Left out: all.
        artifact: Option<String>,
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Take a name away. What it means stays until gc.
    Remove { artifact: String },
    /// Remove what no name means and no run names, and what killed commands left half made.
    Gc {
        /// Show what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    Erofs,
    Squashfs,
    Ext4,
}

#[derive(Debug, Subcommand)]
pub enum BuildAction {
    /// Debian's current kernel, unpacked to an ELF image, and the modules that a guest needs.
    #[command(after_help = "\
Needs Debian's apt, dpkg and xz-utils (programs), and a place that apt's sources name. Nothing is
installed; apt's own state stays as it is.")]
    Kernel {
        /// What kernel and modules are called.
        #[arg(long, value_name = "NAME", default_value = "default")]
        name: String,
        /// A release of Debian's, such as bookworm. Left out: this host's own.
        #[arg(long, value_name = "CODENAME")]
        suite: Option<String>,
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// A root file system of Debian's packages.
    #[command(after_help = "\
A shell and the usual tools are always in it: --packages adds to them, with all that they need.

No script of a package is run. So passwd and group are those that Debian begins with; a few
alternatives (awk, which, cc …) are chosen by a list of Safe-Run's own; the loader has no cache and
finds libraries where it looks without one; what else scripts would have made (certificates in one
file, byte code, locales, keys) is not there. Owners, modes and times are the packages' own.

Needs Debian's apt and dpkg (programs), squashfs-tools for --format squashfs, and a place that
apt's sources name. Nothing is installed.")]
    Rootfs {
        /// Debian's packages, such as python3,git.
        #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
        packages: Vec<String>,
        /// What it is called.
        #[arg(long, value_name = "NAME", default_value = "default")]
        name: String,
        /// Its file system; squashfs is packed.
        #[arg(long, value_enum, default_value_t = ImageFormat::Erofs)]
        format: ImageFormat,
        /// A release of Debian's, such as bookworm. Left out: this host's own.
        #[arg(long, value_name = "CODENAME")]
        suite: Option<String>,
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum FetchAction {
    /// Firecracker and its jailer. scripts/get_firecracker.sh does the same without Safe-Run.
    #[command(after_help = "\
What is not pinned is not fetched, and what has another digest than the pinned one is not kept.
Needs curl, unless --from names a directory. SAFE_RUN_PROXY_URL names a proxy;
SAFE_RUN_USE_LOCAL_PROXY=1 takes http://127.0.0.1:7890 where it does not.")]
    Firecracker {
        /// Such as 1.17.0. Left out: the newest that is pinned.
        version: Option<String>,
        /// A mirror, which holds the archive under its own name. Left out: the project's own releases.
        #[arg(long, value_name = "DIR|URL")]
        from: Option<String>,
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
}

impl ArtifactAction {
    /// Whether faults are to be written as JSON.
    pub fn json(&self) -> bool {
        match self {
            ArtifactAction::Build {
                what: BuildAction::Kernel { json, .. } | BuildAction::Rootfs { json, .. },
            }
            | ArtifactAction::Fetch {
                what: FetchAction::Firecracker { json, .. },
            }
            | ArtifactAction::Import { json, .. }
            | ArtifactAction::List { json }
            | ArtifactAction::Verify { json, .. }
            | ArtifactAction::Gc { json, .. } => *json,
            ArtifactAction::Remove { .. } => false,
        }
    }
}
