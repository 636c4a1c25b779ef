//! `-v`: what Safe-Run does, on standard error. Without it nothing is set up.

use tracing_subscriber::filter::LevelFilter;

pub fn start(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // A second subscriber cannot be there: this is the first thing that the program does.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .try_init();
}
