//! Printing that survives a closed stdout: whoever stops reading does not stop the work.

use std::{
    io::{IsTerminal, Write},
    sync::OnceLock,
};

use tracing::Level;

use crate::args::Global;

/// What the flags of every command say about printing.
#[derive(Debug, Clone, Copy, Default)]
struct Manner {
    quiet: bool,
    /// On stderr; none: as the command does.
    level: Option<Level>,
    plain: bool,
}

static MANNER: OnceLock<Manner> = OnceLock::new();

/// Once, before anything is printed.
pub(crate) fn set(global: &Global) {
    let level = match (global.debug, global.verbose) {
        (true, _) => Some(Level::DEBUG),
        (false, true) => Some(Level::INFO),
        (false, false) => None,
    };
    // https://no-color.org: set and not empty.
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let _ = MANNER.set(Manner { quiet: global.quiet, level, plain: global.no_color || no_color });
}

fn manner() -> Manner {
    MANNER.get().copied().unwrap_or_default()
}

/// Whether notes and progress are left out.
pub(crate) fn is_quiet() -> bool {
    manner().quiet
}

/// Up to which level is told what goes on.
pub(crate) fn level() -> Option<Level> {
    manner().level
}

/// Whether colours are wanted there.
pub(crate) fn is_coloured(stream: &impl IsTerminal) -> bool {
    !manner().plain && stream.is_terminal()
}

/// `println!` that does not panic when nobody reads.
macro_rules! say {
    ($($argument:tt)*) => { $crate::output::line(&format!($($argument)*)) };
}

/// One line.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
    flush();
}

/// A piece of a line.
pub(crate) fn piece(text: &str) {
    let _ = write!(std::io::stdout(), "{text}");
    flush();
}

fn flush() {
    let _ = std::io::stdout().flush();
}
