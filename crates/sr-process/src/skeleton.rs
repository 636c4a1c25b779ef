//! What a view's root holds besides mounts: directories, links, small files, and the places of the mounts.

use crate::view::c_string;
use sr_common::{Code, Fault};
use sr_kernel::step::Step;

/// One thing of it. Its directory comes before it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// In the view.
    pub target: String,
    pub what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What {
    Directory {
        mode: u32,
    },
    Symlink {
        to: String,
    },
    File {
        content: Vec<u8>,
    },
    /// A file with the content of the host's at `source`, whose links are followed.
    Copy {
        source: String,
    },
    /// An empty file, to be covered by a mount.
    Place,
    /// A device node, for everyone to read and write.
    Node {
        major: u32,
        minor: u32,
    },
}

impl What {
    /// The permissions of a file.
    pub fn mode(&self) -> u32 {
        match self {
            What::Directory { mode } => *mode,
            What::Place | What::Node { .. } => 0o666,
            What::Symlink { .. } | What::File { .. } | What::Copy { .. } => 0o444,
        }
    }
}

impl Item {
    /// The step that makes it below `root`; `None` for a device node, which a step cannot make.
    pub fn into_step(self, root: &str) -> Result<Option<Step>, Fault> {
        let path = c_string(&format!("{root}{}", self.target))?;
        let writable = self.what == What::Place;
        let content = match self.what {
            What::Directory { mode } => return Ok(Some(Step::Mkdir { path, mode })),
            What::Symlink { to } => {
                let to = c_string(&to)?;
                return Ok(Some(Step::Symlink { to, path }));
            }
            What::Node { .. } => return Ok(None),
            What::Copy { source } => read(&source)?,
            What::File { content } => content,
            What::Place => Vec::new(),
        };
        Ok(Some(Step::File {
            path,
            content,
            writable,
        }))
    }
}

fn read(source: &str) -> Result<Vec<u8>, Fault> {
    sr_kernel::pseudo::read(source).map_err(|e| {
        Fault::new(
            Code::Run001,
            "launch.prepare.view",
            format!("cannot read {source}: {e}"),
            "every program needs it: make it readable for the user who starts the run",
        )
    })
}
