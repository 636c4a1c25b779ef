//! `broker`: the process that opens files of /proc for a confined supervisor, which starts it. Nothing for people.

use crate::failure::Done;
use sr_common::{Code, Fault};

pub fn broker(inside: Option<u64>) -> Done {
    let fault = |e: std::io::Error| {
        Fault::new(
            Code::Run001,
            "broker",
            format!("its standard input is no supervisor: {e}"),
            "this command is started by `safe-run run`, never by hand",
        )
    };
    sr_runner::broker::serve(inside).map_err(fault)?;
    Ok(0)
}
