//! `stakpak autopilot backup`: a copy of the journal, also while `up` runs.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bytesize::ByteSize;
use serde_json::json;
use stakpak_store::JournalFile;

use crate::{args::BackupArgs, exit::Failure, home::Home};

pub(crate) async fn run(home: &Home, json: bool, args: BackupArgs) -> Result<()> {
    let journal = home.autopilot("journal.db");
    let file = std::path::absolute(&args.file)?;
    if !journal.exists() {
        bail!("there is no journal yet: {} is made by the first `stakpak up`", Home::show(&journal));
    }
    refuse(&journal, &file, args.force)?;
    let to = file.clone();
    let copy = move || JournalFile::open_read_only(&journal)?.backup(&to);
    let copied =
        tokio::task::spawn_blocking(copy).await?.with_context(|| format!("no backup in {}", file.display()))?;
    if json {
        say!(
            "{}",
            json!({
                "command": "autopilot.backup", "ok": true, "file": file, "bytes": copied.bytes,
                "sessions": copied.sessions, "rows": copied.rows, "runs": copied.runs,
            })
        );
        return Ok(());
    }
    say!("The journal is in {}: {}, every page and row verified.", Home::show(&file), ByteSize(copied.bytes));
    say!("  {} sessions, {} runs, {} rows", copied.sessions, copied.runs, copied.rows);
    Ok(())
}

fn refuse(journal: &Path, file: &Path, force: bool) -> Result<()> {
    let Ok(there) = file.symlink_metadata() else { return Ok(()) };
    let shown = file.display();
    if there.is_dir() {
        return Err(Failure::Usage(format!("{shown} is a directory; give the name of a file in it")).into());
    }
    if file.canonicalize().ok() == Some(journal.canonicalize()?) {
        return Err(Failure::Usage(format!("{shown} is the journal itself; give another file")).into());
    }
    if !force {
        return Err(Failure::Usage(format!("{shown} exists; give another file, or --force to replace it")).into());
    }
    Ok(())
}
