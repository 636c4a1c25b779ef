//! `completions`: for a shell to load.

use crate::arguments::Arguments;
use crate::failure::Done;
use crate::terminal;
use clap::CommandFactory;

pub fn completions(shell: clap_complete::Shell) -> Done {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "safe-run", &mut text);
    terminal::out(&String::from_utf8_lossy(&text));
    Ok(0)
}
