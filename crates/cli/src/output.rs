//! Printing that survives a closed stdout: whoever stops reading does not stop the work.

use std::io::Write;

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
