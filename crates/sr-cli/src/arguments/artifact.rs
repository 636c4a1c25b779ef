//! `safe-run artifact …`.

use clap::{Args, Subcommand};

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
}

impl ArtifactAction {
    /// Whether faults are to be written as JSON.
    pub fn json(&self) -> bool {
        match self {
            ArtifactAction::Build {
                what: BuildAction::Kernel { json, .. },
            }
            | ArtifactAction::List { json }
            | ArtifactAction::Verify { json, .. }
            | ArtifactAction::Gc { json, .. } => *json,
            ArtifactAction::Remove { .. } => false,
        }
    }
}
