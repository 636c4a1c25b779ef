//! The record of approvals: it continues this run's chain, line by line, and is signed as the run is.

use super::Status;
use super::findings::Problem;
use super::run::Verifier;
use super::signature::{Judgement, judge};
use crate::approval::{self, Anchor};
use crate::files;
use crate::report::RunReport;
use sr_common::Digest;

impl Verifier<'_> {
    /// How many decisions hold.
    pub(super) fn approvals(&mut self, anchor: Option<Anchor>, report: Option<&RunReport>) -> u64 {
        let name = files::APPROVALS;
        let read = match anchor {
            Some(anchor) => approval::read(self.dir, anchor),
            None => match files::open_regular(self.dir, name, files::MAX_APPROVALS) {
                Err(files::Unreadable::Absent) => Ok(None),
                _ => Err("there is no chain that it could continue".into()),
            },
        };
        let read = match read {
            Ok(None) => return 0,
            Ok(Some(read)) => read,
            Err(why) => {
                self.f.fail("approvals", Problem::new(name, why));
                return 0;
            }
        };
        let signed = report.is_some_and(|report| report.evidence.signed);
        let manifest = report.and_then(|report| report.digests.captured_changes);
        for (approval, line) in read.list.iter().zip(1u64..) {
            match approval
                .envelope()
                .as_ref()
                .map(|e| (e.key_id(), judge(e, self.trusted, self.enclosed.as_ref())))
            {
                Some((id, Judgement::Trusted)) => {
                    let detail = format!("{name}:{line}: signed by {id}");
                    self.f.pass("approvals.signature", detail);
                }
                Some((id, Judgement::Unknown { .. })) => {
                    let found = format!("approver unknown: key {id} is neither given nor in the keyring");
                    let problem = Problem::at(name, line, found);
                    self.f.note("approvals.signature", Status::SignerUnknown, problem);
                }
                Some((id, Judgement::Bad)) => {
                    let found = format!("its signature is not that of key {id} over this content");
                    self.f.fail("approvals.signature", Problem::at(name, line, found));
                }
                None if signed => {
                    let problem = Problem::at(name, line, "is not signed, as the run is: anyone could have written it");
                    self.f.note("approvals.signature", Status::Unsigned, problem);
                }
                None => {}
            }
            let named: Option<Digest> = approval
                .intent()
                .map(|intent| intent.manifest)
                .or_else(|| approval.refused().map(|refused| refused.manifest));
            if named.is_some() && named != manifest {
                let found = "speaks of another manifest of changes than the report";
                self.f.fail("approvals.manifest", Problem::at(name, line, found));
            }
        }
        // After the lines before it: the first that is wrong is the one that is told.
        if let Some((line, why)) = &read.broken {
            self.f.fail("approvals", Problem::at(name, *line, why));
        }
        if let Some(line) = read.partial {
            let problem = Problem::at(name, line, "is cut off: the process was killed while it recorded");
            self.f.note("approvals", Status::Incomplete, problem);
        } else if read.unfinished() {
            let found = "an apply began, and what came of it is not recorded: it was killed, or the rest was cut off";
            let problem = Problem::at(name, read.list.len() as u64, found);
            self.f.note("approvals", Status::Incomplete, problem);
        } else if read.broken.is_none() {
            let found = format!("{} lines continue the run's chain", read.list.len());
            self.f.pass("approvals", found);
        }
        let decisions = read.list.iter().filter(|a| a.outcome().is_none());
        decisions.count() as u64
    }
}
