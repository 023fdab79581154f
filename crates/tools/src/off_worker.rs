//! Work on files, off the workers of the runtime and inside the sandbox of its run.

use std::io;

use stakpak_agent_core::SandboxUnavailable;
use tokio::{sync::oneshot, task::spawn_blocking};

use crate::{error::ToolError, processes::in_span, sandbox::Confinement};

pub(crate) async fn off_worker<F>(confinement: Option<Confinement>, work: F) -> Result<String, ToolError>
where
    F: FnOnce() -> Result<String, ToolError> + Send + 'static,
{
    let broken =
        |error: &dyn std::fmt::Display| Err(ToolError::new("OUTCOME_UNKNOWN", format!("The tool broke off: {error}")));
    match confinement {
        None => spawn_blocking(work).await.unwrap_or_else(|error| broken(&error)),
        Some(confinement) => confined(confinement, work).await.unwrap_or_else(|error| broken(&error)),
    }
}

/// Works on a thread that enters the confinement first: the kernel checks each path, and no link can be changed between a
/// look and a step. The thread ends with the work, because what has entered cannot leave.
async fn confined<F>(
    mut confinement: Confinement,
    work: F,
) -> Result<Result<String, ToolError>, oneshot::error::RecvError>
where
    F: FnOnce() -> Result<String, ToolError> + Send + 'static,
{
    let (done, result) = oneshot::channel();
    let unavailable = |error: io::Error| ToolError::from(SandboxUnavailable::new(error.to_string()));
    let thread = std::thread::Builder::new().name("confined-files".to_owned()).spawn(in_span(move || {
        let result = confinement.enter_for_files().map_err(unavailable).and_then(|()| work()).map_err(hinting);
        let _ = done.send(result);
    }));
    match thread {
        Ok(_) => result.await,
        Err(error) => Ok(Err(unavailable(error))),
    }
}

/// Says why a file may be out of reach.
fn hinting(mut error: ToolError) -> ToolError {
    if ["BACKUP_ERROR", "READ_ERROR", "WRITE_ERROR"].contains(&error.code) {
        error
            .message
            .push_str(". This run is in a sandbox: only its working directory and what is granted can be reached");
    }
    error
}
