//! What a hostile caller says to safe-run-helper.

use crate::{Judgement, require};
use sr_common::RunId;
use sr_common::facts::CgroupController;
use sr_helper::wire::{Ask, Request, VERSION, Wanted, decode};
use sr_kernel::cgroup::{Clause, Limits, PREFIX, RunGroup};
use std::path::Path;

/// A request that is read has one meaning, and its group lies in its parent.
pub fn request(data: &[u8]) -> Judgement {
    let Ok(request) = decode::<Request>(data) else {
        return Ok(());
    };
    let written = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
    require(decode(&written).as_ref() == Ok(&request), || {
        format!("{request:?} is read back as something else")
    })?;
    let (id, limits) = match request.ask {
        Ask::MakeGroup { id, limits } => (id, limits),
        Ask::Join { id } => (id, Wanted::default()),
        Ask::Enter | Ask::LimitDisk { .. } | Ask::FreeDisk | Ask::Kill | Ask::Remove => return Ok(()),
    };
    let at = CgroupController {
        version: 1,
        parent: "/parent/user-1".into(),
    };
    let pids = Some(Clause { at, limit: limits.pids });
    let limits = Limits {
        pids,
        ..Limits::default()
    };
    let planned = RunGroup::plan(&format!("{PREFIX}{id}"), &limits).map_err(|e| e.to_string())?;
    let inside = planned
        .iter()
        .all(|dir| dir.parent() == Some(Path::new("/parent/user-1")) && dir.components().count() == 4);
    require(inside && planned.len() == 1, || format!("{id} leads to {planned:?}"))
}

pub fn seeds() -> Vec<Vec<u8>> {
    let limits = Wanted {
        memory: Some(1 << 30),
        cpu: Some(1000),
        pids: Some(64),
    };
    let id = RunId::new(1_700_000_000_000, [7; 10]);
    let join = Ask::Join { id: id.clone() };
    let disk = Ask::LimitDisk {
        bytes: 1 << 30,
        files: 4096,
    };
    [
        Ask::MakeGroup { id, limits },
        join,
        disk,
        Ask::FreeDisk,
        Ask::Enter,
        Ask::Kill,
        Ask::Remove,
    ]
    .into_iter()
    .filter_map(|ask| serde_json::to_vec(&Request { version: VERSION, ask }).ok())
    .collect()
}
