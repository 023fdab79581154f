//! A change as people read it.

use std::{path::Path, time::Duration};

use similar::TextDiff;

use crate::text::{self, MAX_BYTES, MAX_LINES};

/// Beyond it a coarser diff will do.
const TIME_LIMIT: Duration = Duration::from_millis(500);

/// A unified diff, cut where a result must end.
pub(super) fn unified(path: &Path, old: &str, new: &str) -> String {
    let name = path.display().to_string();
    let diff = TextDiff::configure().timeout(TIME_LIMIT).diff_lines(old, new);
    let diff = diff.unified_diff().context_radius(3).header(&name, &name).to_string();
    let shown = text::head(&diff, MAX_LINES, MAX_BYTES);
    if shown.len() == diff.len() { diff } else { format!("{shown}[The rest of the diff is left out]") }
}
